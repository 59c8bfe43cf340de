"""The program that `ich3d.dicom.itk` runs beside the one that reads: pixels of DICOM files through SimpleITK.

It reads a path a line and answers each with `done` or `failed`; the pixels lie beside the file then. It
knows nothing of ich3d, so that it starts fast and from anywhere.
"""

import os
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk


def main() -> None:
    """Answer until there is nothing more to read. Only answers leave by standard output: whatever the
    decoder prints goes nowhere."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for line in sys.stdin:
        path = Path(line.rstrip("\n"))
        try:
            pixels = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
            np.save(path.with_suffix(".npy"), pixels.reshape(pixels.shape[-2:]))
        except Exception:  # whatever the decoder raises, there are no pixels
            answers.write(b"failed\n")
        else:
            answers.write(b"done\n")


if __name__ == "__main__":
    main()
