"""Predictions with chosen scores on real DICOM files, and the DICOM objects written from them."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedCTImageStorage, ImplicitVRLittleEndian

from ich3d.config.schema import PrepareConfig
from ich3d.core.labels import LABELS
from ich3d.core.types import Rejected, SliceKey
from ich3d.dicom.index import index
from ich3d.dicom.volume import load_volume
from ich3d.dicom.write import SeriesToWrite, write_series
from ich3d.export import write_dicom_results
from ich3d.inference.scoring import SeriesPrediction
from ich3d.prepare.series import prepare_series

MODEL_SHA256 = "5e" * 32
PATIENT_AND_STUDY = {  # Patient, General Study and Patient Study modules
    "SpecificCharacterSet": "ISO_IR 100",
    "PatientName": "Sécrète^Pätient",
    "PatientBirthDate": "19010101",
    "PatientSex": "F",
    "PatientComments": "Secret comment",
    "StudyDate": "20200102",
    "StudyTime": "030405",
    "StudyID": "7",
    "AccessionNumber": "Secret-42",
    "ReferringPhysicianName": "Secret^Doctor",
    "StudyDescription": "Schädel",
    "PatientAge": "119Y",
    "PatientWeight": "61.5",
}
EQUIPMENT = {
    "InstitutionName": "Secret Hospital",
    "Manufacturer": "Maker",
    "StationName": "CT1",
}
TIME_KEYWORDS = {
    "InstanceCreationDate", "InstanceCreationTime", "ContentDate", "ContentTime",
    "ContributionDateTime",
}  # fmt: skip
"""Attributes that hold the time of writing."""


def predicted_series(path: Path, *bleeds: tuple[int, str, float]) -> SeriesPrediction:
    """The series below `path` with a score of 0.1 everywhere except for `bleeds`.

    A bleed is a slice index (0 is the most inferior), a label, and the probability that this label
    and `any` have in that slice.
    """
    (series,) = index(path).series
    volume = load_volume(series)
    assert not isinstance(volume, Rejected), volume
    prepared = prepare_series(volume, PrepareConfig(matrix=48, pixel_mm=4.8))
    assert not isinstance(prepared, Rejected), prepared

    prob = np.full((len(prepared), len(LABELS)), 0.1, dtype=np.float32)
    for slice_index, label, value in bleeds:
        prob[slice_index, [LABELS.index(label), LABELS.index("any")]] = value

    files = {SliceKey(h.sop_uid, h.frame, h.file.name): h.file for h in series.headers}
    return SeriesPrediction(
        series=prepared,
        files=tuple(files[key] for key in prepared.keys),
        prob={"stack": prob},
        agreement=np.full(len(prepared), np.nan),
        out_of_range=(),
    )


def write_objects(
    prediction: SeriesPrediction, folder: Path, model_sha256: str = MODEL_SHA256
) -> tuple[Path, ...]:
    """Write the DICOM objects of a series that must not be rejected; returns their paths."""
    paths = write_dicom_results(prediction, folder, model_sha256)
    assert not isinstance(paths, Rejected), paths
    return paths


def text_without_times(path: Path) -> str:
    """All elements of a DICOM file as text, except for the time of writing."""

    def remove_time(dataset: Dataset, element: pydicom.DataElement) -> None:
        if element.keyword in TIME_KEYWORDS:
            del dataset[element.tag]

    dataset = pydicom.dcmread(path)
    dataset.walk(remove_time)
    return str(dataset)


def raw_values(path: Path, *keywords: str) -> dict[str, Any]:
    """The bytes of some elements of a file, as they are stored."""
    dataset = pydicom.dcmread(path)
    return {
        keyword: dataset.get_item(keyword).value
        for keyword in keywords
        if keyword != "SpecificCharacterSet"
    }


def store_implicit(path: Path) -> None:
    """Write a file anew in Implicit VR Little Endian; the bytes of texts stay as they are."""
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    pydicom.dcmwrite(path, dataset, implicit_vr=True, little_endian=True, force_encoding=True)


def dciodvfy_errors(path: Path) -> list[str]:
    """The errors that dicom3tools reports on a DICOM file.

    Its warnings are left out: they are about attributes that the source leaves empty (Study Date,
    Time and ID) and about the designator of a private coding scheme.
    """
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy is not installed (Debian: dicom3tools)")
    process = subprocess.run([program, path], capture_output=True, encoding="utf-8", check=False)
    lines = (process.stdout + process.stderr).splitlines()
    errors = [line for line in lines if line.startswith("Error")]
    assert process.returncode == 0 or errors
    return errors


def write_enhanced(series: SeriesToWrite, folder: Path) -> Path:
    """Write `series` as one Enhanced CT file whose first frame is the most superior slice."""
    (path, *other_paths) = write_series(series, folder)
    for other_path in other_paths:
        other_path.unlink()

    dataset = pydicom.dcmread(path)
    dataset.SOPClassUID = EnhancedCTImageStorage
    dataset.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    dataset.NumberOfFrames = len(series.hu)
    dataset.SharedFunctionalGroupsSequence = _sequence(
        PixelMeasuresSequence=_sequence(PixelSpacing=dataset.PixelSpacing),
        PlaneOrientationSequence=_sequence(ImageOrientationPatient=dataset.ImageOrientationPatient),
        PixelValueTransformationSequence=_sequence(RescaleSlope="1", RescaleIntercept="0"),
    )
    dataset.PerFrameFunctionalGroupsSequence = [
        _sequence(PlanePositionSequence=_sequence(ImagePositionPatient=position.tolist()))[0]
        for position in series.position_mm[::-1]
    ]
    for keyword in (
        "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope",
        "RescaleIntercept", "AcquisitionNumber",
    ):  # fmt: skip
        del dataset[keyword]
    dataset.PixelData = series.hu[::-1].astype("<i2").tobytes()
    dataset.save_as(path)
    return path


def _sequence(**values: Any) -> Sequence:
    """A sequence of one item with the given attributes."""
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return Sequence([dataset])
