"""Which held-out series the report shows, and which of its slices."""

import numpy as np
import pandas as pd
import pytest

from ich3d.core.ground_truth import GroundTruth
from ich3d.core.labels import ANY, LABELS, STAGES
from ich3d.evaluation.run import OutOfFold
from ich3d.report.run.example_series import ExampleSeries, slabs_mm, typical_series

SUBDURAL_INDEX, ANY_INDEX = LABELS.index("subdural"), LABELS.index(ANY)
SLICES = 10


def out_of_fold(bleeding: dict[str, int], confidence: dict[str, float]) -> OutOfFold:
    """Series of ten slices: the lowest `bleeding` bleed; all are scored with `confidence`."""
    names = np.repeat(list(bleeding), SLICES)
    z_mm = np.tile(5.0 * np.arange(SLICES), len(bleeding))
    table = pd.DataFrame({"volume_id": names, "group_id": names, "z_mm": z_mm, "fold": 0})

    target = np.zeros((len(table), len(LABELS)))
    for number, count in enumerate(bleeding.values()):
        first = number * SLICES
        target[first : first + count, [SUBDURAL_INDEX, ANY_INDEX]] = 1
    table[list(LABELS)] = target

    correct = table["volume_id"].map(confidence).to_numpy()[:, None]
    prob = np.where(target > 0.5, correct, 1 - correct)
    return OutOfFold(GroundTruth(table), dict.fromkeys(STAGES, prob))


def series_at(z_mm: np.ndarray) -> ExampleSeries:
    """A series that bleeds in all slices but the lowest."""
    target = np.zeros((len(z_mm), len(LABELS)))
    target[1:, ANY_INDEX] = 1
    return ExampleSeries("a", 0, z_mm, target, {})


def test_the_series_with_most_bleeding_slices_and_a_typical_loss_is_chosen() -> None:
    bleeding = {"a": 9, "b": 3, "c": 5, "d": 2, "e": 8}
    confidence = {"a": 0.51, "b": 0.8, "c": 0.82, "d": 0.84, "e": 0.99}
    series = typical_series(out_of_fold(bleeding, confidence))
    assert series is not None
    assert series.volume_id == "c"
    assert series.target[:, ANY_INDEX].sum() == 5
    assert series.shown_labels == ["any", "subdural"]
    assert series.subtypes_of(0) == ["subdural"]
    assert series.subtypes_of(9) == []


def test_series_without_a_bleed_or_with_a_missing_label_are_not_chosen() -> None:
    scores = out_of_fold({"a": 0, "b": 9, "c": 1}, {"a": 0.8, "b": 0.8, "c": 0.8})
    scores.truth.table.loc[10, "subdural"] = np.nan  # a slice of b
    series = typical_series(scores)
    assert series is not None
    assert series.volume_id == "c"


def test_without_any_bleed_no_series_is_chosen() -> None:
    assert typical_series(out_of_fold({"a": 0, "b": 0}, {"a": 0.8, "b": 0.8})) is None


def test_positive_spans_meet_halfway_between_slices() -> None:
    series = series_at(np.array([0.0, 4.0, 10.0, 12.0]))
    assert series.true_spans_mm(ANY) == [(2.0, 7.0), (7.0, 11.0), (11.0, 13.0)]
    assert series.true_spans_mm("subdural") == []
    assert series.shown_labels == [ANY]


def test_a_single_slice_has_a_slab_of_one_millimetre() -> None:
    np.testing.assert_array_equal(slabs_mm(np.array([7.0])), [[6.5, 7.5]])


@pytest.mark.parametrize("count", [1, 2, 12, 13, 40])
def test_shown_slices_run_from_the_lowest_to_the_highest(count: int) -> None:
    shown = series_at(np.arange(float(count))).shown_slices
    assert shown == sorted(set(shown))
    assert len(shown) == min(count, 12)
    assert {0, count - 1} <= set(shown)
