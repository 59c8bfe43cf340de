"""The decoder process: exact where it decodes, and no danger to the process that uses it."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate, generate_frames

from ich3d.core.issues import IssueCode
from ich3d.core.types import Rejected, Series, Volume
from ich3d.dicom.index import index
from ich3d.dicom.pixels import sitk_process
from ich3d.dicom.volume import load_volume
from ich3d.dicom.write import SeriesToWrite
from tests.helpers.mutations import compressed
from tests.helpers.pixels import WriteStack, store_frame


@pytest.fixture
def jpeg_series(tmp_path: Path, write_stack: WriteStack) -> Series:
    """A series in JPEG Lossless, which pydicom alone does not decode."""
    for path in write_stack():
        store_frame(path, *compressed(path, "JPEG"))
    (series,) = index(tmp_path).series
    return series


def worker_pid(series: Series) -> int:
    """The id of the decoder process, after it has decoded a series."""
    assert isinstance(load_volume(series), Volume)
    return sitk_process._worker().pid


def test_slices_are_decoded_beside_this_process(
    jpeg_series: Series, make_stack: Callable[..., SeriesToWrite]
) -> None:
    volume = load_volume(jpeg_series)
    assert isinstance(volume, Volume)
    assert np.array_equal(volume.hu, make_stack().hu)
    assert worker_pid(jpeg_series) != os.getpid()


def test_one_process_decodes_all(jpeg_series: Series) -> None:
    assert worker_pid(jpeg_series) == worker_pid(jpeg_series)


def test_a_decoder_that_has_ended_is_started_again(jpeg_series: Series) -> None:
    before = worker_pid(jpeg_series)
    os.kill(before, signal.SIGKILL)
    sitk_process._worker().wait()
    assert worker_pid(jpeg_series) != before


def test_a_crash_over_a_slice_rejects_its_volume_and_nothing_else(jpeg_series: Series) -> None:
    pid = worker_pid(jpeg_series)
    os.kill(pid, signal.SIGSTOP)  # until it has been sent the slice

    def crash() -> None:
        time.sleep(0.3)
        os.kill(pid, signal.SIGSEGV)
        os.kill(pid, signal.SIGCONT)

    other = threading.Thread(target=crash)
    other.start()
    rejected = load_volume(jpeg_series)
    other.join()
    assert isinstance(rejected, Rejected)
    assert rejected.code is IssueCode.UNDECODABLE
    sentence = (
        "a000.dcm: PixelData (7FE0,0010) cannot be decoded: the decoder crashed, or took too long"
    )
    assert rejected.detail == sentence
    assert isinstance(load_volume(jpeg_series), Volume)


def test_a_stream_that_the_decoder_fills_in_is_refused_and_spoils_no_other(
    jpeg_series: Series,
) -> None:
    """Five bytes in the middle are lost: the decoder reads on and invents the last rows."""
    worker_pid(jpeg_series)
    path = jpeg_series.headers[2].file.path
    undamaged = path.read_bytes()
    ds = pydicom.dcmread(path)
    frame = next(generate_frames(ds.PixelData, number_of_frames=1))
    ds.PixelData = encapsulate([frame[: len(frame) // 2] + frame[len(frame) // 2 + 5 :]])
    ds.save_as(path)
    rejected = load_volume(jpeg_series)
    assert isinstance(rejected, Rejected)
    assert rejected.detail.startswith("a002.dcm: PixelData (7FE0,0010) cannot be decoded")
    path.write_bytes(undamaged)
    assert isinstance(load_volume(jpeg_series), Volume)


def test_a_program_that_decoded_ends_silently(jpeg_series: Series) -> None:
    script = (
        "import sys, pathlib\n"
        "from ich3d.dicom.index import index\n"
        "from ich3d.dicom.volume import load_volume\n"
        "print(load_volume(index(pathlib.Path(sys.argv[1])).series[0]).hu.shape)\n"
    )
    folder = jpeg_series.headers[0].file.path.parent
    done = subprocess.run(
        [sys.executable, "-W", "always::ResourceWarning", "-c", script, str(folder)],
        capture_output=True, encoding="utf-8", check=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("(4, 16, 16)\n", "")
