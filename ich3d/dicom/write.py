"""HU back to DICOM: valid CT Image Storage files, the same bytes from the same input.

Attributes follow PS3.3 A.3 (CT Image IOD); UIDs without a registered root are built under 2.25 from
a hash (PS3.5 B.2), so that a slice keeps its name from run to run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from ich3d.core.types import Vector3
from ich3d.dicom.uids import uid

IMPLEMENTATION_UID = "2.25.207114843318263451206254213376140917504"


@dataclass(frozen=True)
class SeriesToWrite:
    """One CT series: `hu` int16 (Z, Y, X) and where each slice lies in LPS millimetres.

    `position_mm` (Z, 3) is ImagePositionPatient; `row_dir` and `col_dir` are the two halves of
    ImageOrientationPatient; `pixel_spacing_mm` is (between rows, between columns). `extra` holds
    further attributes by DICOM keyword, `file_names` a name a slice.
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
        n = len(self.hu)
        if self.hu.dtype != np.int16 or self.hu.ndim != 3:
            raise ValueError(f"hu must be int16 (Z, Y, X), got {self.hu.dtype} {self.hu.shape}")
        lengths = {
            len(self.position_mm),
            len(self.sop_uids),
            len(self.file_names),
            len(self.instance_numbers),
        }
        if lengths != {n}:
            raise ValueError(
                f"{n} slices of pixels, but positions, UIDs, names and numbers count {lengths}"
            )


def write_series(series: SeriesToWrite, folder: Path) -> list[Path]:
    """Write one file a slice into `folder`, made if need be; the paths, in the order of `hu`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index, name in enumerate(series.file_names):
        path = folder / name
        _slice_dataset(series, index).save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def _slice_dataset(series: SeriesToWrite, index: int) -> Dataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = UID(series.sop_uids[index])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)

    ds = Dataset()
    ds.file_meta = meta
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = series.sop_uids[index]
    ds.StudyInstanceUID = series.study_uid
    ds.SeriesInstanceUID = series.series_uid
    ds.FrameOfReferenceUID = uid("frame", series.series_uid)
    ds.PositionReferenceIndicator = ""
    ds.PatientID = series.patient_id
    for keyword in _REQUIRED_BUT_EMPTY:
        setattr(ds, keyword, "")
    ds.Modality = "CT"
    ds.ImageType = ["DERIVED", "PRIMARY", "AXIAL"]
    ds.SeriesNumber = 1
    ds.InstanceNumber = series.instance_numbers[index]
    ds.ImagePositionPatient = [_decimal(v) for v in series.position_mm[index]]
    ds.ImageOrientationPatient = [_decimal(v) for v in (*series.row_dir, *series.col_dir)]
    ds.PixelSpacing = [_decimal(v) for v in series.pixel_spacing_mm]
    ds.SliceThickness = _decimal(series.slice_thickness_mm)
    ds.KVP = ""
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = series.hu.shape[1:]
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit = 15
    ds.PixelRepresentation = 1
    ds.RescaleIntercept = "0"
    ds.RescaleSlope = "1"
    ds.RescaleType = "HU"
    for keyword, value in series.extra.items():
        setattr(ds, keyword, value)
    ds.PixelData = series.hu[index].astype("<i2").tobytes()
    ds["PixelData"].VR = "OW"
    return ds


# Type 2 attributes of the Patient, Study, Series and Equipment modules: present, value unknown.
_REQUIRED_BUT_EMPTY = (
    "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "ReferringPhysicianName",
    "StudyID", "AccessionNumber", "Manufacturer", "AcquisitionNumber",
)  # fmt: skip


def _decimal(value: float) -> pydicom.valuerep.DSfloat:
    """A decimal string of at most 16 characters (PS3.5 6.2, VR DS)."""
    return pydicom.valuerep.DSfloat(float(value), auto_format=True)
