"""The program of the worker process of `ich3d.dicom.pixels.sitk_process`.

It reads the path of a DICOM file from each line of standard input, writes the pixels to a .npy file
beside it, and answers `done` or `failed`. It imports nothing of ich3d, so that it starts fast.

Where a JPEG stream is damaged or too short, the decoder fills in the missing pixels and only
prints a warning. Here that counts as a failure.
"""

import os
import re
import sys
import tempfile
from io import FileIO
from pathlib import Path

import numpy as np
import SimpleITK as sitk

DAMAGE_WARNINGS = (b"Corrupt JPEG data", b"Premature end of JPEG")
"""What libjpeg prints about streams in which it filled in pixels (jerror.h)."""

MEMORY_BYTES = 256 << 20
"""What decoding may take beyond what the process has when it starts. The largest slice that is
accepted takes 32 MiB at 16 bits, and a decoder needs a few copies of it."""


def main() -> None:
    """Serve until standard input ends."""
    _limit_memory()
    # Answers go to a copy of standard output. The original, and standard error, are replaced by a
    # file that collects what the decoder prints.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    with tempfile.TemporaryFile(buffering=0) as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        for line in sys.stdin:
            decoded = _decode(Path(line.rstrip("\n")))
            printed = _take_output(output)
            is_damaged = any(warning in printed for warning in DAMAGE_WARNINGS)
            answers.write(b"done\n" if decoded and not is_damaged else b"failed\n")


def _limit_memory() -> None:
    """Let allocations beyond `MEMORY_BYTES` fail: a frame may claim any size (Linux alone)."""
    status = Path("/proc/self/status")
    if not status.exists():
        return
    import resource

    data_kib = re.search(r"^VmData:\s*(\d+) kB", status.read_text(), re.MULTILINE)
    assert data_kib is not None
    limit = 1024 * int(data_kib[1]) + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _decode(path: Path) -> bool:
    """Write the pixels (Y, X) of the file at `path` beside it; False where it cannot be decoded."""
    try:
        pixels = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        np.save(path.with_suffix(".npy"), pixels.reshape(pixels.shape[-2:]))
    # Whatever the decoder raises, there are no pixels.
    except Exception:
        return False
    return True


def _take_output(output: FileIO) -> bytes:
    """What was printed since the last call."""
    output.seek(0)
    printed = output.read()
    output.seek(0)
    output.truncate()
    return printed


if __name__ == "__main__":
    main()
