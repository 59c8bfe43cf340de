import numpy as np
import pandas as pd

from ich3d.core.labels import ANY, LABELS, STAGES
from ich3d.evaluation.ground_truth import GroundTruth
from ich3d.evaluation.run import OutOfFold
from ich3d.report.run.example_series import ExampleSeries, slabs_mm, typical_series

SUBDURAL, ANY_AT = LABELS.index("subdural"), LABELS.index(ANY)


def result(bleeding: dict[str, int], confidence: dict[str, float], n: int = 10) -> OutOfFold:
    """Series of `n` slices whose first `bleeding[name]` bleed, scored right with `confidence[name]`."""
    table = pd.DataFrame(
        {
            "volume_id": np.repeat(list(bleeding), n),
            "group_id": np.repeat(list(bleeding), n),
            "z_mm": np.tile(5.0 * np.arange(n), len(bleeding)),
            "fold": 0,
        }
    )
    target = np.zeros((len(table), len(LABELS)))
    for start, count in zip(range(0, len(table), n), bleeding.values(), strict=True):
        target[start : start + count, [SUBDURAL, ANY_AT]] = 1
    sure = table["volume_id"].map(confidence).to_numpy()[:, None]
    prob = np.where(target > 0.5, sure, 1 - sure)
    table[list(LABELS)] = target
    return OutOfFold(GroundTruth(table), dict.fromkeys(STAGES, prob))


def test_the_series_with_most_bleeding_slices_and_a_usual_score_is_taken() -> None:
    bleeding = {"a": 9, "b": 3, "c": 5, "d": 2, "e": 8}
    confidence = {"a": 0.51, "b": 0.8, "c": 0.82, "d": 0.84, "e": 0.99}
    trace = typical_series(result(bleeding, confidence))
    assert trace is not None
    assert trace.volume_id == "c"
    assert trace.target[:, ANY_AT].sum() == 5


def test_series_without_bleed_or_with_slices_that_lack_a_label_are_passed_over() -> None:
    scored = result({"a": 0, "b": 9, "c": 1}, {"a": 0.8, "b": 0.8, "c": 0.8})
    scored.truth.table.loc[10, "subdural"] = np.nan
    trace = typical_series(scored)
    assert trace is not None
    assert trace.volume_id == "c"


def test_where_nothing_bleeds_there_is_no_series_to_show() -> None:
    assert typical_series(result({"a": 0, "b": 0}, {"a": 0.8, "b": 0.8})) is None


def test_true_spans_meet_halfway_between_slices() -> None:
    target = np.zeros((4, len(LABELS)))
    target[1:, ANY_AT] = 1
    trace = ExampleSeries("a", 0, np.array([0.0, 4.0, 10.0, 12.0]), target, {})
    assert trace.true_spans_mm(ANY) == [(2.0, 7.0), (7.0, 11.0), (11.0, 13.0)]
    assert trace.true_spans_mm("subdural") == []
    assert trace.shown_labels == [ANY]
    np.testing.assert_array_equal(slabs_mm(np.array([7.0])), [[6.5, 7.5]])


def test_a_strip_runs_from_the_lowest_slice_to_the_highest() -> None:
    for count in (1, 2, 12, 13, 40):
        strip = ExampleSeries(
            "a", 0, np.arange(float(count)), np.zeros((count, len(LABELS))), {}
        ).strip
        assert strip == sorted(set(strip))
        assert len(strip) == min(count, 12)
        assert {0, count - 1} <= set(strip)
