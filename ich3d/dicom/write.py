"""Write HU volumes as DICOM: one valid CT Image Storage file for each slice.

Attributes follow the CT Image IOD (PS3.3 A.3). Equal input gives files that are equal to the byte.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian
from pydicom.valuerep import DSfloat

from ich3d.core.types import Vector3
from ich3d.dicom.uids import uid

IMPLEMENTATION_UID: Final = "2.25.207114843318263451206254213376140917504"
"""ImplementationClassUID of the files that ich3d writes (PS3.7 D.3.3.2)."""

_EMPTY_TYPE_2: Final = (
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
    "Manufacturer",
    "AcquisitionNumber",
    "PositionReferenceIndicator",
    "KVP",
)
"""Type 2 attributes of the CT Image IOD: they must be present and are empty where unknown."""


@dataclass(frozen=True)
class SeriesToWrite:
    """One CT series to be written, with lengths in millimetres in the patient frame (LPS).

    Attributes:
        hu: Hounsfield units (Z, Y, X) int16.
        position_mm: ImagePositionPatient of each slice (Z, 3), the center of its first pixel.
        row_dir: unit vector along a row, the first half of ImageOrientationPatient.
        col_dir: unit vector along a column, the second half of ImageOrientationPatient.
        pixel_spacing_mm: PixelSpacing, the distance between rows and between columns.
        slice_thickness_mm: SliceThickness.
        patient_id: PatientID.
        study_uid: StudyInstanceUID.
        series_uid: SeriesInstanceUID.
        sop_uids: SOPInstanceUID of each slice.
        file_names: file name of each slice.
        instance_numbers: InstanceNumber of each slice.
        extra: further attributes by DICOM keyword, which replace those that are set here.

    Raises ValueError where `hu` has another type or shape, or where the fields that hold one value
    for each slice differ in length.
    """

    hu: np.ndarray
    position_mm: np.ndarray
    row_dir: Vector3
    col_dir: Vector3
    pixel_spacing_mm: tuple[float, float]
    slice_thickness_mm: float
    patient_id: str
    study_uid: str
    series_uid: str
    sop_uids: Sequence[str]
    file_names: Sequence[str]
    instance_numbers: Sequence[int]
    extra: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.hu.dtype != np.int16 or self.hu.ndim != 3:
            raise ValueError(f"hu must be int16 (Z, Y, X), got {self.hu.dtype} {self.hu.shape}")

        lengths = {
            "position_mm": len(self.position_mm),
            "sop_uids": len(self.sop_uids),
            "file_names": len(self.file_names),
            "instance_numbers": len(self.instance_numbers),
        }
        for name, length in lengths.items():
            if length != len(self.hu):
                raise ValueError(f"hu has {len(self.hu)} slices, but {name} has length {length}")


def write_series(series: SeriesToWrite, folder: Path) -> list[Path]:
    """Write one DICOM file for each slice and return their paths, in the order of `series.hu`.

    `folder` is created if it does not exist. Files of the same names are overwritten.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in series.file_names]
    for index, path in enumerate(paths):
        _slice_dataset(series, index).save_as(path, enforce_file_format=True)
    return paths


def _slice_dataset(series: SeriesToWrite, index: int) -> Dataset:
    """Build the data set of slice `index`."""
    dataset = Dataset()
    dataset.file_meta = _file_meta(series.sop_uids[index])
    _set_identity(dataset, series, index)
    _set_geometry(dataset, series, index)
    _set_pixel_format(dataset, series)

    for keyword, value in series.extra.items():
        setattr(dataset, keyword, value)

    dataset.PixelData = series.hu[index].astype("<i2").tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset


def _file_meta(sop_uid: str) -> FileMetaDataset:
    """File meta information (PS3.10 7.1)."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = UID(sop_uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
    return meta


def _set_identity(dataset: Dataset, series: SeriesToWrite, index: int) -> None:
    """Set whose slice it is, of which study and series, and what kind of image."""
    for keyword in _EMPTY_TYPE_2:
        setattr(dataset, keyword, "")

    dataset.PatientID = series.patient_id
    dataset.StudyInstanceUID = series.study_uid
    dataset.SeriesInstanceUID = series.series_uid
    dataset.FrameOfReferenceUID = uid("frame", series.series_uid)
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = series.sop_uids[index]

    dataset.Modality = "CT"
    dataset.ImageType = ["DERIVED", "PRIMARY", "AXIAL"]
    dataset.SeriesNumber = 1
    dataset.InstanceNumber = series.instance_numbers[index]


def _set_geometry(dataset: Dataset, series: SeriesToWrite, index: int) -> None:
    """Set the Image Plane module (PS3.3 C.7.6.2)."""
    orientation = (*series.row_dir, *series.col_dir)
    dataset.ImagePositionPatient = [_decimal_string(mm) for mm in series.position_mm[index]]
    dataset.ImageOrientationPatient = [_decimal_string(cosine) for cosine in orientation]
    dataset.PixelSpacing = [_decimal_string(mm) for mm in series.pixel_spacing_mm]
    dataset.SliceThickness = _decimal_string(series.slice_thickness_mm)


def _set_pixel_format(dataset: Dataset, series: SeriesToWrite) -> None:
    """Set the Image Pixel module (PS3.3 C.7.6.3) for signed 16-bit values that are HU already."""
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = series.hu.shape[1:]
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 1
    dataset.RescaleIntercept = "0"
    dataset.RescaleSlope = "1"
    dataset.RescaleType = "HU"


def _decimal_string(value: float) -> DSfloat:
    """Format as a decimal string of at most 16 characters (PS3.5 6.2, VR DS)."""
    return DSfloat(float(value), auto_format=True)
