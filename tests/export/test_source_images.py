"""Source images that a DICOM object can refer to, and those that it cannot."""

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import SecondaryCaptureImageStorage

from ich3d.core.issues import IssueCode
from ich3d.core.types import Rejected
from ich3d.dicom.uids import uid
from ich3d.dicom.write import SeriesToWrite
from ich3d.export import write_dicom_results
from ich3d.export.source_images import read_source_images
from ich3d.inference.scoring import SeriesPrediction
from tests.helpers.dicom_results import (
    MODEL_SHA256,
    predicted_series,
    text_without_times,
    write_enhanced,
    write_objects,
)

Edit = Callable[[Path], None]


def test_instances_run_inferior_to_superior(bleeding: SeriesPrediction) -> None:
    source = read_source_images(bleeding)
    assert not isinstance(source, Rejected)
    assert list(source.instances) == [key.sop_uid for key in bleeding.series.keys]
    assert source.header.SOPInstanceUID == bleeding.series.keys[0].sop_uid
    assert {str(instance.PatientName) for instance in source.instances.values()} == {""}
    assert str(source.header.PatientName) == "Sécrète^Pätient"


def test_a_multi_frame_file_is_one_instance(
    make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    prediction = predicted_series(write_enhanced(make_head("frames"), tmp_path / "in"))
    source = read_source_images(prediction)
    assert not isinstance(source, Rejected)
    assert list(source.instances) == [prediction.series.keys[0].sop_uid]


def test_slices_in_a_zip_give_the_same_objects(
    bleeding: SeriesPrediction, head_folder: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        for path in head_folder.iterdir():
            archive.write(path, f"deep/{path.name}")
    zipped = replace(predicted_series(tmp_path / "study.zip"), prob=bleeding.prob)

    (from_folder, _) = write_objects(bleeding, tmp_path / "a")
    (from_zip, _) = write_objects(zipped, tmp_path / "b")
    assert text_without_times(from_zip) == text_without_times(from_folder)


def with_invalid_uid(keyword: str) -> Edit:
    """Replace a UID by letters of the same length, as the files of RSNA's challenge have them."""

    def edit(path: Path) -> None:
        value = str(pydicom.dcmread(path)[keyword].value)
        invalid = b"ID_" + b"a" * (len(value) - 3)
        path.write_bytes(path.read_bytes().replace(value.encode(), invalid))

    return edit


def without(keyword: str) -> Edit:
    """Delete an attribute."""

    def edit(path: Path) -> None:
        dataset = pydicom.dcmread(path)
        del dataset[keyword]
        dataset.save_as(path)

    return edit


def as_secondary_capture(path: Path) -> None:
    dataset = pydicom.dcmread(path)
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    dataset.save_as(path)


def with_uid_of_first_slice(path: Path) -> None:
    dataset = pydicom.dcmread(path)
    dataset.SOPInstanceUID = uid("head slice", "named", 0)
    dataset.save_as(path)


SOP_UID, SOP_CLASS = "SOPInstanceUID (0008,0018)", "SOPClassUID (0008,0016)"
SERIES_UID, STUDY_UID = "SeriesInstanceUID (0020,000E)", "StudyInstanceUID (0020,000D)"


@pytest.mark.parametrize(
    ("edit", "name", "code", "tag"),
    [
        (with_invalid_uid("SOPInstanceUID"), "3.dcm", IssueCode.INVALID_UID, SOP_UID),
        (with_invalid_uid("SeriesInstanceUID"), "*", IssueCode.INVALID_UID, SERIES_UID),
        (with_invalid_uid("StudyInstanceUID"), "*", IssueCode.INVALID_UID, STUDY_UID),
        (without("StudyInstanceUID"), "*", IssueCode.NO_UID, STUDY_UID),
        (without("SeriesInstanceUID"), "*", IssueCode.NO_UID, SERIES_UID),
        (without("SOPClassUID"), "2.dcm", IssueCode.NO_UID, SOP_CLASS),
        (as_secondary_capture, "*", IssueCode.NOT_CT, SOP_CLASS),
        (with_uid_of_first_slice, "4.dcm", IssueCode.REPEATED_SOP_UID, SOP_UID),
    ],
)
def test_a_series_that_cannot_be_referred_to_is_rejected(
    head_folder: Path, tmp_path: Path, edit: Edit, name: str, code: IssueCode, tag: str
) -> None:
    edited = sorted(head_folder.glob(name))
    assert edited
    for path in edited:
        edit(path)

    prediction = predicted_series(head_folder, (2, "any", 0.9))
    result = write_dicom_results(prediction, tmp_path / "out", MODEL_SHA256)

    assert isinstance(result, Rejected)
    assert (result.subject, result.code) == (prediction.series.volume_id, code)
    assert tag in result.detail
    assert edited[0].name in result.detail
    assert sorted(result.paths) == [f"{n}.dcm" for n in range(6)]
    assert "Secret" not in result.detail
    assert not (tmp_path / "out").exists()


def test_a_file_that_was_deleted_after_scoring_is_named(
    bleeding: SeriesPrediction, head_folder: Path
) -> None:
    (head_folder / "5.dcm").unlink()
    result = read_source_images(bleeding)
    assert isinstance(result, Rejected)
    assert result.code == IssueCode.UNREADABLE
    assert "5.dcm" in result.detail
