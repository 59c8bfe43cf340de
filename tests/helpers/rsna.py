"""A small data set in the exact layout of RSNA 2019: Kaggle's zip with 22-tag headers and its known
damage.
"""

import warnings
import zipfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from ich3d.core.labels import LABELS
from tests.helpers.series import head_series

TOP = "rsna-intracranial-hemorrhage-detection"
N_SLICES = 6


@dataclass
class RsnaData:
    """What was written.

    Attributes:
        path: the zip.
        test_ids: the IDs that the sample submission asks for, in its order.
        sample: the sample submission.
        test_images: the folder of the test images, as extracted.
    """

    path: Path
    test_ids: list[str]
    sample: Path
    test_images: Path


def slice_bytes(name: str, index: int, hu: np.ndarray, tilt_deg: float = 11.0) -> bytes:
    """One file with RSNA's 22 tags: no InstanceNumber, SliceThickness or Manufacturer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # RSNA's UIDs are none
        return _slice_bytes(name, index, hu, tilt_deg)


def _slice_bytes(name: str, index: int, hu: np.ndarray, tilt_deg: float) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = UID(f"1.2.840.4267.32.{index + 1}")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID("1.2.40.0.13.1.1.1")
    ds = Dataset()
    ds.file_meta = meta
    ds.SOPInstanceUID = f"ID_{name}{index:03d}"
    ds.Modality = "CT"
    ds.PatientID = f"ID_{name}"
    ds.StudyInstanceUID = f"ID_st{name}"
    ds.SeriesInstanceUID = f"ID_se{name}"
    ds.StudyID = ""
    cos, sin = np.cos(np.radians(tilt_deg)), np.sin(np.radians(tilt_deg))
    ds.ImagePositionPatient = [-125.0, -125.0, round(100.0 + index * 5.0 / cos, 6)]
    ds.ImageOrientationPatient = [1.0, 0.0, 0.0, 0.0, round(cos, 9), round(-sin, 9)]
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = hu.shape
    ds.PixelSpacing = [250 / hu.shape[0], 250 / hu.shape[1]]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.WindowCenter, ds.WindowWidth = 30, 80
    ds.RescaleIntercept, ds.RescaleSlope = -1024, 1
    ds.PixelData = (hu.astype(np.int32) + 1024).astype("<i2").tobytes()
    ds["PixelData"].VR = "OW"
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def write_rsna(folder: Path, patients: int = 9) -> RsnaData:
    """Training and test images in one zip, and the test images as extracted.

    Every third training series bleeds. One training file has fewer pixel bytes than its header
    says, one is noise from the middle on, one slice stands twice in the table of labels, and the
    last patient has a slice that is pixel-identical to one of the first. One test file is cut.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, bytes] = {}
    labels = ["ID,Label"]
    shared: np.ndarray | None = None
    for patient in range(patients):
        name = f"a{patient}"
        hu = head_series(name=name, n=N_SLICES).hu.copy()
        if patient == 0:
            shared = hu[2]
        elif patient == patients - 1 and shared is not None:
            hu[3] = shared
        for index in range(N_SLICES):
            bleeds = int(patient % 3 == 0 and index in (2, 3))
            if bleeds:
                hu[index, 28:36, 20:28] = 65
            sop_uid = f"ID_{name}{index:03d}"
            files[f"stage_2_train/{sop_uid}.dcm"] = slice_bytes(name, index, hu[index])
            rows = [
                f"{sop_uid}_{label},{bleeds if label in ('any', 'subdural') else 0}"
                for label in LABELS
            ]
            labels += rows * (2 if (patient, index) == (1, 1) else 1)
    cut = "stage_2_train/ID_a4001.dcm"
    files[cut] = files[cut][:-3000]
    noise = bytearray(files["stage_2_train/ID_a5002.dcm"])
    noise[-4096:] = np.random.default_rng(0).bytes(4096)
    files["stage_2_train/ID_a5002.dcm"] = bytes(noise)

    test_files: dict[str, bytes] = {}
    for patient in range(2):
        hu = head_series(name=f"t{patient}", n=N_SLICES).hu
        for index in range(N_SLICES):
            name = f"ID_t{patient}{index:03d}"
            test_files[name] = slice_bytes(f"t{patient}", index, hu[index])
    test_files["ID_t1002"] = test_files["ID_t1002"][:-3000]
    test_ids = [f"{name}_{label}" for name in [*test_files, "ID_gone"] for label in LABELS]
    sample = "\n".join(["ID,Label", *(f"{row_id},0.5" for row_id in test_ids), ""])

    with zipfile.ZipFile(folder / "rsna.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(f"{TOP}/{path}", content)
        archive.writestr(f"{TOP}/stage_2_train.csv", "\n".join([*labels, ""]))
        for path, content in test_files.items():
            archive.writestr(f"{TOP}/stage_2_test/{path}.dcm", content)
        archive.writestr(f"{TOP}/stage_2_sample_submission.csv", sample)
    (folder / "sample.csv").write_text(sample)
    extracted = folder / "stage_2_test"
    extracted.mkdir()
    for path, content in test_files.items():
        (extracted / f"{path}.dcm").write_bytes(content)
    return RsnaData(folder / "rsna.zip", test_ids, folder / "sample.csv", extracted)
