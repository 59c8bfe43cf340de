"""What the stacker reads: neighbours by millimetres that never wrap, columns that are found by name."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ich3d.core.labels import LABELS, SUBTYPES
from ich3d.core.metrics import logit, sigmoid
from ich3d.stack.features import build_features, columns_of, reads

REACH_MM = 15.0


def scores(count: int, seed: int = 0) -> np.ndarray:
    """Probabilities whose logits have three decimals."""
    return sigmoid(np.random.default_rng(seed).integers(-4000, 4000, (count, 6)) / 1000)


@pytest.mark.parametrize("side", ["below", "above"])
def test_neighbours_beyond_the_ends_are_missing(side: str) -> None:
    prob = scores(8)
    table = build_features({"encoder": prob}, 5.0 * np.arange(8), REACH_MM)
    for k, label in enumerate(LABELS):
        own = logit(prob[:, k])
        for steps in (1, 2, 3):
            found = table[f"encoder.{label}.{side}_{5 * steps}mm"].to_numpy()
            nothing = np.full(steps, np.nan)
            expected = [nothing, own[:-steps]] if side == "below" else [own[steps:], nothing]
            np.testing.assert_allclose(found, np.concatenate(expected), atol=1e-5)


def test_neighbours_are_found_by_millimetres_and_not_by_index() -> None:
    """Slices of 2.5 mm: the neighbour at 5 mm is the second next one."""
    prob = scores(9)
    table = build_features({"encoder": prob}, 2.5 * np.arange(9), REACH_MM)
    np.testing.assert_allclose(
        table["encoder.any.above_5mm"].to_numpy()[:-2], logit(prob[2:, 5]), atol=1e-5
    )


def test_every_column_tells_what_it_reads_and_at_which_offset() -> None:
    table = build_features(
        {"encoder": scores(9), "context": scores(9, 1)}, 5.0 * np.arange(9), REACH_MM
    )
    kinds = {column: reads(column) for column in table}
    assert {kind for kind, _ in kinds.values()} == {"own", "neighbour", "near", "series", "place"}
    for column, (kind, offset) in kinds.items():
        if kind == "neighbour":
            own = table[f"{column.rpartition('.')[0]}.own"]
            shifted = own.shift(-round(offset / 5))
            np.testing.assert_allclose(table[column], shifted, atol=1e-5)
        else:
            assert offset == 0 if kind == "own" else np.isnan(offset)
    assert [kind for kind, _ in kinds.values()].count("neighbour") == 2 * 6 * 6


def test_a_missing_slice_is_bridged_in_a_straight_line() -> None:
    prob, z_mm = scores(3), np.array([0.0, 10.0, 15.0])
    found = build_features({"encoder": prob}, z_mm, REACH_MM)["encoder.any.above_5mm"].to_numpy()
    own = logit(prob[:, 5])
    np.testing.assert_allclose(found, [(own[0] + own[1]) / 2, own[2], np.nan], atol=2e-3)


@given(count=st.integers(2, 40), seed=st.integers(0, 1000), step=st.sampled_from([1.25, 2.5, 5.0]))
def test_positions_rounded_in_their_headers_read_the_same_neighbours(
    count: int, seed: int, step: float
) -> None:
    """A neighbour one step off at a series' end is there, or missing, whatever the last digit says."""
    prob, z_mm = scores(count, seed), step * np.arange(count)
    rounded = z_mm + np.random.default_rng(seed).uniform(-0.01, 0.01, count)
    one, two = (build_features({"encoder": prob}, at, REACH_MM) for at in (z_mm, rounded))
    np.testing.assert_array_equal(one.isna(), two.isna())
    scored = [name for name in one if "." in name]
    np.testing.assert_allclose(two[scored], one[scored], atol=0.02 * 8 / step + 1e-3)


def test_place_by_hand() -> None:
    table = build_features({}, np.array([-10.0, -5.0, 2.5]), REACH_MM)
    expected = {
        "gap_below_mm": [np.nan, 5.0, 7.5],
        "gap_above_mm": [5.0, 7.5, np.nan],
        "from_top_mm": [12.5, 7.5, 0.0],
        "from_bottom_mm": [0.0, 5.0, 12.5],
        "relative_index": [0.0, 0.5, 1.0],
        "n_slices": [3.0, 3.0, 3.0],
    }
    assert list(table) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(table[name], values)


def test_statistics_of_the_series_by_hand() -> None:
    prob = scores(9)
    table = build_features({"context": prob}, 5.0 * np.arange(9), REACH_MM)
    own = logit(prob[:, 5])
    top = np.sort(own)[::-1]
    np.testing.assert_allclose(table["context.any.series_max"], top[0], atol=1e-3)
    np.testing.assert_allclose(table["context.any.series_top3"], top[:3].mean(), atol=1e-3)
    np.testing.assert_allclose(table["context.any.series_mean"], own.mean(), atol=1e-3)
    assert table["context.any.near_mean"][4] == pytest.approx(own[1:8].mean(), abs=1e-3)
    assert table["context.any.near_max"][0] == pytest.approx(own[:4].max(), abs=1e-3)


@given(count=st.integers(1, 12), seed=st.integers(0, 1000))
def test_a_column_belongs_to_its_own_label_and_stage(count: int, seed: int) -> None:
    """Another label's scores change no column but its own."""
    prob, z_mm = scores(count, seed), 5.0 * np.arange(count)
    changed = prob.copy()
    changed[:, LABELS.index("subdural")] = 0.5
    one = build_features({"encoder": prob, "context": prob}, z_mm, REACH_MM)
    two = build_features({"encoder": prob, "context": changed}, z_mm, REACH_MM)
    others = [name for name in one if not name.startswith("context.subdural.")]
    np.testing.assert_array_equal(one[others], two[others])


def test_noise_below_the_rounding_changes_no_feature() -> None:
    prob, z_mm = scores(20), 5.0 * np.arange(20)
    noisy = sigmoid(logit(prob) + np.random.default_rng(1).uniform(-4e-4, 4e-4, prob.shape))
    assert np.abs(noisy - prob).max() > 9e-5
    one, two = (build_features({"encoder": p}, z_mm, REACH_MM) for p in (prob, noisy))
    np.testing.assert_array_equal(one, two)


def test_one_slice_has_features() -> None:
    table = build_features({"encoder": scores(1)}, np.array([3.0]), REACH_MM)
    assert len(table) == 1
    assert np.isnan(table["encoder.any.below_5mm"][0])


@pytest.mark.parametrize("label", SUBTYPES)
def test_a_label_reads_its_own_and_any_in_full_and_the_others_in_place(label: str) -> None:
    names = list(build_features({"encoder": scores(4)}, 5.0 * np.arange(4), REACH_MM))
    found = columns_of(label, names)
    others = [other for other in SUBTYPES if other != label]
    assert {name for name in names if f".{label}." in name or ".any." in name} <= set(found)
    assert {name for name in found if any(f".{other}." in name for other in others)} == {
        f"encoder.{other}.own" for other in others
    }
    assert "gap_below_mm" in found
