"""Values of elements are checked when they are asked for."""

import pytest

from ich3d.core.issues import IssueCode
from ich3d.dicom.headers.elements import Elements, InvalidHeader, tag_text


def elements(byte_order: str = "<", transfer_syntax: str = "", **values: bytes) -> Elements:
    """A header that holds `values` and no PixelData."""
    return Elements(
        values=values,
        patient_id="",
        transfer_syntax=transfer_syntax,
        byte_order=byte_order,
        pixel_data_offset=None,
        pixel_data_length=None,
    )


def position(raw: bytes) -> tuple[float, ...]:
    header = elements(ImagePositionPatient=raw)
    return header.numbers("ImagePositionPatient", 3, IssueCode.NO_POSITION)


def test_a_tag_is_shown_with_its_keyword() -> None:
    assert tag_text("Rows") == "Rows (0028,0010)"
    assert tag_text("PixelData") == "PixelData (7FE0,0010)"


def test_text_has_no_padding_and_is_empty_where_missing() -> None:
    header = elements(Modality=b" CT \0", ImageType=b"\0CT")
    assert header.text("Modality") == "CT"
    assert header.text("ImageType") == "\0CT"
    assert header.text("PatientID") == ""


def test_numbers_are_those_of_a_decimal_string() -> None:
    assert position(b"-1\\ 2.5 \\3e1 ") == (-1.0, 2.5, 30.0)


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "is empty"),
        (b"1\\2 ", "holds 2 values and not 3"),
        (b"1 ", "holds 1 value and not 3"),
        (b"1\\2\\up", "cannot be read as numbers"),
        (b"1\\2\\", "cannot be read as numbers"),
        (b"1\\2\\1_0 ", "cannot be read as numbers"),
        (b"1\\2\\\x003", "cannot be read as numbers"),
        (b"1\\2\\nan ", "holds a value that is not finite"),
        (b"1\\2\\inf ", "holds a value that is not finite"),
        (b"1\\2\\1e300 ", "holds a value beyond 1,000,000"),
        (b"1\\2\\-1000001 ", "holds a value beyond 1,000,000"),
    ],
)
def test_what_is_not_the_expected_count_of_numbers_is_invalid(raw: bytes, problem: str) -> None:
    with pytest.raises(InvalidHeader) as error:
        position(raw)
    assert error.value.code is IssueCode.NO_POSITION
    assert str(error.value) == f"ImagePositionPatient (0020,0032) {problem}"


def test_missing_numbers_are_invalid() -> None:
    with pytest.raises(InvalidHeader, match=r"PixelSpacing \(0028,0030\) is missing"):
        elements().numbers("PixelSpacing", 2, IssueCode.NO_PIXEL_SPACING)


def test_an_unsigned_short_follows_the_byte_order() -> None:
    assert elements("<", Rows=b"\x00\x02").unsigned_short("Rows") == 512
    assert elements(">", Rows=b"\x00\x02").unsigned_short("Rows") == 2


@pytest.mark.parametrize("header", [elements(), elements(Rows=b""), elements(Rows=b"\x01")])
def test_an_unsigned_short_of_less_than_two_bytes_is_missing(header: Elements) -> None:
    with pytest.raises(InvalidHeader, match=r"Rows \(0028,0010\) is missing") as error:
        header.unsigned_short("Rows")
    assert error.value.code is IssueCode.UNREADABLE


def test_the_sop_class_may_stand_in_the_file_meta_information_alone() -> None:
    assert elements(MediaStorageSOPClassUID=b"1.2\0").sop_class == "1.2"
    assert elements(MediaStorageSOPClassUID=b"1.2", SOPClassUID=b"1.3").sop_class == "1.3"
    assert elements().sop_class == ""
