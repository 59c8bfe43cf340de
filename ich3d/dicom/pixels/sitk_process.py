"""SimpleITK's DICOM decoder in a process of its own.

SimpleITK reads DICOM with GDCM, a C++ library, which a damaged frame may crash or keep busy for
ever. Here that ends a worker process and nothing else. The worker runs `sitk_worker`, is started
when it is first needed, and serves all frames until it fails; then the next frame starts another
one.
"""

import atexit
import subprocess
import sys
import tempfile
import threading
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from pydicom.dataset import Dataset

from ich3d.dicom.pixels.native import DecoderError

TIMEOUT_S: Final = 120
"""Seconds that one frame may take before the worker is ended."""

_lock = threading.Lock()


def decode(single_frame: Dataset) -> np.ndarray:
    """Decode a dataset of one frame to its pixel cells (Y, X).

    The frame is passed in a temporary file, because the decoder reads nothing but files. Raises
    DecoderError where it refuses the frame, crashes, or exceeds `TIMEOUT_S`.
    """
    with tempfile.TemporaryDirectory(prefix="ich3d-") as folder:
        path = Path(folder) / "frame.dcm"
        single_frame.save_as(path, enforce_file_format=True)
        with _lock:
            _request(path)
        cells: np.ndarray = np.load(path.with_suffix(".npy"))
        return cells


def _request(path: Path) -> None:
    """Have the worker write the pixels of `path` to a .npy file beside it."""
    worker = _running_worker()
    assert worker.stdin is not None
    assert worker.stdout is not None

    timer = threading.Timer(TIMEOUT_S, worker.kill)
    timer.start()
    try:
        worker.stdin.write(f"{path}\n".encode())
        worker.stdin.flush()
        answer = worker.stdout.readline()
    except OSError:
        answer = b""
    finally:
        timer.cancel()

    # The pipe of a process that has ended is empty.
    if not answer:
        _end(worker)
        raise DecoderError("the decoder crashed, or took too long")
    if answer != b"done\n":
        raise DecoderError("the decoder refused the frame")


def _running_worker() -> subprocess.Popen[bytes]:
    """The worker; another one where it has ended since the last frame."""
    worker = _worker()
    if worker.poll() is None:
        return worker
    _end(worker)
    return _worker()


@lru_cache(maxsize=1)
def _worker() -> subprocess.Popen[bytes]:
    program = Path(__file__).with_name("sitk_worker.py")
    worker = subprocess.Popen(
        [sys.executable, "-P", str(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    atexit.register(_end, worker)
    return worker


def _end(worker: subprocess.Popen[bytes]) -> None:
    _worker.cache_clear()
    atexit.unregister(_end)
    worker.kill()
    worker.communicate()
