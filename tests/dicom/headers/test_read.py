"""A file is read as slices, or it is said what it is instead or what is wrong with it."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EncapsulatedPDFStorage,
    SecondaryCaptureImageStorage,
)

from ich3d.core.issues import IssueCode
from ich3d.core.types import FileRef, SliceHeader
from ich3d.dicom.files import list_members
from ich3d.dicom.headers.read import FileContent, InvalidSlice, NonCTFile, ZipArchive, read_file
from ich3d.dicom.uids import uid
from tests.helpers.enhanced import for_frames, functional_group, write_enhanced
from tests.helpers.mutations import encode
from tests.helpers.series import edit

WriteStack = Callable[..., list[Path]]


def read(path: Path) -> FileContent:
    return read_file(FileRef(path, path.name))


def read_invalid(path: Path) -> InvalidSlice:
    """Read a file that is invalid as a whole."""
    content = read(path)
    assert isinstance(content, InvalidSlice), content
    return content


def read_slices(path: Path) -> tuple[SliceHeader | InvalidSlice, ...]:
    content = read(path)
    assert isinstance(content, tuple), content
    return content


def forget_meta_class(path: Path) -> None:
    """Remove the SOP class from the file meta information too."""
    dataset = pydicom.dcmread(path)
    del dataset.file_meta.MediaStorageSOPClassUID
    dataset.save_as(path, enforce_file_format=False)


def test_a_ct_file_is_one_slice(write_stack: WriteStack) -> None:
    (path,) = write_stack(n=1)
    (header,) = read_slices(path)
    assert isinstance(header, SliceHeader)
    assert (header.sop_uid, header.frame) == (uid("sop", "a", 0), None)
    assert header.position_mm == (-100.0, -120.0, 0.0)


def test_a_file_without_preamble_and_file_meta_information_is_read(write_stack: WriteStack) -> None:
    (path,) = write_stack(n=1)
    content = path.read_bytes()
    path.write_bytes(content[content.index(b"\x08\x00\x08\x00CS") :])
    (header,) = read_slices(path)
    assert isinstance(header, SliceHeader)
    assert header.transfer_syntax == ""


@pytest.mark.parametrize(
    ("changes", "code", "problem"),
    [
        ({"Modality": "MR"}, IssueCode.NOT_CT, "Modality (0008,0060) is MR"),
        (
            {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
            IssueCode.LOCALIZER,
            "ImageType (0008,0008) is that of a localizer",
        ),
        (
            {"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3},
            IssueCode.NO_IMAGE,
            "PhotometricInterpretation (0028,0004) is RGB",
        ),
        (
            {
                "SOPClassUID": SecondaryCaptureImageStorage,
                "ImagePositionPatient": None,
                "ImageOrientationPatient": None,
            },
            IssueCode.NO_IMAGE,
            "SOPClassUID (0008,0016) is not that of a CT image, "
            "and the file has no position in the patient",
        ),
        (
            {"SOPClassUID": EncapsulatedPDFStorage, "PixelData": None},
            IssueCode.NO_IMAGE,
            "SOPClassUID (0008,0016) is not that of a CT image, "
            "and the file has no position in the patient",
        ),
        (
            {"SOPClassUID": SecondaryCaptureImageStorage, "Modality": None},
            IssueCode.NO_IMAGE,
            "SOPClassUID (0008,0016) is not that of a CT image",
        ),
    ],
)
def test_valid_files_that_are_no_ct_slices_say_what_they_are(
    write_stack: WriteStack, changes: dict[str, Any], code: IssueCode, problem: str
) -> None:
    (path,) = write_stack(n=1)
    edit(path, **changes)
    content = read(path)
    assert isinstance(content, NonCTFile)
    assert (content.code, content.problem) == (code, problem)


def test_a_ct_slice_stored_as_secondary_capture_is_read(write_stack: WriteStack) -> None:
    (path,) = write_stack(n=1)
    edit(path, SOPClassUID=SecondaryCaptureImageStorage)
    (header,) = read_slices(path)
    assert isinstance(header, SliceHeader)


INVALID = [
    (
        {"ImagePositionPatient": None},
        IssueCode.NO_POSITION,
        "ImagePositionPatient (0020,0032) is missing",
    ),
    (
        {"ImageOrientationPatient": b""},
        IssueCode.NO_ORIENTATION,
        "ImageOrientationPatient (0020,0037) is empty",
    ),
    ({"PixelSpacing": None}, IssueCode.NO_PIXEL_SPACING, "PixelSpacing (0028,0030) is missing"),
    ({"RescaleSlope": b"0 "}, IssueCode.NO_RESCALE, "RescaleSlope (0028,1053) is 0"),
    ({"RescaleIntercept": b""}, IssueCode.NO_RESCALE, "RescaleIntercept (0028,1052) is empty"),
    ({"SOPInstanceUID": None}, IssueCode.NO_UID, "SOPInstanceUID (0008,0018) is missing"),
    ({"Rows": None}, IssueCode.UNREADABLE, "Rows (0028,0010) is missing"),
    ({"Columns": 0}, IssueCode.UNREADABLE, "Rows (0028,0010) or Columns (0028,0011) is 0"),
    (
        {"NumberOfFrames": 3},
        IssueCode.UNREADABLE,
        "NumberOfFrames (0028,0008) is 3, "
        "but PerFrameFunctionalGroupsSequence (5200,9230) has 0 items",
    ),
    (
        {"Modality": None, "SOPClassUID": None},
        IssueCode.UNREADABLE,
        "Modality (0008,0060) is missing",
    ),
    ({"PixelData": None}, IssueCode.TRUNCATED_PIXELS, "PixelData (7FE0,0010) is missing"),
    (
        {"PixelData": bytes(300)},
        IssueCode.TRUNCATED_PIXELS,
        "PixelData (7FE0,0010) holds 300 of 512 bytes",
    ),
]


@pytest.mark.parametrize(("changes", "code", "problem"), INVALID)
def test_an_invalid_slice_says_what_is_wrong_and_to_which_series_it_belongs(
    write_stack: WriteStack, changes: dict[str, Any], code: IssueCode, problem: str
) -> None:
    (path,) = write_stack(n=1)
    edit(path, **changes)
    if "SOPClassUID" in changes:
        forget_meta_class(path)
    invalid = read_invalid(path)
    assert (invalid.code, invalid.problem) == (code, problem)
    assert invalid.series_uid == uid("series", "a")


def test_uid_and_position_of_an_invalid_slice_are_kept(write_stack: WriteStack) -> None:
    (path,) = write_stack(n=1)
    edit(path, PixelSpacing=None)
    invalid = read_invalid(path)
    assert (invalid.sop_uid, invalid.frame) == (uid("sop", "a", 0), None)
    assert invalid.position_mm == (-100.0, -120.0, 0.0)


def test_the_series_is_empty_where_a_whole_file_names_none(write_stack: WriteStack) -> None:
    (path,) = write_stack(n=1)
    edit(path, PixelSpacing=None, SeriesInstanceUID=None)
    assert read_invalid(path).series_uid == ""


def test_the_series_is_unknown_where_the_file_ends_before_its_uid(write_stack: WriteStack) -> None:
    (path,) = write_stack(n=1)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"CT", 400)])
    assert read_invalid(path).series_uid is None


@pytest.mark.parametrize("length", [0, 1, 131])
def test_a_file_that_ends_within_its_preamble_is_invalid(
    write_stack: WriteStack, length: int
) -> None:
    (path,) = write_stack(n=1)
    path.write_bytes(path.read_bytes()[:length])
    invalid = read_invalid(path)
    assert invalid.code is (IssueCode.UNREADABLE if length else IssueCode.EMPTY_FILE)
    assert invalid.problem == "the file " + ("ends within its preamble" if length else "is empty")
    assert invalid.series_uid is None


def test_a_file_that_pydicom_cannot_parse_is_invalid(write_stack: WriteStack) -> None:
    (path,) = write_stack(n=1)
    deflated = encode(path, DeflatedExplicitVRLittleEndian).content
    path.write_bytes(deflated[:-100] + b"\xff" * 100)
    invalid = read_invalid(path)
    assert invalid.code is IssueCode.UNREADABLE
    assert invalid.problem == "its deflated part is damaged"


def test_other_files_are_not_dicom(tmp_path: Path) -> None:
    path = tmp_path / "report.dcm"
    path.write_text("a report " * 100)
    content = read(path)
    assert content == NonCTFile(FileRef(path, path.name), IssueCode.NOT_DICOM, "not a DICOM file")


def test_a_missing_file_is_unreadable(tmp_path: Path) -> None:
    invalid = read_invalid(tmp_path / "nowhere")
    assert (invalid.code, invalid.problem) == (IssueCode.UNREADABLE, "No such file or directory")


def test_a_zip_is_named_unless_it_lies_in_a_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "inner", "w") as archive:
        archive.writestr("x", b"x")
    with zipfile.ZipFile(tmp_path / "outer", "w") as archive:
        archive.write(tmp_path / "inner", "inner")
    outer = FileRef(tmp_path / "outer", "outer")
    assert read_file(outer) == ZipArchive(outer)

    (member,) = list_members(outer).members
    invalid = read_file(member)
    assert isinstance(invalid, InvalidSlice)
    assert invalid.code is IssueCode.UNREADABLE
    assert invalid.problem.startswith("a zip within a zip, not opened: unpack the outer zip")


def test_frames_are_numbered_slices(tmp_path: Path) -> None:
    slices = read_slices(write_enhanced(tmp_path))
    headers = [header for header in slices if isinstance(header, SliceHeader)]
    assert [header.frame for header in headers] == [1, 2, 3, 4]
    assert [header.position_mm[2] for header in headers] == [10.0, 0.0, 15.0, 5.0]
    assert headers[1].name == "a.dcm frame 2"


def test_an_enhanced_file_of_one_frame_has_no_frame_number(tmp_path: Path) -> None:
    (header,) = read_slices(write_enhanced(tmp_path, n=1))
    assert isinstance(header, SliceHeader)
    assert (header.frame, header.name) == (None, "a.dcm")


INVALID_GROUPS = [
    (
        {"PlanePositionSequence": Sequence([])},
        IssueCode.NO_POSITION,
        "ImagePositionPatient (0020,0032) is missing",
    ),
    (
        functional_group("PlaneOrientationSequence", ImageOrientationPatient=None),
        IssueCode.NO_ORIENTATION,
        "ImageOrientationPatient (0020,0037) is empty",
    ),
    (
        functional_group("PixelMeasuresSequence", PixelSpacing=None),
        IssueCode.NO_PIXEL_SPACING,
        "PixelSpacing (0028,0030) is empty",
    ),
    (
        functional_group("PixelValueTransformationSequence", RescaleSlope=None),
        IssueCode.NO_RESCALE,
        "RescaleSlope (0028,1053) is empty",
    ),
]


@pytest.mark.parametrize(("groups", "code", "problem"), INVALID_GROUPS)
def test_an_invalid_frame_leaves_the_others_valid(
    tmp_path: Path, groups: dict[str, Sequence], code: IssueCode, problem: str
) -> None:
    first, second, invalid, fourth = read_slices(
        write_enhanced(tmp_path, frame_groups=for_frames((3,), groups))
    )
    assert all(isinstance(header, SliceHeader) for header in (first, second, fourth))
    assert isinstance(invalid, InvalidSlice)
    assert (invalid.frame, invalid.code) == (3, code)
    assert invalid.problem == f"frame 3: {problem}"
    assert invalid.series_uid == uid("series", "a")


def test_pixels_that_lack_a_frame_are_truncated(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path)
    edit(path, PixelData=bytes(3 * 512))
    invalid = read_invalid(path)
    assert invalid.code is IssueCode.TRUNCATED_PIXELS
    assert invalid.problem == "PixelData (7FE0,0010) holds 1536 of 2048 bytes"


@pytest.mark.parametrize(
    ("number", "problem"),
    [
        (b"3", "is 3, but PerFrameFunctionalGroupsSequence (5200,9230) has 4 items"),
        (b"5", "is 5, but PerFrameFunctionalGroupsSequence (5200,9230) has 4 items"),
        (b"0", "is not a positive number"),
        (b"x", "is not a positive number"),
    ],
)
def test_the_number_of_frames_must_be_that_of_their_groups(
    tmp_path: Path, number: bytes, problem: str
) -> None:
    path = write_enhanced(tmp_path)
    edit(path, NumberOfFrames=number)
    invalid = read_invalid(path)
    assert invalid.code is IssueCode.UNREADABLE
    assert invalid.problem == f"NumberOfFrames (0028,0008) {problem}"
