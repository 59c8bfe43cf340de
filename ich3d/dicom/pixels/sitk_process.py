"""SimpleITK's decoder in a process of its own: its crash ends that process and nothing else.

GDCM, which SimpleITK reads DICOM with, is C++ on foreign bytes: a damaged frame may take its process along,
or never come to an end.
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

PATIENCE_S: Final = 120
"""How long one frame may take; a worker that needs longer is ended."""

_lock = threading.Lock()


def decode(image: Dataset) -> np.ndarray:
    """The pixel containers (Y, X) of a dataset of one frame, which passes through a temporary file: the
    decoder takes only names. DecoderError where it refuses the frame, crashes over it or finds no end."""
    with tempfile.TemporaryDirectory(prefix="ich3d-") as folder:
        path = Path(folder) / "frame.dcm"
        image.save_as(path, enforce_file_format=True)
        with _lock:
            _ask(path)
        pixels: np.ndarray = np.load(path.with_suffix(".npy"))
        return pixels


def _ask(path: Path) -> None:
    """Have the pixels of the file at `path` written beside it."""
    worker = _running()
    assert worker.stdin is not None
    assert worker.stdout is not None
    limit = threading.Timer(PATIENCE_S, worker.kill)
    limit.start()
    try:
        worker.stdin.write(f"{path}\n".encode())
        worker.stdin.flush()
        answer = worker.stdout.readline()
    except OSError:
        answer = b""
    finally:
        limit.cancel()
    if not answer:
        _end(worker)
        raise DecoderError("the decoder crashed, or took too long")
    if answer != b"done\n":
        raise DecoderError("the decoder refused the frame")


def _running() -> subprocess.Popen[bytes]:
    """The worker, started at need and again after its end."""
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
