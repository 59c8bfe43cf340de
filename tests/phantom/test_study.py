"""Phantom studies on disk: valid, labelled, reproducible, and not solved by counting voxels."""

import csv
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from scipy.ndimage import binary_erosion, binary_fill_holes
from sklearn.metrics import roc_auc_score

from ich3d.config.schema import PhantomConfig
from ich3d.core.errors import ConfigError
from ich3d.core.labels import LABELS, SUBTYPES
from ich3d.core.seeds import stream
from ich3d.phantom import write_phantoms
from ich3d.phantom.scanner import acquire, add_noise
from ich3d.phantom.study import VISIBLE_MM2, draw_plan
from tests.helpers.leftovers import left_by_a_killed_writer

CONFIG = PhantomConfig(
    studies=4, matrix=64, prevalence=dict.fromkeys(SUBTYPES, 0.5), lookalikes=0.5
)

# Attributes of type 1 and of type 2 in the modules of PS3.3 A.3 that a CT image must have.
TYPE_1 = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "Modality", "SeriesInstanceUID",
    "FrameOfReferenceUID", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient",
    "ImageType", "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation", "PixelData", "RescaleIntercept", "RescaleSlope",
)  # fmt: skip
TYPE_2 = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
    "StudyID", "ReferringPhysicianName", "AccessionNumber", "SeriesNumber",
    "PositionReferenceIndicator", "SliceThickness", "KVP", "InstanceNumber", "Manufacturer",
    "AcquisitionNumber",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four studies; not to be changed."""
    folder = tmp_path_factory.mktemp("phantoms")
    assert list(write_phantoms(CONFIG, 7, folder)) == [1, 2, 3, 4]
    return folder


def write_all(config: PhantomConfig, seed: int, folder: Path) -> Path:
    assert list(write_phantoms(config, seed, folder))[-1] == config.studies
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def slices(folder: Path) -> list[pydicom.FileDataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.rglob("*.dcm"))]


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_every_file_is_valid_ct_image_storage(folder: Path) -> None:
    datasets = slices(folder)
    for ds in datasets:
        assert ds.file_meta.MediaStorageSOPClassUID == pydicom.uid.CTImageStorage
        assert all(keyword in ds and ds[keyword].value not in ("", None) for keyword in TYPE_1)
        assert all(keyword in ds for keyword in TYPE_2)
        for uid in (ds.SOPInstanceUID, ds.SeriesInstanceUID, ds.StudyInstanceUID):
            assert pydicom.uid.UID(uid).is_valid
        assert ds.pixel_array.shape == (64, 64)
        assert ds.pixel_array.min() >= -1024
    assert len({ds.SOPInstanceUID for ds in datasets}) == len(datasets)
    assert len({ds.PatientID for ds in datasets}) == CONFIG.studies
    assert len({ds.SeriesInstanceUID for ds in datasets}) == CONFIG.studies


def test_labels_are_in_rsna_form_and_agree_with_the_truth(folder: Path) -> None:
    labels = rows(folder / "labels.csv")
    truth = rows(folder / "truth.csv")
    assert len(labels) == 6 * len(truth) == 6 * len(slices(folder))

    value = {row["ID"]: int(row["Label"]) for row in labels}
    for index, row in enumerate(truth):
        uid = row["sop_uid"]
        of_slice = labels[6 * index : 6 * index + 6]
        assert [label_row["ID"] for label_row in of_slice] == [f"{uid}_{label}" for label in LABELS]
        present = [value[f"{uid}_{name}"] for name in SUBTYPES]
        assert present == [int(float(row[f"{name}_mm2"]) >= VISIBLE_MM2) for name in SUBTYPES]
        assert value[f"{uid}_any"] == max(present)
    assert 0 < sum(value.values()) < len(value)


def test_the_truth_numbers_slices_by_position(folder: Path) -> None:
    by_uid = {ds.SOPInstanceUID: ds for ds in slices(folder)}
    heights: dict[str, list[float]] = {}
    for row in rows(folder / "truth.csv"):
        ds = by_uid[row["sop_uid"]]
        iop = np.array(ds.ImageOrientationPatient, float)
        height = float(np.cross(iop[:3], iop[3:]) @ np.array(ds.ImagePositionPatient, float))
        assert height == pytest.approx(float(row["z_mm"]), abs=0.01)
        assert ds.SeriesInstanceUID == row["volume_id"]
        heights.setdefault(row["volume_id"], []).append(height)
        assert int(row["index"]) == len(heights[row["volume_id"]]) - 1
    assert len(heights) == CONFIG.studies
    assert all(np.all(np.diff(z) > 0) for z in heights.values())


def test_file_names_carry_no_order(folder: Path) -> None:
    studies = sorted(folder.glob("study-*"))
    assert len(studies) == CONFIG.studies
    for study in studies:
        headers = [
            pydicom.dcmread(path, stop_before_pixels=True) for path in sorted(study.rglob("*.dcm"))
        ]
        z = [float(header.ImagePositionPatient[2]) for header in headers]
        assert abs(np.corrcoef(np.arange(len(z)), z)[0, 1]) < 0.7


def test_a_rotated_series_holds_the_same_head(tmp_path: Path) -> None:
    """Whichever way rows and columns point, the head lies where the patient's is."""
    config = PhantomConfig(
        studies=9, matrix=32, lookalikes=0, prevalence=dict.fromkeys(SUBTYPES, 0.0)
    )
    write_all(config, 3, tmp_path)
    directions, numbered_upward = set(), set()
    for study in sorted(tmp_path.glob("study-*")):
        series = [pydicom.dcmread(path) for path in study.rglob("*.dcm")]
        series.sort(key=lambda ds: float(ds.ImagePositionPatient[2]))
        numbered_upward.add(series[0].InstanceNumber < series[-1].InstanceNumber)
        x, y, _ = np.mean([head_centre(ds) for ds in series[5:15]], axis=0)
        assert abs(x) < 15
        assert abs(y) < 25
        directions.add(float(series[0].ImageOrientationPatient[0]))
    assert directions == {1.0, -1.0}
    assert numbered_upward == {True, False}


