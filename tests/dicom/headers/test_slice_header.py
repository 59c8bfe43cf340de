"""A slice's header is checked by the rules of the standard, and nothing in it is guessed."""

from dataclasses import replace
from pathlib import Path

import pytest

from ich3d.core.issues import IssueCode
from ich3d.core.types import FileRef, SliceHeader
from ich3d.dicom.headers.elements import Elements, InvalidHeader, tag_text
from ich3d.dicom.headers.slice_header import read_pixel_format, slice_header

FILE = FileRef(Path("x.dcm"), "x.dcm")

VALUES = {
    "SOPInstanceUID": b"1.2.3\0",
    "SeriesInstanceUID": b"1.2",
    "StudyInstanceUID": b"1.1",
    "ImageType": b"ORIGINAL\\PRIMARY\\AXIAL ",
    "ConvolutionKernel": b"H30s",
    "AcquisitionNumber": b"2 ",
    "ImagePositionPatient": b"-100\\-120\\5 ",
    "ImageOrientationPatient": b"1\\0\\0\\0\\0.98\\-0.19 ",
    "SamplesPerPixel": b"\1\0",
    "PhotometricInterpretation": b"MONOCHROME2 ",
    "Rows": b"\x20\0",
    "Columns": b"\x10\0",
    "PixelSpacing": b"0.5\\0.4 ",
    "BitsAllocated": b"\x10\0",
    "BitsStored": b"\x0c\0",
    "PixelRepresentation": b"\1\0",
    "RescaleIntercept": b"-1024 ",
    "RescaleSlope": b"2 ",
}

CODES = {
    "ImagePositionPatient": IssueCode.NO_POSITION,
    "ImageOrientationPatient": IssueCode.NO_ORIENTATION,
    "PixelSpacing": IssueCode.NO_PIXEL_SPACING,
    "RescaleSlope": IssueCode.NO_RESCALE,
    "RescaleIntercept": IssueCode.NO_RESCALE,
}


def header_of(elements: Elements) -> SliceHeader:
    """The header of a single-frame file with these elements."""
    return slice_header(elements, FILE, read_pixel_format(elements))


def elements(**changes: bytes | None) -> Elements:
    """A valid header with some values replaced, or removed by None."""
    values = {key: raw for key, raw in {**VALUES, **changes}.items() if raw is not None}
    return Elements(
        values=values,
        patient_id="patient",
        transfer_syntax="1.2.840.10008.1.2.1",
        byte_order="<",
        pixel_data_offset=1000,
        pixel_data_length=1024,
    )


def invalid(header: Elements) -> tuple[IssueCode, str]:
    """The code and the text with which a header is refused."""
    with pytest.raises(InvalidHeader) as error:
        header_of(header)
    return error.value.code, str(error.value)


def test_all_fields_are_those_of_the_elements() -> None:
    header = header_of(elements())
    assert (header.file, header.frame) == (FILE, None)
    assert (header.sop_uid, header.series_uid, header.study_uid) == ("1.2.3", "1.2", "1.1")
    assert header.patient_id == "patient"
    assert header.position_mm == (-100.0, -120.0, 5.0)
    assert header.pixel_spacing_mm == (0.5, 0.4)
    assert (header.rows, header.columns) == (32, 16)
    assert (header.slope, header.intercept) == (2.0, -1024.0)
    assert (header.bits_stored, header.signed) == (12, True)
    assert header.image_type == "ORIGINAL\\PRIMARY\\AXIAL"
    assert (header.kernel, header.acquisition_number) == ("H30s", "2")


def test_directions_are_scaled_to_unit_length() -> None:
    header = header_of(elements())
    assert header.row_dir == (1.0, 0.0, 0.0)
    assert sum(cosine**2 for cosine in header.col_dir) == pytest.approx(1)
    assert header.col_dir == pytest.approx((0, 0.9817, -0.1903), abs=1e-4)


def test_a_frame_has_the_acquisition_number_of_its_own() -> None:
    frame = elements(FrameAcquisitionNumber=b"\5\0")
    assert header_of(frame).acquisition_number == "5"


@pytest.mark.parametrize("keyword", CODES)
@pytest.mark.parametrize(("raw", "problem"), [(None, "is missing"), (b"", "is empty")])
def test_geometry_and_rescale_have_no_default(
    keyword: str, raw: bytes | None, problem: str
) -> None:
    expected = (CODES[keyword], f"{tag_text(keyword)} {problem}")
    assert invalid(elements(**{keyword: raw})) == expected


@pytest.mark.parametrize(
    "raw", [b"0\\0\\0\\0\\0\\0 ", b"1\\0\\0\\1\\0\\0 ", b"1\\0\\0\\0\\0.98\\0", b"2\\0\\0\\0\\1\\0"]
)
def test_directions_that_are_not_perpendicular_unit_vectors_are_invalid(raw: bytes) -> None:
    code, problem = invalid(elements(ImageOrientationPatient=raw))
    assert code is IssueCode.NO_ORIENTATION
    assert problem.endswith("does not hold two perpendicular unit vectors")


@pytest.mark.parametrize(
    ("keyword", "raw", "problem"),
    [
        ("PixelSpacing", b"0\\0 ", "PixelSpacing (0028,0030) is not positive"),
        ("PixelSpacing", b"0.5\\-1", "PixelSpacing (0028,0030) is not positive"),
        ("PixelSpacing", b"1e-310\\1e-310 ", "PixelSpacing (0028,0030) is below 0.001 mm"),
        ("RescaleSlope", b"0 ", "RescaleSlope (0028,1053) is 0"),
    ],
)
def test_spacing_and_slope_must_be_possible(keyword: str, raw: bytes, problem: str) -> None:
    assert invalid(elements(**{keyword: raw})) == (CODES[keyword], problem)


@pytest.mark.parametrize(
    ("keyword", "raw", "problem"),
    [
        ("PhotometricInterpretation", None, "is missing"),
        ("SamplesPerPixel", None, "is missing"),
        ("SamplesPerPixel", b"\3\0", "is not 1"),
        ("Rows", None, "is missing"),
        ("Rows", b"\0\0", "or Columns (0028,0011) is 0"),
        ("BitsAllocated", b"\x0c\0", "is 12 and not 8, 16 or 32"),
        ("BitsStored", b"\x14\0", "is 20, of 16 allocated bits"),
        ("BitsStored", b"\0\0", "is 0, of 16 allocated bits"),
        ("PixelRepresentation", b"\2\0", "is neither 0 nor 1"),
    ],
)
def test_pixels_must_be_monochrome_and_their_bits_allowed(
    keyword: str, raw: bytes | None, problem: str
) -> None:
    expected = (IssueCode.UNREADABLE, f"{tag_text(keyword)} {problem}")
    assert invalid(elements(**{keyword: raw})) == expected


def test_the_length_of_a_frame_follows_from_its_size_and_bits() -> None:
    assert read_pixel_format(elements()).frame_bytes == 32 * 16 * 2
    wide = elements(BitsAllocated=b"\x20\0")
    assert read_pixel_format(wide).frame_bytes == 32 * 16 * 4


def test_big_endian_values_are_read_as_such() -> None:
    swapped = elements(
        Rows=b"\0\x20",
        Columns=b"\0\x10",
        SamplesPerPixel=b"\0\1",
        BitsAllocated=b"\0\x10",
        BitsStored=b"\0\x0c",
        PixelRepresentation=b"\0\0",
    )
    header = header_of(replace(swapped, byte_order=">"))
    assert (header.rows, header.columns, header.bits_stored, header.signed) == (32, 16, 12, False)
