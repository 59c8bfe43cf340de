"""CT-ICH's layout into DICOM, on a small copy of the layout and, where it is at hand, on the data."""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image

from ich3d.core.errors import DataError
from ich3d.core.labels import LABELS
from ich3d.sources import Source, ct_ich_imported, import_ct_ich, read_labels
from ich3d.sources.ct_ich_diagnosis import slice_uid

COLUMNS = (
    "PatientNumber,SliceNumber,Intraventricular,Intraparenchymal,Subarachnoid,"
    "Epidural,Subdural,No_Hemorrhage,Fracture_Yes_No"
)
SIZE = 64


def head(number: int) -> np.ndarray:
    """HU of a disc of brain in a ring of skull; it widens with the slice number."""
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    radius = np.hypot(x, y)
    outer = 20 + number
    return np.select([radius < outer - 5, radius < outer], [35.0, 1000.0], -1000.0)


def save_window(path: Path, hu: np.ndarray, center: float, width: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = np.clip((hu - center + width / 2) / width, 0, 1) * 255
    Image.fromarray(np.rint(grey).astype(np.uint8)).save(path, quality=97)


def save_slice(src: Path, patient: str, number: int, bone_center: float = 700) -> None:
    folder = src / "Patients_CT" / patient
    save_window(folder / "brain" / f"{number}.jpg", head(number), 40, 120)
    save_window(folder / "bone" / f"{number}.jpg", head(number), bone_center, 3200)


@pytest.fixture
def src(tmp_path: Path) -> Path:
    """Patient 49: slices 1, 2, 4 (3 labelled but missing). Patient 50: centre 800, slice 2 without a
    bone window, slice 3 without a label, row 1 contradicting itself."""
    folder = tmp_path / "source"
    for number in (1, 2, 4):
        save_slice(folder, "049", number)
    for number in (1, 2, 3):
        save_slice(folder, "050", number, bone_center=800)
    (folder / "Patients_CT/050/bone/2.jpg").unlink()
    rows = ["49,1,0,0,0,0,0,1,0", "49,2,0,0,0,1,0,0,1", "49,3,0,1,0,0,1,0,0", "49,4,0,0,0,0,0,1,0"]
    rows += ["50,1,1,0,0,0,0,1,0", "50,2,0,0,0,0,0,1,0"]
    (folder / "hemorrhage_diagnosis.csv").write_text("\n".join([COLUMNS, *rows]) + "\n")
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_slices_become_a_series_with_its_gap(src: Path, tmp_path: Path) -> None:
    source = import_ct_ich(src, tmp_path / "out")
    slices = [pydicom.dcmread(source.images / "049" / f"{n}.dcm") for n in (1, 2, 4)]
    assert [ds.ImagePositionPatient[2] for ds in slices] == [5, 10, 20]
    assert {tuple(ds.ImageOrientationPatient) for ds in slices} == {(1, 0, 0, 0, 1, 0)}
    assert len({ds.SeriesInstanceUID for ds in slices}) == 1
    assert [ds.SOPInstanceUID for ds in slices] == [slice_uid("049", n) for n in (1, 2, 4)]
    assert {ds.PatientID for ds in slices} == {"CT-ICH-049"}
    middle = SIZE // 2 - 0.5
    for ds in slices:
        centre = np.array(ds.ImagePositionPatient[:2]) + middle * np.array(ds.PixelSpacing)
        assert centre == pytest.approx([0, 0], abs=1e-6)


@pytest.mark.parametrize("patient", ["049", "050"])
def test_hu_are_rebuilt_for_either_bone_centre(src: Path, tmp_path: Path, patient: str) -> None:
    source = import_ct_ich(src, tmp_path / "out")
    hu = pydicom.dcmread(source.images / patient / "1.dcm").pixel_array
    row = hu[SIZE // 2]
    assert row[SIZE // 2] == pytest.approx(35, abs=2)
    assert row[SIZE // 2 + 18] == pytest.approx(1000, abs=100)
    assert row[-1] == -1000


def test_bone_pictures_numbered_two_further_are_paired_by_what_they_show(tmp_path: Path) -> None:
    folder = tmp_path / "source/Patients_CT/081"
    for number in range(1, 7):
        save_window(folder / "brain" / f"{number}.jpg", head(number), 40, 120)
        save_window(folder / "bone" / f"{number}.jpg", head(number - 2), 700, 3200)
    (tmp_path / "source/hemorrhage_diagnosis.csv").write_text(COLUMNS + "\n81,1,0,0,0,0,0,1,0\n")
    source = import_ct_ich(tmp_path / "source", tmp_path / "out")
    record = json.loads((tmp_path / "out/import.json").read_text())["patients"][0]
    assert record["bone_shift"] == 2
    assert record["written"] == [1, 2, 3, 4]
    assert [lack[0] for lack in record["lacking"]] == [5, 6]
    ds = pydicom.dcmread(source.images / "081" / "4.dcm")
    assert "picture +2" in ds.DerivationDescription
    skull = np.flatnonzero(ds.pixel_array[SIZE // 2] > 500)
    assert skull.max() - SIZE // 2 == pytest.approx(23, abs=1)


def test_headers_say_how_the_pixels_came_about(src: Path, tmp_path: Path) -> None:
    source = import_ct_ich(src, tmp_path / "out")
    ds = pydicom.dcmread(source.images / "050" / "1.dcm")
    assert "centre 800" in ds.DerivationDescription
    assert "assumed" in ds.DerivationDescription
    assert ds.ImageType[0] == "DERIVED"
    assert ds.LossyImageCompression == "01"
    assert ds.LossyImageCompressionRatio > 1
    assert ds.LossyImageCompressionMethod == "ISO_10918_1"


def test_labels_are_in_rsna_form_with_any_as_the_maximum(src: Path, tmp_path: Path) -> None:
    source = import_ct_ich(src, tmp_path / "out")
    assert source.labels is not None
    labels = read_labels(source.labels)
    assert len(labels) == 6
    assert labels.notna().all(axis=None)
    rows = {sop_uid: dict(zip(LABELS, row, strict=True)) for sop_uid, *row in labels.itertuples()}
    missing_image = rows[slice_uid("049", 3)]
    assert {label for label in LABELS if missing_image[label]} == {
        "intraparenchymal",
        "subdural",
        "any",
    }
    assert not any(rows[slice_uid("049", 1)].values())


def test_what_found_no_partner_is_listed_with_what_it_lacks(src: Path, tmp_path: Path) -> None:
    source = import_ct_ich(src, tmp_path / "out")
    assert source.unmatched is not None
    rows = pd.read_csv(source.unmatched).set_index("sop_uid")
    assert rows["lacks"].to_dict() == {
        slice_uid("049", 3): "image",
        slice_uid("050", 2): "bone",
        slice_uid("050", 3): "label",
    }
    assert rows.loc[slice_uid("050", 2), "detail"] == "Patients_CT/050/bone/2.jpg is missing"
    assert not (source.images / "050" / "2.dcm").exists()
    assert (source.images / "050" / "3.dcm").exists()


def test_import_json_records_each_patient(src: Path, tmp_path: Path) -> None:
    import_ct_ich(src, tmp_path / "out")
    record = json.loads((tmp_path / "out/import.json").read_text())
    centers = {p["patient"]: p["bone_center"] for p in record["patients"]}
    assert centers == {"049": 700, "050": 800}
    assert all(p["agreement"] > 0.93 for p in record["patients"])
    assert record["contradictory_rows"] == ["hemorrhage_diagnosis.csv: patient 050, slice 1"]
    assert record["slices_written"] == 5
    assert record["unmatched"] == {"bone": 1, "image": 1, "label": 1}


def test_a_bone_window_of_another_section_is_no_bone_window(src: Path, tmp_path: Path) -> None:
    turned = Image.open(src / "Patients_CT/049/bone/2.jpg").transform(
        (SIZE, SIZE), Image.Transform.AFFINE, (1, 0, 9, 0, 1, 9)
    )
    turned.save(src / "Patients_CT/049/bone/2.jpg", quality=97)
    source = import_ct_ich(src, tmp_path / "out")
    rows = pd.read_csv(tmp_path / "out/unmatched.csv").set_index("sop_uid")
    assert rows.loc[slice_uid("049", 2), "lacks"] == "bone"
    assert sorted(p.name for p in (source.images / "049").iterdir()) == ["1.dcm", "4.dcm"]


def test_a_bone_window_of_an_unknown_centre_is_none(src: Path, tmp_path: Path) -> None:
    for number in (1, 2, 4):
        save_slice(src, "049", number, bone_center=900)
    source = import_ct_ich(src, tmp_path / "out")
    assert not (source.images / "049").exists()


def test_undecodable_pictures_and_outlines_are_no_slices(src: Path, tmp_path: Path) -> None:
    broken = src / "Patients_CT/049/brain/1.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    shutil.copy(src / "Patients_CT/049/brain/2.jpg", src / "Patients_CT/049/brain/2_HGE_Seg.jpg")
    source = import_ct_ich(src, tmp_path / "out")
    rows = pd.read_csv(tmp_path / "out/unmatched.csv").set_index("sop_uid")
    assert (
        rows.loc[slice_uid("049", 1), "detail"] == "Patients_CT/049/brain/1.jpg cannot be decoded"
    )
    assert sorted(p.name for p in (source.images / "049").iterdir()) == ["2.dcm", "4.dcm"]


def test_equal_pictures_give_equal_bytes(src: Path, tmp_path: Path) -> None:
    import_ct_ich(src, tmp_path / "one")
    import_ct_ich(src, tmp_path / "two")
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_an_interrupted_import_resumes_to_the_same_bytes(src: Path, tmp_path: Path) -> None:
    def stops_after_one(folders: Iterable[Path]) -> Iterable[Path]:
        yield next(iter(folders))
        raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        import_ct_ich(src, out, stops_after_one)
    with pytest.raises(DataError, match="no complete CT-ICH import"):
        ct_ich_imported(out)
    first = (out / "dicom/049/1.dcm").stat().st_mtime_ns
    (out / "partial-050").mkdir()
    source = import_ct_ich(src, out)
    assert (out / "dicom/049/1.dcm").stat().st_mtime_ns == first
    assert ct_ich_imported(out) == source
    import_ct_ich(src, tmp_path / "undisturbed")
    assert files(out) == files(tmp_path / "undisturbed")


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ("Epidural", "EDH", "no column Epidural"),
        ("49,1,0", "49,1,2", "label other than 0 and 1"),
        ("49,2,", "49,1,", "patient 049, slice 1 twice"),
    ],
)
def test_a_diagnosis_table_that_does_not_fit_is_refused(
    src: Path, tmp_path: Path, old: str, new: str, names: str
) -> None:
    table = src / "hemorrhage_diagnosis.csv"
    table.write_text(table.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=names):
        import_ct_ich(src, tmp_path / "out")


def test_what_the_layout_lacks_is_named(src: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no table hemorrhage_diagnosis\.csv"):
        import_ct_ich(tmp_path / "nowhere", tmp_path / "out")
    shutil.rmtree(src / "Patients_CT")
    with pytest.raises(DataError, match="no folder Patients_CT"):
        import_ct_ich(src, tmp_path / "out")


@pytest.mark.skipif(
    not os.environ.get("ICH3D_CT_ICH"), reason="ICH3D_CT_ICH names no copy of CT-ICH"
)
def test_real_patients(tmp_path: Path) -> None:
    """Patient 50, exported with centre 800; 81, whose bone windows show other sections; 84 without one."""
    data = Path(os.environ["ICH3D_CT_ICH"])
    src = tmp_path / "source"
    (src / "Patients_CT").mkdir(parents=True)
    shutil.copy(data / "hemorrhage_diagnosis.csv", src)
    for patient in ("050", "081", "084"):
        (src / "Patients_CT" / patient).symlink_to(data / "Patients_CT" / patient)
    source: Source = import_ct_ich(src, tmp_path / "out")

    record = json.loads((tmp_path / "out/import.json").read_text())
    found = {p["patient"]: (p["bone_center"], len(p["written"])) for p in record["patients"]}
    assert found == {"050": (800, 25), "081": (700, 27), "084": (700, 35)}
    assert record["contradictory_rows"] == []
    rows = pd.read_csv(tmp_path / "out/unmatched.csv").set_index("sop_uid")
    assert rows.loc[slice_uid("084", 36), "detail"] == "Patients_CT/084/bone/36.jpg is missing"
    assert rows.loc[slice_uid("050", 22), "lacks"] == "image"
    hu = pydicom.dcmread(source.images / "050" / "14.dcm").pixel_array
    assert hu.min() == -1000
    assert 20 < np.median(hu[(hu > 0) & (hu < 90)]) < 50
    assert source.labels is not None
    assert list(read_labels(source.labels).columns) == list(LABELS)