def head_centre(ds: pydicom.FileDataset) -> np.ndarray:
    """The head's centre of area (3,) in patient millimetres."""
    row, column = (axis.mean() for axis in np.nonzero(ds.pixel_array > -300))
    iop, spacing = np.array(ds.ImageOrientationPatient, float), np.array(ds.PixelSpacing, float)
    corner = np.array(ds.ImagePositionPatient, float)
    centre: np.ndarray = corner + column * spacing[1] * iop[:3] + row * spacing[0] * iop[3:]
    return centre


def test_a_seed_gives_the_same_bytes_and_no_study_depends_on_another(
    folder: Path, tmp_path: Path
) -> None:
    fewer = replace(CONFIG, studies=2)
    again = contents(write_all(fewer, 7, tmp_path / "a"))
    other = contents(write_all(fewer, 8, tmp_path / "b"))
    files = {name: data for name, data in again.items() if name.endswith(".dcm")}
    assert files
    assert files.items() <= contents(folder).items()
    assert not set(files.values()) & set(other.values())


def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    config = replace(CONFIG, studies=8, matrix=32)
    alone = contents(write_all(config, 7, tmp_path / "alone"))
    assert list(write_phantoms(config, 7, tmp_path / "two", workers=2)) == list(range(1, 9))
    assert contents(tmp_path / "two") == alone


def test_an_interrupted_run_resumes_to_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    run = write_phantoms(CONFIG, 7, tmp_path)
    assert isinstance(run, Generator)
    assert next(run) == 1
    run.close()
    assert not (tmp_path / "labels.csv").exists()
    left_by_a_killed_writer(tmp_path)
    write_all(CONFIG, 7, tmp_path)
    assert contents(tmp_path) == contents(folder)


def test_a_wrong_prevalence_stops_before_anything_is_written(tmp_path: Path) -> None:
    config = PhantomConfig(studies=1, matrix=32, prevalence={"subdurl": 0.5})
    with pytest.raises(ConfigError, match="subdurl"):
        next(write_phantoms(config, 0, tmp_path))
    assert contents(tmp_path) == {}


def bright_mm2(hu: np.ndarray, pixel_mm: float) -> float:
    """Area of 50 to 90 HU inside the skull of one slice."""
    bone = hu > 150
    inside = binary_erosion(binary_fill_holes(bone) & ~bone)
    return float(((hu >= 50) & (hu <= 90) & inside).sum() * pixel_mm**2)


@pytest.mark.slow
@pytest.mark.parametrize("prevalence", [{}, dict.fromkeys(SUBTYPES, 0.25)], ids=["rsna", "flat"])
def test_counting_bright_voxels_reaches_at_most_085_auc(prevalence: dict[str, float]) -> None:
    config = PhantomConfig(matrix=128, prevalence=prevalence)
    areas: list[float] = []
    labels: list[bool] = []
    for study in range(60):
        rng = stream(0, "phantom", study)
        plan = draw_plan(config, rng)
        acquisition = acquire(plan.head, plan.findings, plan.geometry, plan.scanner)
        hu = add_noise(acquisition.hu, plan.geometry, plan.scanner, rng)
        areas += [bright_mm2(image, plan.geometry.pixel_mm) for image in hu]
        visible = acquisition.area_mm2[: len(plan.bleeds)] >= VISIBLE_MM2  # (bleeds, Z)
        labels += np.max(visible, axis=0, initial=False).tolist()
    assert roc_auc_score(labels, areas) <= 0.85
