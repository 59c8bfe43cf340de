"""Heat maps as DICOM Parametric Maps: read back, each sign lies where it lay in the patient."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pydicom
import pytest
from highdicom.pm.sop import pmread
from pydicom.uid import ParametricMapStorage

from ich3d.core.issues import IssueCode
from ich3d.core.labels import LABELS, STAGES, label_index
from ich3d.core.types import Rejected
from ich3d.dicom.write import SeriesToWrite, write_series
from ich3d.export.dicom_heat import dicom_heat_writer, slices_with_heat, write_heat_maps
from ich3d.inference.scoring import SeriesPrediction
from tests.helpers.dicom_results import (
    EQUIPMENT,
    MODEL_SHA256,
    PATIENT_AND_STUDY,
    dciodvfy_errors,
    predicted_series,
    raw_values,
    text_without_times,
    write_enhanced,
)
from tests.helpers.series import edit

if TYPE_CHECKING:
    from ich3d.model.folder import Model

BLEED_HU = 2000
BRIGHTEST = 0.9
"""Share of the largest value above which a pixel belongs to the bleed, or to its heat."""


def bleeding_head(make_head: Callable[..., SeriesToWrite]) -> SeriesToWrite:
    """A head that bleeds in slices 2 and 3, to the left and in front of its middle."""
    plain = make_head("bleeds", extra={**PATIENT_AND_STUDY, **EQUIPMENT})
    side_mm = (np.arange(64) - 31.5) * 4.0
    hu = plain.hu.copy()
    hu[2:4, np.hypot(side_mm[:, None] + 34.0, side_mm[None] - 22.0) < 9.0] = BLEED_HU
    return replace(plain, hu=hu)


def scored(series: SeriesToWrite, folder: Path) -> SeriesPrediction:
    """The series, written to `folder`, with subdural blood in the two slices that bleed."""
    write_series(series, folder)
    return predicted_series(folder, (2, "subdural", 0.9), (3, "subdural", 0.9))


def heat_of(prediction: SeriesPrediction, *labels: str) -> dict[tuple[int, int], np.ndarray]:
    """Heat (H, W) where the prepared slices that bleed have the HU of the bleed."""
    bright = (prediction.series.hu / BLEED_HU).clip(0, 1).astype(np.float32)  # (Z, H, W)
    bleeds = [index for index, image in enumerate(bright) if image.max() > BRIGHTEST]
    return {(index, label_index(label)): bright[index] for index in bleeds for label in labels}


def write_maps(
    prediction: SeriesPrediction, folder: Path, *labels: str
) -> tuple[Path, ...] | Rejected:
    folder.mkdir(parents=True, exist_ok=True)
    heat = heat_of(prediction, *(labels or ("subdural",)))
    return write_heat_maps(prediction, heat, folder, MODEL_SHA256)


def write_map(prediction: SeriesPrediction, folder: Path) -> Path:
    """The only map of a series that must not be rejected."""
    paths = write_maps(prediction, folder)
    assert not isinstance(paths, Rejected), paths
    (path,) = paths
    return path


def brightest_mm(
    pixels: np.ndarray, position: list[float], orientation: list[float], spacing: list[float]
) -> np.ndarray:
    """Centres (N, 3) of the brightest pixels of one image (Y, X), in LPS mm (PS3.3 C.7.6.2.1.1)."""
    rows, columns = np.nonzero(pixels > BRIGHTEST * pixels.max())
    row_dir, col_dir = np.reshape(np.array(orientation, dtype=float), (2, 3))
    down, right = (float(mm) for mm in spacing)
    from_first_mm = np.outer(columns * right, row_dir) + np.outer(rows * down, col_dir)
    return np.asarray(np.array(position, dtype=float) + from_first_mm)


def bleed_mm(folder: Path) -> np.ndarray:
    """The middle of the bleed in the CT files of `folder` (3,), in LPS millimetres."""
    files = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    centers_mm = np.concatenate([
        brightest_mm(ct.pixel_array, ct.ImagePositionPatient, ct.ImageOrientationPatient,
                     ct.PixelSpacing)
        for ct in files if ct.pixel_array.max() == BLEED_HU
    ])  # fmt: skip
    return np.asarray(centers_mm.mean(axis=0))


def heat_mm(path: Path) -> np.ndarray:
    """The middle of the strongest heat of a map (3,), in LPS millimetres."""
    heat_map = pydicom.dcmread(path)
    (shared,) = heat_map.SharedFunctionalGroupsSequence
    orientation = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    spacing = shared.PixelMeasuresSequence[0].PixelSpacing
    frames = zip(heat_map.PerFrameFunctionalGroupsSequence, heat_map.pixel_array, strict=True)
    centers_mm = np.concatenate([
        brightest_mm(pixels, frame.PlanePositionSequence[0].ImagePositionPatient, orientation,
                     spacing)
        for frame, pixels in frames if pixels.any()
    ])  # fmt: skip
    return np.asarray(centers_mm.mean(axis=0))


def turned(series: SeriesToWrite, row_dir: object, col_dir: object) -> SeriesToWrite:
    """The same images, acquired with other directions of rows, columns and slices."""
    across, down = np.array(row_dir, dtype=float), np.array(col_dir, dtype=float)
    axes = np.array([across, down, np.cross(across, down)])  # (3, 3)
    return replace(
        series, position_mm=series.position_mm @ axes,
        row_dir=tuple(across.tolist()), col_dir=tuple(down.tolist()),
    )  # fmt: skip


def oblique(series: SeriesToWrite) -> SeriesToWrite:
    cos, sin = np.cos(0.3), np.sin(0.3)
    return turned(series, (cos, sin * sin, -sin * cos), (0.0, cos, sin))


def tilted(series: SeriesToWrite) -> SeriesToWrite:
    """Of a tilted gantry: each slice lies farther back than the one below."""
    drift_mm = np.outer(np.arange(len(series.hu)), (0.0, 1.5, 0.0))
    return replace(series, position_mm=series.position_mm + drift_mm)


def oblong(series: SeriesToWrite) -> SeriesToWrite:
    """Neither images nor pixels are square."""
    return replace(series, hu=series.hu[:, 4:, 9:].copy(), pixel_spacing_mm=(4.0, 3.5))


ACQUIRED = {
    "as usual": lambda series: series,
    "feet first": lambda series: turned(series, (-1, 0, 0), (0, 1, 0)),
    "prone": lambda series: turned(series, (-1, 0, 0), (0, -1, 0)),
    "rows to the back": lambda series: turned(series, (0, 1, 0), (1, 0, 0)),
    "rows to the front": lambda series: turned(series, (0, -1, 0), (1, 0, 0)),
    "oblique": oblique,
    "tilted gantry": tilted,
    "oblong": oblong,
    "oblong, rows to the back": lambda series: turned(oblong(series), (0, 1, 0), (-1, 0, 0)),
}


@pytest.mark.parametrize("acquire", ACQUIRED.values(), ids=ACQUIRED.keys())
def test_the_strongest_heat_lies_where_it_lay_in_the_patient(
    make_head: Callable[..., SeriesToWrite],
    tmp_path: Path,
    acquire: Callable[[SeriesToWrite], SeriesToWrite],
) -> None:
    prediction = scored(acquire(bleeding_head(make_head)), tmp_path / "in")
    path = write_map(prediction, tmp_path / "out")
    # Half a pixel of 4 mm, for the grid's pixels are not those of the source.
    np.testing.assert_allclose(heat_mm(path), bleed_mm(tmp_path / "in"), atol=2.0)


@pytest.fixture
def prediction(make_head: Callable[..., SeriesToWrite], tmp_path: Path) -> SeriesPrediction:
    return scored(bleeding_head(make_head), tmp_path / "in")


@pytest.fixture
def written(prediction: SeriesPrediction, tmp_path: Path) -> Path:
    return write_map(prediction, tmp_path / "out")


def test_each_frame_has_the_geometry_of_its_slice_and_refers_to_it(
    written: Path, tmp_path: Path
) -> None:
    heat_map = pydicom.dcmread(written)
    by_uid = {
        str(ct.SOPInstanceUID): ct for ct in map(pydicom.dcmread, (tmp_path / "in").iterdir())
    }
    assert heat_map.SOPClassUID == ParametricMapStorage
    (shared,) = heat_map.SharedFunctionalGroupsSequence
    references = []
    for frame in heat_map.PerFrameFunctionalGroupsSequence:
        (derived,) = frame.DerivationImageSequence
        (reference,) = derived.SourceImageSequence
        ct = by_uid[reference.ReferencedSOPInstanceUID]
        assert reference.ReferencedSOPClassUID == ct.SOPClassUID
        assert reference.SpatialLocationsPreserved == "YES"
        position = frame.PlanePositionSequence[0].ImagePositionPatient
        assert position == ct.ImagePositionPatient
        orientation = shared.PlaneOrientationSequence[0].ImageOrientationPatient
        assert orientation == ct.ImageOrientationPatient
        assert shared.PixelMeasuresSequence[0].PixelSpacing == ct.PixelSpacing
        assert (heat_map.Rows, heat_map.Columns) == (ct.Rows, ct.Columns)
        assert heat_map.FrameOfReferenceUID == ct.FrameOfReferenceUID
        references.append(reference.ReferencedSOPInstanceUID)
    assert sorted(references) == sorted(by_uid)
    listed = heat_map.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert [str(instance.ReferencedSOPInstanceUID) for instance in listed] == [
        str(instance.ReferencedSOPInstanceUID) for instance in heat_map.SourceImageSequence
    ]
    assert len(listed) == len(by_uid)


def test_highdicom_reads_the_map_back(written: Path, prediction: SeriesPrediction) -> None:
    heat_map = pmread(written)
    volume = heat_map.get_volume(apply_real_world_transform=True)
    assert volume.array.shape == (6, 64, 64)
    assert 0.99 < volume.array.max() <= 1.0
    assert volume.spacing == (5.0, 4.0, 4.0)

    with_heat = {index for index, image in enumerate(volume.array) if image.any()}
    assert with_heat == {2, 3}
    assert len(prediction.series) == 6


@pytest.mark.parametrize("label", LABELS)
def test_the_mapping_names_the_label(
    prediction: SeriesPrediction, tmp_path: Path, label: str
) -> None:
    paths = write_maps(prediction, tmp_path, label)
    assert not isinstance(paths, Rejected)
    (path,) = paths
    assert path.name == f"{prediction.series.volume_id}.heat.{label}.dcm"
    heat_map = pydicom.dcmread(path)
    (mapping,) = heat_map.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence
    assert mapping.LUTLabel == label
    assert label in mapping.LUTExplanation
    assert heat_map.ContentLabel == label.upper()
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1.0, 0.0)
    assert heat_map.DeviceSerialNumber == MODEL_SHA256
    assert heat_map.ContentQualification == "RESEARCH"


def test_dciodvfy_finds_no_error(
    written: Path, make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    assert dciodvfy_errors(written) == []
    prediction = scored(tilted(bleeding_head(make_head)), tmp_path / "tilted")
    assert dciodvfy_errors(write_map(prediction, tmp_path / "tilted_out")) == []

    incomplete = pydicom.dcmread(written)
    del incomplete.ContentQualification
    incomplete.save_as(tmp_path / "incomplete.dcm")
    assert dciodvfy_errors(tmp_path / "incomplete.dcm")


def test_only_patient_and_study_are_copied_from_the_source(written: Path, tmp_path: Path) -> None:
    keywords = (*PATIENT_AND_STUDY, "PatientID", "StudyInstanceUID")
    assert raw_values(written, *keywords) == raw_values(tmp_path / "in" / "0.dcm", *keywords)
    assert pydicom.dcmread(written).Manufacturer == "ich3d"
    assert "Secret Hospital" not in str(pydicom.dcmread(written))


def test_maps_of_a_series_are_one_series_and_the_same_in_every_run(
    prediction: SeriesPrediction, tmp_path: Path
) -> None:
    first = write_maps(prediction, tmp_path / "first", "subdural", "any")
    again = write_maps(prediction, tmp_path / "again", "subdural", "any")
    assert not isinstance(first, Rejected)
    assert not isinstance(again, Rejected)
    assert len(first) == 2
    texts = [[text_without_times(path) for path in paths] for paths in (first, again)]
    assert texts[0] == texts[1]

    maps = [pydicom.dcmread(path) for path in first]
    assert len({heat_map.SeriesInstanceUID for heat_map in maps}) == 1
    assert len({heat_map.SOPInstanceUID for heat_map in maps}) == 2
    assert [heat_map.InstanceNumber for heat_map in maps] == [1, 2]


def test_a_label_without_heat_has_no_map_and_an_older_one_is_deleted(
    prediction: SeriesPrediction, written: Path
) -> None:
    heat = {pair: np.zeros_like(image) for pair, image in heat_of(prediction, "subdural").items()}
    assert write_heat_maps(prediction, heat, written.parent, MODEL_SHA256) == ()
    assert list(written.parent.iterdir()) == []


def test_slices_of_a_label_are_those_of_the_report(prediction: SeriesPrediction) -> None:
    subdural, any_label = label_index("subdural"), label_index("any")
    pairs = [(2, subdural), (2, any_label), (3, subdural), (3, any_label)]
    assert slices_with_heat(prediction) == pairs

    # A subtype without `any` is not flagged.
    prob = prediction.prob["stack"].copy()
    prob[:, any_label] = 0.2
    assert slices_with_heat(replace(prediction, prob={"stack": prob})) == []


def test_frames_of_an_enhanced_file_are_referred_to(
    make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    path = write_enhanced(bleeding_head(make_head), tmp_path / "in")
    prediction = predicted_series(tmp_path / "in", (2, "subdural", 0.9))
    heat_map = pydicom.dcmread(write_map(prediction, tmp_path / "out"))
    ct = pydicom.dcmread(path)
    for frame, pixels in zip(
        heat_map.PerFrameFunctionalGroupsSequence, heat_map.pixel_array, strict=True
    ):
        (reference,) = frame.DerivationImageSequence[0].SourceImageSequence
        assert reference.ReferencedSOPClassUID == ct.SOPClassUID
        source = ct.PerFrameFunctionalGroupsSequence[reference.ReferencedFrameNumber - 1]
        position = source.PlanePositionSequence[0].ImagePositionPatient
        assert frame.PlanePositionSequence[0].ImagePositionPatient == position
        is_bleeding = ct.pixel_array[reference.ReferencedFrameNumber - 1].max() == BLEED_HU
        assert bool(pixels.any()) == is_bleeding
    assert len(heat_map.SourceImageSequence) == 1
    (path,) = (tmp_path / "out").iterdir()
    assert dciodvfy_errors(path) == []


@pytest.mark.parametrize(
    ("value", "code"), [(None, IssueCode.NO_UID), ("1.2.03", IssueCode.INVALID_UID)]
)
def test_without_a_frame_of_reference_there_is_no_map(
    make_head: Callable[..., SeriesToWrite], tmp_path: Path, value: str | None, code: IssueCode
) -> None:
    for path in write_series(bleeding_head(make_head), tmp_path / "in"):
        edit(path, FrameOfReferenceUID=value)
    prediction = predicted_series(tmp_path / "in", (2, "subdural", 0.9))
    rejected = write_maps(prediction, tmp_path / "out")
    assert isinstance(rejected, Rejected)
    assert rejected.code is code
    assert "FrameOfReferenceUID (0020,0052)" in rejected.detail
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_that_is_gone_is_named(prediction: SeriesPrediction, tmp_path: Path) -> None:
    (tmp_path / "in" / "5.dcm").unlink()
    rejected = write_maps(prediction, tmp_path / "out")
    assert isinstance(rejected, Rejected)
    assert rejected.code is IssueCode.UNREADABLE
    assert "5.dcm" in rejected.detail


def test_the_writer_maps_what_the_model_flags(
    model: "Model", prediction: SeriesPrediction, tmp_path: Path
) -> None:
    """Where and how much is tested with the heat maps; here, that they come from the model."""
    prediction = replace(prediction, prob=dict.fromkeys(STAGES, prediction.prob["stack"]))
    writer = dicom_heat_writer(tmp_path / "out", model)
    writer.folder.mkdir()
    assert writer.write([prediction]) == ()
    for path in writer.folder.iterdir():
        pixels = pydicom.dcmread(path).pixel_array
        assert 0.0 < pixels.max() <= 1.0
        assert not pixels[[0, 1, 4, 5]].any()
