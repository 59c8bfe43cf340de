"""The program that `ich3d.dicom.pixels.sitk_process` runs beside the one that reads: pixels of DICOM files through SimpleITK.

It reads a path a line and answers each with `done` or `failed`; the pixels lie beside the file then. It
knows nothing of ich3d, so that it starts fast and from anywhere.

Where a JPEG stream ends too soon or goes astray, the decoder fills in what is missing and says so on standard
error alone: that is a failure here.
"""

import os
import sys
import tempfile
from io import FileIO
from pathlib import Path

import numpy as np
import SimpleITK as sitk

DAMAGE = (b"Corrupt JPEG data", b"Premature end of JPEG")
"""What libjpeg says of streams that it filled in (its jerror.h)."""


def main() -> None:
    """Answer until there is nothing more to read. Only answers leave by standard output: whatever the
    decoder prints is listened to, and goes nowhere."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    with tempfile.TemporaryFile(buffering=0) as direction_mask:
        os.dup2(direction_mask.fileno(), 1)
        os.dup2(direction_mask.fileno(), 2)
        for line in sys.stdin:
            path = Path(line.rstrip("\n"))
            try:
                pixels = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
                np.save(path.with_suffix(".npy"), pixels.reshape(pixels.shape[-2:]))
                decoded = True
            except Exception:  # whatever the decoder raises, there are no pixels
                decoded = False
            told = _told(direction_mask)
            filled = any(words in told for words in DAMAGE)
            answers.write(b"done\n" if decoded and not filled else b"failed\n")


def _told(direction_mask: FileIO) -> bytes:
    """What was printed since the last frame."""
    direction_mask.seek(0)
    told = direction_mask.read()
    direction_mask.seek(0)
    direction_mask.truncate()
    return told


if __name__ == "__main__":
    main()
