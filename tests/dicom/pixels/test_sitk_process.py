"""The second decoder: exact where it decodes, and never a danger to who asks it."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEGLosslessSV1

from ich3d.core.issues import IssueCode
from ich3d.core.types import Rejected, Volume
from ich3d.dicom.index import index
from ich3d.dicom.pixels import sitk_process
from ich3d.dicom.volume import load_volume


@pytest.fixture
def jpeg_series(tmp_path, write_stack):
    """A series in JPEG Lossless, which pydicom alone does not decode."""
    for path in write_stack():
        writer = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.UseCompressionOn()
        writer.SetCompressor("JPEG")
        writer.SetFileName(str(tmp_path / "compressed.dcm"))
        writer.Execute(sitk.ReadImage(str(path)))
        frame = next(
            generate_frames(
                pydicom.dcmread(tmp_path / "compressed.dcm").PixelData, number_of_frames=1
            )
        )
        (tmp_path / "compressed.dcm").unlink()
        ds = pydicom.dcmread(path)
        ds.file_meta.TransferSyntaxUID = JPEGLosslessSV1
        ds.PixelData = encapsulate([frame])
        ds["PixelData"].VR = "OB"
        ds.save_as(path)
    (series,) = index(tmp_path).series
    return series


def worker_pid(series) -> int:
    """The process that decodes, which works after it has decoded."""
    assert isinstance(load_volume(series), Volume)
    return sitk_process._worker().pid


def test_slices_are_decoded_beside_this_process(jpeg_series, make_stack):
    volume = load_volume(jpeg_series)
    assert isinstance(volume, Volume)
    assert np.array_equal(volume.hu, make_stack().hu)
    assert worker_pid(jpeg_series) != os.getpid()


def test_one_process_decodes_all(jpeg_series):
    assert worker_pid(jpeg_series) == worker_pid(jpeg_series)


def test_a_decoder_that_has_ended_is_started_again(jpeg_series):
    before = worker_pid(jpeg_series)
    os.kill(before, signal.SIGKILL)
    sitk_process._worker().wait()
    assert worker_pid(jpeg_series) != before


def test_a_crash_over_a_slice_rejects_its_volume_and_nothing_else(jpeg_series):
    pid = worker_pid(jpeg_series)
    os.kill(pid, signal.SIGSTOP)  # until the slice is with it

    def crash():
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


def test_a_stream_that_the_decoder_fills_in_is_refused_and_spoils_no_other(jpeg_series):
    """Five bytes lost in the midst: the decoder reads on, and makes up the last rows."""
    worker_pid(jpeg_series)
    path = jpeg_series.headers[2].path
    sound = path.read_bytes()
    ds = pydicom.dcmread(path)
    frame = next(generate_frames(ds.PixelData, number_of_frames=1))
    ds.PixelData = encapsulate([frame[: len(frame) // 2] + frame[len(frame) // 2 + 5 :]])
    ds.save_as(path)
    rejected = load_volume(jpeg_series)
    assert isinstance(rejected, Rejected)
    assert rejected.detail.startswith("a002.dcm: PixelData (7FE0,0010) cannot be decoded")
    path.write_bytes(sound)
    assert isinstance(load_volume(jpeg_series), Volume)


def test_a_program_that_decoded_ends_without_a_word(jpeg_series):
    script = (
        "import sys, pathlib\n"
        "from ich3d.dicom.index import index\n"
        "from ich3d.dicom.volume import load_volume\n"
        "print(load_volume(index(pathlib.Path(sys.argv[1])).series[0]).hu.shape)\n"
    )
    folder = jpeg_series.headers[0].path.parent
    done = subprocess.run(
        [sys.executable, "-W", "always::ResourceWarning", "-c", script, str(folder)],
        capture_output=True, encoding="utf-8", check=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("(4, 16, 16)\n", "")
