"""The program of the decoder process answers each path, and notices filled-in JPEG streams."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate, generate_frames

from ich3d.dicom.pixels import sitk_worker
from tests.helpers.mutations import compressed
from tests.helpers.pixels import WriteStack, store_frame


def answers(*paths: Path) -> list[str]:
    """What the program answers to `paths`, one after the other."""
    done = subprocess.run(
        [sys.executable, "-P", str(sitk_worker.__file__)],
        input="".join(f"{path}\n" for path in paths),
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return done.stdout.splitlines()


@pytest.fixture
def jpeg_files(write_stack: WriteStack) -> list[Path]:
    """Two files in JPEG Lossless."""
    paths = write_stack(n=2)
    for path in paths:
        store_frame(path, *compressed(path, "JPEG"))
    return paths


def test_pixels_are_written_beside_each_file(jpeg_files: list[Path]) -> None:
    assert answers(*jpeg_files) == ["done", "done"]
    for path in jpeg_files:
        pixels = np.load(path.with_suffix(".npy"))
        assert pixels.shape == (16, 16)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux has the limit")
def test_a_frame_that_takes_too_much_memory_fails_and_the_next_is_decoded(
    write_stack: WriteStack,
) -> None:
    """A JPEG 2000 stream that claims 65535 x 65535 pixels, in a file that claims them too."""
    huge, sound = write_stack(n=2)
    for path in (huge, sound):
        store_frame(path, *compressed(path, "JPEG2000"))
    content = huge.read_bytes()
    at = content.index(b"\xff\x4f\xff\x51") + 8
    claim = (65535).to_bytes(4, "big") * 2
    huge.write_bytes(content[:at] + claim + content[at + 8 : at + 16] + claim + content[at + 24 :])
    ds = pydicom.dcmread(huge)
    ds.Rows = ds.Columns = 65535
    ds.save_as(huge)
    assert answers(huge, sound) == ["failed", "done"]


def test_a_file_that_is_gone_fails_and_the_next_is_decoded(jpeg_files: list[Path]) -> None:
    first, second = jpeg_files
    first.unlink()
    assert answers(first, second) == ["failed", "done"]


def test_a_stream_with_filled_in_pixels_fails(jpeg_files: list[Path]) -> None:
    first, second = jpeg_files
    ds = pydicom.dcmread(first)
    frame = next(generate_frames(ds.PixelData, number_of_frames=1))
    middle = len(frame) // 2
    ds.PixelData = encapsulate([frame[:middle] + frame[middle + 5 :]])
    ds.save_as(first)
    assert answers(first, second) == ["failed", "done"]
