"""The types refuse data that breaks their contract, and name slices and files plainly."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ich3d.core.issues import IssueCode
from ich3d.core.types import (
    Acquisition,
    FileRef,
    Issue,
    PreparedSeries,
    Rejected,
    Series,
    SliceEmbeddings,
    SliceHeader,
    SliceKey,
    SliceScores,
    TrainingGroups,
    Volume,
)
from tests.helpers.hu_features import brain_features

NO_GROUPS = TrainingGroups.of([])


def header(number: int, frame: int | None = None) -> SliceHeader:
    """Header of an axial slice of 3 x 2 pixels at z = 5 mm * number."""
    return SliceHeader(
        file=FileRef(Path(f"/data/{number}.dcm"), f"{number}.dcm"),
        sop_uid=f"1.2.{number}",
        series_uid="1.2",
        study_uid="1",
        patient_id="p",
        position_mm=(0.0, 0.0, 5.0 * number),
        row_dir=(1.0, 0.0, 0.0),
        col_dir=(0.0, 1.0, 0.0),
        pixel_spacing_mm=(0.5, 0.5),
        rows=3,
        columns=2,
        slope=1.0,
        intercept=-1024.0,
        bits_stored=12,
        signed=False,
        frame=frame,
    )


SERIES = Series(
    volume_id="1.2",
    series_uid="1.2",
    study_uid="1",
    patient_id="p",
    headers=(header(0), header(1)),
    z_mm=np.array([0.0, 5.0]),
    spacing_mm=5.0,
    tilt_deg=0.0,
    is_regular=True,
)
HU = np.zeros((2, 3, 2), dtype=np.int16)


def test_a_slice_is_named_by_its_file_and_frame() -> None:
    assert header(3).name == "3.dcm"
    assert header(3, frame=2).name == "3.dcm frame 2"


def test_a_multi_frame_file_is_listed_once() -> None:
    headers = (header(0, frame=1), replace(header(1), file=header(0).file, frame=2))
    assert replace(SERIES, headers=headers).paths == ("0.dcm",)
    assert SERIES.paths == ("0.dcm", "1.dcm")


def test_a_series_is_rejected_with_all_its_files() -> None:
    rejected = SERIES.reject(Issue(IssueCode.NO_HEAD, "no head was found"))
    expected = Rejected("1.2", IssueCode.NO_HEAD, "no head was found", ("0.dcm", "1.dcm"))
    assert rejected == expected


@pytest.mark.parametrize("z_mm", [[0.0], [5.0, 0.0], [0.0, 0.0]])
def test_the_positions_of_a_series_increase_one_for_each_header(z_mm: list[float]) -> None:
    with pytest.raises(ValueError, match=r"positions|must increase"):
        replace(SERIES, z_mm=np.array(z_mm))


@pytest.mark.parametrize("hu", [HU[:1], HU[0], HU.astype(np.float32)])
def test_the_pixels_of_a_volume_fit_its_headers(hu: np.ndarray) -> None:
    assert len(Volume(SERIES, HU, None).hu) == len(SERIES)
    with pytest.raises(ValueError, match=r"hu must be int16|slices of pixels"):
        Volume(SERIES, hu, None)


def test_a_volume_has_a_key_for_each_slice() -> None:
    keys = Volume(SERIES, HU, None).keys
    assert keys == (SliceKey("1.2.0", None, "0.dcm"), SliceKey("1.2.1", None, "1.dcm"))


PREPARED = PreparedSeries(
    volume_id="1.2",
    series_uid="1.2",
    study_uid="1",
    patient_id="p0123456789ab",
    z_mm=np.array([0.0, 5.0]),
    keys=(SliceKey("1.2.0", None, "0.dcm"), SliceKey("1.2.1", None, "1.dcm")),
    slice_hashes=("a", "b"),
    hu_features=brain_features(2),
    issues=(),
    acquisition=Acquisition(2, 5.0, 5.0, 0.0, True, 3, 2, 0.5, ()),
    preprocessing_sha256="",
    files_sha256="",
    hu=HU,
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hu": HU[:1]}, "1 slices of pixels for 2 keys"),
        ({"hu": HU.astype(np.float32)}, "hu must be int16"),
        ({"z_mm": np.array([0.0])}, "must have the same number of slices"),
        ({"slice_hashes": ("a",)}, "must have the same number of slices"),
        ({"hu_features": brain_features(1)}, "must have the same number of slices"),
        ({"z_mm": np.array([5.0, 0.0])}, "must increase from inferior to superior"),
    ],
)
def test_the_parts_of_a_prepared_series_fit_each_other(
    changes: dict[str, Any], message: str
) -> None:
    assert len(PREPARED) == 2
    with pytest.raises(ValueError, match=message):
        replace(PREPARED, **changes)


def test_training_groups_are_a_set_with_a_hash() -> None:
    groups = TrainingGroups.of(["b", "a", "b"])
    assert "a" in groups
    assert "c" not in groups
    assert groups == TrainingGroups.of(["a", "b"])
    assert groups.sha256 == TrainingGroups.of(["a", "b"]).sha256
    assert groups.sha256 != TrainingGroups.of(["a"]).sha256


def test_logits_have_six_labels_for_each_slice() -> None:
    embeddings = np.zeros((2, 4), dtype=np.float32)
    logits = np.zeros((2, 6), dtype=np.float32)
    features = brain_features(2)
    assert len(SliceEmbeddings("1.2", embeddings, logits, features, "encoder 0", NO_GROUPS)) == 2
    for other in (logits[:1], logits[:, :5]):
        with pytest.raises(ValueError, match=r"logits must be \(Z, 6\)"):
            SliceEmbeddings("1.2", embeddings, other, features, "encoder 0", NO_GROUPS)
    with pytest.raises(ValueError, match="1 rows of hu_features for 2 embeddings"):
        SliceEmbeddings("1.2", embeddings, logits, features[:1], "encoder 0", NO_GROUPS)


def test_scores_are_probabilities_of_a_known_stage() -> None:
    prob = np.full((2, 6), 0.5)
    with pytest.raises(ValueError, match="stage must be one of"):
        SliceScores("1.2", "booster", prob, NO_GROUPS)
    with pytest.raises(ValueError, match=r"prob must be \(Z, 6\)"):
        SliceScores("1.2", "stack", prob[:, :5], NO_GROUPS)
    for outside in (prob * 3, -prob, prob * np.nan):
        with pytest.raises(ValueError, match=r"outside 0\.\.1"):
            SliceScores("1.2", "stack", outside, NO_GROUPS)


def test_outputs_without_training_groups_cannot_be_made() -> None:
    """An empty default would pass every check for held-out patients."""
    arguments: dict[str, Any] = {"volume_id": "1.2", "stage": "stack", "prob": np.full((2, 6), 0.5)}
    with pytest.raises(TypeError, match="training_groups"):
        SliceScores(**arguments)


def test_a_part_of_embedded_slices_is_a_series_of_its_own() -> None:
    rng = np.random.default_rng(0)
    embeddings, logits = rng.normal(size=(5, 4)), rng.normal(size=(5, 6))
    whole = SliceEmbeddings("1.2", embeddings, logits, brain_features(5), "encoder 0", NO_GROUPS)
    part = whole.part(slice(1, 3))
    assert len(part) == 2
    np.testing.assert_array_equal(part.embeddings, embeddings[1:3])
    np.testing.assert_array_equal(part.hu_features, brain_features(5)[1:3])
    assert (part.volume_id, part.encoder_id) == ("1.2", "encoder 0")
