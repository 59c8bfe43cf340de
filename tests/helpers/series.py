"""CT series that tests write as DICOM, and ways to damage their files."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from ich3d.dicom.uids import uid
from ich3d.dicom.write import SeriesToWrite

PATIENT_ID = "Secret-Patient"
SIZE = 16


def stack(n: int = 4, name: str = "a", **changes: Any) -> SeriesToWrite:
    """A straight axial series of `n` slices of 16 x 16 random HU, 5 mm apart.

    `name` seeds its pixels and UIDs; `changes` replace fields of `SeriesToWrite`.
    """
    rng = np.random.default_rng(len(name) * 1000 + sum(name.encode()))
    fields: dict[str, Any] = {
        "hu": rng.integers(-1000, 2000, (n, SIZE, SIZE)).astype(np.int16),
        "position_mm": np.array([(-100.0, -120.0, 5.0 * i) for i in range(n)]),
        "row_dir": (1.0, 0.0, 0.0),
        "col_dir": (0.0, 1.0, 0.0),
        "pixel_spacing_mm": (0.5, 0.4),
        "slice_thickness_mm": 5.0,
        "patient_id": PATIENT_ID,
        "study_uid": uid("study", name),
        "series_uid": uid("series", name),
        "sop_uids": [uid("sop", name, i) for i in range(n)],
        "file_names": [f"{name}{i:03d}.dcm" for i in range(n)],
        "instance_numbers": list(range(1, n + 1)),
    }
    return SeriesToWrite(**{**fields, **changes})


def edit(path: Path, **values: Any) -> None:
    """Set attributes of the DICOM file at `path` by keyword.

    None deletes an attribute; bytes become its raw value, whatever its VR allows.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damaged values are the purpose
        ds = pydicom.dcmread(path)
        for keyword, value in values.items():
            if value is None:
                del ds[keyword]
            elif isinstance(value, bytes) and keyword != "PixelData":
                tag = Tag(keyword)
                vr = pydicom.datadict.dictionary_VR(tag)
                ds[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)
            else:
                setattr(ds, keyword, value)
        ds.save_as(path)


def air_series() -> SeriesToWrite:
    """Three slices of air, of the patient `PATIENT_ID`, who has a name and a birth date."""
    return SeriesToWrite(
        hu=np.full((3, 16, 16), -1000, dtype=np.int16),
        position_mm=np.array([(0.0, 0.0, 5.0 * i) for i in range(3)]),
        row_dir=(1.0, 0.0, 0.0),
        col_dir=(0.0, 1.0, 0.0),
        pixel_spacing_mm=(10.0, 10.0),
        slice_thickness_mm=5.0,
        patient_id=PATIENT_ID,
        study_uid=uid("air", "study"),
        series_uid=uid("air", "series"),
        sop_uids=[uid("air", i) for i in range(3)],
        file_names=[f"{i}.dcm" for i in range(3)],
        instance_numbers=[1, 2, 3],
        extra={"PatientName": PATIENT_ID, "PatientBirthDate": "19010101"},
    )


def head_series(name: str = "a", n: int = 6, **changes: Any) -> SeriesToWrite:
    """A round head, 70 mm in radius, of noisy brain in a skull: `n` axial slices, 5 mm apart.

    `name` seeds its pixels, UIDs and patient; `changes` replace fields of `SeriesToWrite`.
    """
    rng = np.random.default_rng(list(name.encode()))
    side = (np.arange(64) - 31.5) * 4.0
    radius = np.hypot(side[:, None], side[None])
    brain = rng.integers(20, 45, (n, 64, 64))
    hu = np.where(radius < 70, brain, np.where(radius < 78, 900, -1000)).astype(np.int16)
    fields: dict[str, Any] = {
        "hu": hu,
        "position_mm": np.array([(-126.0, -126.0, 5.0 * i) for i in range(n)]),
        "row_dir": (1.0, 0.0, 0.0),
        "col_dir": (0.0, 1.0, 0.0),
        "pixel_spacing_mm": (4.0, 4.0),
        "slice_thickness_mm": 5.0,
        "patient_id": f"patient {name}",
        "study_uid": uid("head study", name),
        "series_uid": uid("head series", name),
        "sop_uids": [uid("head slice", name, i) for i in range(n)],
        "file_names": [f"{i}.dcm" for i in range(n)],
        "instance_numbers": list(range(1, n + 1)),
    }
    return SeriesToWrite(**{**fields, **changes})
