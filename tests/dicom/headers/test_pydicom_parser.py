"""pydicom reads every encoding, and the functional groups of multi-frame files."""

from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from ich3d.dicom.headers.elements import Elements
from ich3d.dicom.headers.pydicom_parser import parse_with_pydicom
from ich3d.dicom.write import write_series
from tests.helpers.enhanced import for_frames, functional_group, write_enhanced
from tests.helpers.mutations import encode
from tests.helpers.series import PATIENT_ID, edit, stack

NO_POSITION = {"PlanePositionSequence": Sequence([])}


def parse(path: Path) -> Elements:
    with path.open("rb") as stream:
        return parse_with_pydicom(stream)


@pytest.mark.parametrize(
    ("syntax", "byte_order"),
    [
        (ExplicitVRLittleEndian, "<"),
        (ImplicitVRLittleEndian, "<"),
        (ExplicitVRBigEndian, ">"),
        (DeflatedExplicitVRLittleEndian, "<"),
        (RLELossless, "<"),
    ],
)
def test_every_transfer_syntax_gives_the_same_values(
    tmp_path: Path, syntax: UID, byte_order: str
) -> None:
    (path,) = write_series(stack(n=1), tmp_path)
    elements = parse_with_pydicom(BytesIO(encode(path, syntax).content))
    assert (elements.transfer_syntax, elements.byte_order) == (syntax, byte_order)
    assert elements.patient_id == PATIENT_ID
    assert elements.text("Modality") == "CT"
    assert elements.unsigned_short("Rows") == 16
    assert elements.frames == ()


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian]
)
def test_pixel_data_is_located_but_not_read(tmp_path: Path, syntax: UID) -> None:
    (path,) = write_series(stack(n=1), tmp_path)
    content = encode(path, syntax).content
    elements = parse_with_pydicom(BytesIO(content))
    n_bytes = 2 * 16 * 16
    assert elements.pixel_data_offset == len(content) - n_bytes
    assert elements.pixel_data_length == n_bytes


def test_a_file_without_pixel_data_has_none(tmp_path: Path) -> None:
    (path,) = write_series(stack(n=1), tmp_path)
    edit(path, PixelData=None)
    assert not parse(path).has_pixel_data


def test_a_patient_id_follows_the_character_set(tmp_path: Path) -> None:
    (path,) = write_series(stack(n=1), tmp_path)
    edit(path, SpecificCharacterSet="ISO_IR 192", PatientID="Пациент")
    assert parse(path).patient_id == "Пациент"


def test_an_element_that_the_end_of_the_file_cuts_off_is_missing(tmp_path: Path) -> None:
    (path,) = write_series(stack(n=1), tmp_path)
    content = path.read_bytes()
    end = content.index(b"\x20\0\x32\0DS") + 12
    elements = parse_with_pydicom(BytesIO(content[:end]))
    assert "ImagePositionPatient" not in elements.values
    assert elements.text("Modality") == "CT"


def test_each_frame_has_its_own_position_and_the_shared_groups(tmp_path: Path) -> None:
    elements = parse(write_enhanced(tmp_path))
    assert len(elements.frames) == 4
    positions = [frame["ImagePositionPatient"] for frame in elements.frames]
    assert [raw.split(b"\\")[2].strip() for raw in positions] == [b"10.0", b"0.0", b"15.0", b"5.0"]
    assert {frame["PixelSpacing"] for frame in elements.frames} == {b"0.5\\0.4 "}


def test_a_group_of_the_frame_takes_precedence_over_the_shared_one(tmp_path: Path) -> None:
    rescale = functional_group(
        "PixelValueTransformationSequence", RescaleSlope="2", RescaleIntercept="-7"
    )
    elements = parse(write_enhanced(tmp_path, frame_groups=for_frames((2,), rescale)))
    slopes = [frame["RescaleSlope"].strip() for frame in elements.frames]
    assert slopes == [b"1", b"2", b"1", b"1"]


def test_a_position_in_another_sequence_is_not_that_of_the_frame(tmp_path: Path) -> None:
    """Frames refer to other images by sequences that may hold any attribute of those."""
    groups = {
        **NO_POSITION,
        **functional_group("SourceImageSequence", ImagePositionPatient=[0, 0, 0]),
    }
    elements = parse(write_enhanced(tmp_path, frame_groups=for_frames((2,), groups)))
    assert "ImagePositionPatient" in elements.frames[0]
    assert "ImagePositionPatient" not in elements.frames[1]


def test_a_position_of_the_whole_file_is_not_that_of_a_frame(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path, frame_groups=lambda frame: NO_POSITION)
    edit(path, ImagePositionPatient=[0, 0, 0])
    assert "ImagePositionPatient" in pydicom.dcmread(path)
    assert "ImagePositionPatient" not in parse(path).values
