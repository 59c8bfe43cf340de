"""PixelData that is too short is noticed without decoding it."""

from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from ich3d.core.issues import IssueCode
from ich3d.dicom.headers.deflated import inflated
from ich3d.dicom.headers.elements import InvalidHeader
from ich3d.dicom.headers.pixel_length import DELIMITER, require_whole_pixel_data
from ich3d.dicom.headers.pydicom_parser import parse_with_pydicom
from ich3d.dicom.write import write_series
from tests.helpers.mutations import encode, encoded
from tests.helpers.series import stack

FRAME_BYTES = 2 * 16 * 16


def check(content: bytes) -> InvalidHeader | None:
    """What is wrong with the PixelData of a CT slice of `FRAME_BYTES`."""
    with inflated(BytesIO(content), len(content)) as (stream, size, _):
        elements = parse_with_pydicom(stream)
        try:
            require_whole_pixel_data(elements, stream, size, FRAME_BYTES)
        except InvalidHeader as error:
            return error
        return None


def ct_file(folder: Path) -> Path:
    (path,) = write_series(stack(n=1), folder)
    return path


def test_a_file_cut_within_its_pixels_is_truncated(tmp_path: Path) -> None:
    content = ct_file(tmp_path).read_bytes()
    assert check(content) is None
    for n_missing in (1, 256, 511):
        error = check(content[:-n_missing])
        assert error is not None
        assert error.code is IssueCode.TRUNCATED_PIXELS
        n_present = FRAME_BYTES - n_missing
        assert str(error) == f"PixelData (7FE0,0010) holds {n_present} of {FRAME_BYTES} bytes"


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
    ],
)
def test_pixel_data_that_declares_too_little_is_truncated(tmp_path: Path, syntax: UID) -> None:
    dataset = pydicom.dcmread(ct_file(tmp_path))
    assert check(encoded(dataset, syntax)) is None

    dataset = pydicom.dcmread(ct_file(tmp_path))
    dataset.PixelData = dataset.PixelData[:-2]
    error = check(encoded(dataset, syntax))
    assert error is not None
    assert error.code is IssueCode.TRUNCATED_PIXELS
    assert "holds 510 of 512 bytes" in str(error)


def test_compressed_items_must_lie_within_the_file(tmp_path: Path) -> None:
    content = encode(ct_file(tmp_path), RLELossless).content
    assert check(content) is None
    error = check(content[:-100])
    assert error is not None
    assert error.code is IssueCode.TRUNCATED_PIXELS
    assert str(error) == "PixelData (7FE0,0010) ends within one of its items"


@pytest.mark.parametrize("syntax", [b"1.2.840.10008.1.2.1\0", b"\0" * 20])
def test_pixels_without_a_length_must_be_compressed(tmp_path: Path, syntax: bytes) -> None:
    content = encode(ct_file(tmp_path), RLELossless).content
    assert RLELossless.encode() + b"\0" in content
    error = check(content.replace(RLELossless.encode() + b"\0", syntax, 1))
    assert error is not None
    assert error.code is IssueCode.UNREADABLE
    assert str(error) == "PixelData (7FE0,0010) has no length, and no compression is named"


@pytest.mark.parametrize("n_left", [0, 2, 4])
def test_a_file_may_end_before_or_within_its_sequence_delimiter(
    tmp_path: Path, n_left: int
) -> None:
    content = encode(ct_file(tmp_path), RLELossless).content
    assert content.endswith(DELIMITER)
    assert check(content[: len(content) - 8 + n_left]) is None


def test_without_a_delimiter_each_frame_must_have_its_item(tmp_path: Path) -> None:
    """Of a frame in two items, the second may have been cut off."""
    content = encode(ct_file(tmp_path), RLELossless).content
    half = DELIMITER[:2] + b"\x00\xe0" + bytes(4)
    assert check(content[:-8] + half + DELIMITER) is None
    error = check(content[:-8] + half)
    assert error is not None
    assert error.code is IssueCode.TRUNCATED_PIXELS
