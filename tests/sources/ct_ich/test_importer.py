"""Import of the whole CT-ICH data set: on a small copy of its layout, and on the real data."""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest

from ich3d.core.errors import DataError
from ich3d.core.labels import LABELS
from ich3d.sources.ct_ich import ct_ich_imported, import_ct_ich
from ich3d.sources.ct_ich.diagnosis import slice_uid
from ich3d.sources.labels import read_labels
from tests.helpers.ct_ich import save_slice, write_ct_ich
from tests.helpers.leftovers import left_by_a_killed_writer


@pytest.fixture
def src(tmp_path: Path) -> Path:
    return write_ct_ich(tmp_path / "source")


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_all_labels_are_written_even_without_an_image(src: Path, tmp_path: Path) -> None:
    source = import_ct_ich(src, tmp_path / "out")
    assert source.labels is not None
    labels = read_labels(source.labels)
    assert len(labels) == 6
    assert labels.notna().all(axis=None)
    assert labels.loc[slice_uid("049", 3), "subdural"] == 1


def test_what_does_not_match_is_listed_with_what_it_lacks(src: Path, tmp_path: Path) -> None:
    source = import_ct_ich(src, tmp_path / "out")
    assert source.unmatched is not None
    rows = pd.read_csv(source.unmatched).set_index("sop_uid")
    assert rows["lacks"].to_dict() == {
        slice_uid("049", 3): "image",
        slice_uid("050", 2): "bone",
        slice_uid("050", 3): "label",
    }
    assert rows.loc[slice_uid("050", 2), "detail"] == "Patients_CT/050/bone/2.jpg is missing"
    assert sorted(path.name for path in (source.images / "050").iterdir()) == ["1.dcm", "3.dcm"]


def test_import_json_records_each_patient(src: Path, tmp_path: Path) -> None:
    import_ct_ich(src, tmp_path / "out")
    record = json.loads((tmp_path / "out/import.json").read_text())
    centers = {patient["patient"]: patient["bone_center"] for patient in record["patients"]}
    assert centers == {"049": 700, "050": 800}
    assert record["contradictory_rows"] == ["hemorrhage_diagnosis.csv: patient 050, slice 1"]
    assert record["slices_written"] == 5
    assert record["unmatched"] == {"bone": 1, "image": 1, "label": 1}


def test_equal_images_give_equal_bytes(src: Path, tmp_path: Path) -> None:
    import_ct_ich(src, tmp_path / "one")
    import_ct_ich(src, tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_an_interrupted_import_resumes_to_the_same_bytes(src: Path, tmp_path: Path) -> None:
    def interrupt_after_one(folders: Iterable[Path]) -> Iterable[Path]:
        yield next(iter(folders))
        raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        import_ct_ich(src, out, interrupt_after_one)
    with pytest.raises(DataError, match="no complete CT-ICH import"):
        ct_ich_imported(out)

    first = (out / "dicom/049/1.dcm").stat().st_mtime_ns
    left_by_a_killed_writer(out / "dicom")
    source = import_ct_ich(src, out)
    assert (out / "dicom/049/1.dcm").stat().st_mtime_ns == first
    assert ct_ich_imported(out) == source
    import_ct_ich(src, tmp_path / "undisturbed")
    assert contents(out) == contents(tmp_path / "undisturbed")


def test_a_patient_is_imported_again_when_an_image_changes(src: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    import_ct_ich(src, out)
    save_slice(src, "049", 3)
    import_ct_ich(src, out)
    assert (out / "dicom/049/3.dcm").exists()
    rows = pd.read_csv(out / "unmatched.csv")
    assert slice_uid("049", 3) not in set(rows["sop_uid"])


def test_a_missing_image_folder_is_named(src: Path, tmp_path: Path) -> None:
    shutil.rmtree(src / "Patients_CT")
    with pytest.raises(DataError, match="no folder Patients_CT"):
        import_ct_ich(src, tmp_path / "out")


@pytest.mark.skipif(
    not os.environ.get("ICH3D_CT_ICH"), reason="ICH3D_CT_ICH names no copy of CT-ICH"
)
def test_real_patients(tmp_path: Path) -> None:
    """Patient 50 has centre 800; bone images of 81 show other slices; a slice of 84 has none."""
    data = Path(os.environ["ICH3D_CT_ICH"])
    src = tmp_path / "source"
    (src / "Patients_CT").mkdir(parents=True)
    shutil.copy(data / "hemorrhage_diagnosis.csv", src)
    for patient in ("050", "081", "084"):
        (src / "Patients_CT" / patient).symlink_to(data / "Patients_CT" / patient)
    source = import_ct_ich(src, tmp_path / "out")

    record = json.loads((tmp_path / "out/import.json").read_text())
    imported = {
        patient["patient"]: (patient["bone_center"], len(patient["written"]))
        for patient in record["patients"]
    }
    assert imported == {"050": (800, 25), "081": (700, 27), "084": (700, 35)}
    assert record["contradictory_rows"] == []

    rows = pd.read_csv(tmp_path / "out/unmatched.csv").set_index("sop_uid")
    assert rows.loc[slice_uid("084", 36), "detail"] == "Patients_CT/084/bone/36.jpg is missing"
    assert rows.loc[slice_uid("050", 22), "lacks"] == "image"

    hu = pydicom.dcmread(source.images / "050" / "14.dcm").pixel_array
    assert hu.min() == -1000
    assert 20 < np.median(hu[(hu > 0) & (hu < 90)]) < 50
    assert source.labels is not None
    assert list(read_labels(source.labels).columns) == list(LABELS)
