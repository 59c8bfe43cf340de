"""Small CT series on disk, and ways to spoil them."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from ich3d.dicom.write import SeriesToWrite, uid, write_series

SIZE = 16


def stack(n: int = 4, name: str = "a", **changes: Any) -> SeriesToWrite:
    """A straight axial series of `n` slices, 5 mm apart, named after `name`; `changes` replace fields."""
    rng = np.random.default_rng(len(name) * 1000 + sum(name.encode()))
    fields: dict[str, Any] = {
        "hu": rng.integers(-1000, 2000, (n, SIZE, SIZE)).astype(np.int16),
        "position_mm": np.array([(-100.0, -120.0, 5.0 * i) for i in range(n)]),
        "row_dir": (1.0, 0.0, 0.0),
        "col_dir": (0.0, 1.0, 0.0),
        "pixel_spacing_mm": (0.5, 0.4),
        "slice_thickness_mm": 5.0,
        "patient_id": "Secret-Patient",
        "study_uid": uid("study", name),
        "series_uid": uid("series", name),
        "sop_uids": [uid("sop", name, i) for i in range(n)],
        "file_names": [f"{name}{i:03d}.dcm" for i in range(n)],
        "instance_numbers": list(range(1, n + 1)),
    }
    return SeriesToWrite(**{**fields, **changes})


def edit(path: Path, **values: Any) -> None:
    """Set attributes of a file by keyword; None deletes one; bytes become its raw value."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # spoiling a file is what this is for
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


@pytest.fixture(scope="session")
def make_stack() -> Callable[..., SeriesToWrite]:
    return stack


@pytest.fixture
def write_stack(tmp_path: Path) -> Callable[..., list[Path]]:
    """Write `stack(...)` into the test's folder (or `folder` in it); the paths, lowest slice first."""

    def write(folder: str = ".", **changes: Any) -> list[Path]:
        return write_series(stack(**changes), tmp_path / folder)

    return write


@pytest.fixture(scope="session")
def edit_file() -> Callable[..., None]:
    return edit
