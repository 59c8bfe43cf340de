"""Phantom studies on disk: valid, labelled, repeatable."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from ich3d.config.schema import PhantomConfig
from ich3d.core.errors import ConfigError
from ich3d.core.labels import LABELS, SUBTYPES
from ich3d.phantom import write_phantoms
from ich3d.phantom.study import VISIBLE_MM2

CONFIG = PhantomConfig(
    studies=4, matrix=64, prevalence=dict.fromkeys(SUBTYPES, 0.5), lookalikes=0.5
)

# Attributes of type 1 and of type 2 in the modules of PS3.3 A.3 that a CT image must have.
TYPE_1 = (
    *(
        "SOPClassUID",
        "SOPInstanceUID",
        "StudyInstanceUID",
        "Modality",
        "SeriesInstanceUID",
        "FrameOfReferenceUID",
    ),
    *(
        "PixelSpacing",
        "ImageOrientationPatient",
        "ImagePositionPatient",
        "ImageType",
        "SamplesPerPixel",
    ),
    *("PhotometricInterpretation", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit"),
    *("PixelRepresentation", "PixelData", "RescaleIntercept", "RescaleSlope"),
)
TYPE_2 = (
    *(
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyDate",
        "StudyTime",
        "StudyID",
    ),
    *("ReferringPhysicianName", "AccessionNumber", "SeriesNumber", "PositionReferenceIndicator"),
    *("SliceThickness", "KVP", "InstanceNumber", "Manufacturer", "AcquisitionNumber"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("phantoms")
    assert list(write_phantoms(CONFIG, 7, place)) == [1, 2, 3, 4]
    return place


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def slices(folder: Path) -> list[pydicom.FileDataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.rglob("*.dcm"))]


def test_every_file_is_valid_ct_image_storage(folder: Path) -> None:
    found = slices(folder)
    for ds in found:
        assert ds.file_meta.MediaStorageSOPClassUID == pydicom.uid.CTImageStorage
        assert all(keyword in ds and ds[keyword].value not in ("", None) for keyword in TYPE_1)
        assert all(keyword in ds for keyword in TYPE_2)
        assert all(
            pydicom.uid.UID(u).is_valid
            for u in (ds.SOPInstanceUID, ds.SeriesInstanceUID, ds.StudyInstanceUID)
        )
        assert ds.pixel_array.shape == (64, 64)
        assert ds.pixel_array.min() >= -1024
    assert len({ds.SOPInstanceUID for ds in found}) == len(found)
    assert (
        len({ds.PatientID for ds in found})
        == len({ds.SeriesInstanceUID for ds in found})
        == CONFIG.studies
    )


def test_labels_are_rsna_rows_that_agree_with_the_truth(folder: Path) -> None:
    labels = rows(folder / "labels.csv")
    truth = rows(folder / "truth.csv")
    assert len(labels) == 6 * len(truth) == 6 * len(slices(folder))
    value = {row["ID"]: int(row["Label"]) for row in labels}
    for at, row in enumerate(truth):
        uid = row["sop_uid"]
        assert [r["ID"] for r in labels[6 * at : 6 * at + 6]] == [
            f"{uid}_{label}" for label in LABELS
        ]
        present = [value[f"{uid}_{name}"] for name in SUBTYPES]
        assert present == [int(float(row[f"{name}_mm2"]) >= VISIBLE_MM2) for name in SUBTYPES]
        assert value[f"{uid}_any"] == max(present)
    assert 0 < sum(value.values()) < len(value)


def test_truth_names_its_slices_by_place(folder: Path) -> None:
    by_uid = {ds.SOPInstanceUID: ds for ds in slices(folder)}
    heights: dict[str, list[float]] = {}
    for row in rows(folder / "truth.csv"):
        ds = by_uid[row["sop_uid"]]
        iop = np.array(ds.ImageOrientationPatient, float)
        along = float(np.cross(iop[:3], iop[3:]) @ np.array(ds.ImagePositionPatient, float))
        assert along == pytest.approx(float(row["z_mm"]), abs=0.01)
        assert ds.SeriesInstanceUID == row["volume_id"]
        heights.setdefault(row["volume_id"], []).append(along)
        assert int(row["index"]) == len(heights[row["volume_id"]]) - 1
    assert all(np.all(np.diff(z) > 0) for z in heights.values())


def test_file_names_carry_no_order(folder: Path) -> None:
    for study in sorted(folder.glob("study-*")):
        paths = sorted(study.rglob("*.dcm"))
        z = [
            float(pydicom.dcmread(path, stop_before_pixels=True).ImagePositionPatient[2])
            for path in paths
        ]
        assert abs(np.corrcoef(np.arange(len(z)), z)[0, 1]) < 0.7


def test_a_turned_series_holds_the_same_head(tmp_path: Path) -> None:
    """Whatever way rows and columns point, the head's middle lies where the patient's does."""
    config = PhantomConfig(
        studies=9, matrix=32, lookalikes=0, prevalence=dict.fromkeys(SUBTYPES, 0.0)
    )
    for _ in write_phantoms(config, 3, tmp_path):
        pass
    directions, orders = set(), set()
    for study in sorted(tmp_path.glob("study-*")):
        found = [pydicom.dcmread(path) for path in study.rglob("*.dcm")]
        found.sort(key=lambda ds: float(ds.ImagePositionPatient[2]))
        orders.add(found[0].InstanceNumber < found[-1].InstanceNumber)
        centres = [head_centre(ds) for ds in found[5:15]]
        assert np.abs(np.mean(centres, axis=0)[0]) < 15
        assert np.abs(np.mean(centres, axis=0)[1]) < 25
        directions.add(float(found[0].ImageOrientationPatient[0]))
    assert directions == {1.0, -1.0}
    assert orders == {True, False}


def head_centre(ds: pydicom.FileDataset) -> np.ndarray:
    """The head's centre of area in patient millimetres."""
    r, c = (axis.mean() for axis in np.nonzero(ds.pixel_array > -300))
    iop, spacing = np.array(ds.ImageOrientationPatient, float), np.array(ds.PixelSpacing, float)
    centre: np.ndarray = (
        np.array(ds.ImagePositionPatient, float)
        + c * spacing[1] * iop[:3]
        + r * spacing[0] * iop[3:]
    )
    return centre


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def test_one_seed_the_same_bytes_and_no_study_depends_on_another(
    folder: Path, tmp_path: Path
) -> None:
    fewer = replace(CONFIG, studies=2)
    for seed, name in ((7, "a"), (8, "b")):
        for _ in write_phantoms(fewer, seed, tmp_path / name):
            pass
    whole, again, other = contents(folder), contents(tmp_path / "a"), contents(tmp_path / "b")
    files = {name: data for name, data in again.items() if name.endswith(".dcm")}
    assert files.items() <= whole.items()
    assert not set(files.values()) & set(other.values())


def test_an_interrupted_run_resumes_to_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    run = write_phantoms(CONFIG, 7, tmp_path)
    next(run)
    run.close()
    assert not (tmp_path / "labels.csv").exists()
    (tmp_path / ".study-0001.partial").mkdir()
    for _ in write_phantoms(CONFIG, 7, tmp_path):
        pass
    assert contents(tmp_path) == contents(folder)


def test_a_wrong_prevalence_stops_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="subdurl"):
        next(
            write_phantoms(
                PhantomConfig(studies=1, matrix=32, prevalence={"subdurl": 0.5}), 0, tmp_path
            )
        )
    assert contents(tmp_path) == {}
