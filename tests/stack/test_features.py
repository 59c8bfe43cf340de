"""The stacker's features: neighbours by millimetres that never wrap, columns found by name."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ich3d.config.ablation import STACKER_PARTS
from ich3d.core.labels import LABELS, SUBTYPES, label_index
from ich3d.core.metrics import logit, sigmoid
from ich3d.prepare.hu_features import HU_FEATURES
from ich3d.stack.features import build_features, columns_of, columns_without, describe_column
from tests.helpers.plain_stacker_features import plain_features

REACH_MM = 15.0
ANY = label_index("any")


def random_prob(n_slices: int, seed: int = 0) -> np.ndarray:
    """Probabilities (Z, K) whose logits have three decimals, as many as features keep."""
    logits = np.random.default_rng(seed).integers(-4000, 4000, (n_slices, len(LABELS))) / 1000
    return sigmoid(logits)


@pytest.mark.parametrize("side", ["below", "above"])
def test_neighbours_beyond_the_ends_are_missing(side: str) -> None:
    prob = random_prob(8)
    table = build_features({"encoder": prob}, 5.0 * np.arange(8), REACH_MM)
    for k, label in enumerate(LABELS):
        own = logit(prob[:, k])
        for steps in (1, 2, 3):
            neighbour = table[f"encoder.{label}.{side}_{5 * steps}mm"].to_numpy()
            missing = np.full(steps, np.nan)
            parts = [missing, own[:-steps]] if side == "below" else [own[steps:], missing]
            np.testing.assert_allclose(neighbour, np.concatenate(parts), atol=1e-5)


def test_neighbours_are_found_by_millimetres_and_not_by_index() -> None:
    """In slices of 2.5 mm the neighbour at 5 mm is the second next one."""
    prob = random_prob(9)
    table = build_features({"encoder": prob}, 2.5 * np.arange(9), REACH_MM)
    above = table["encoder.any.above_5mm"].to_numpy()
    np.testing.assert_allclose(above[:-2], logit(prob[2:, ANY]), atol=1e-5)


def test_the_parts_are_all_columns_but_the_slices_own_scores() -> None:
    prob = {"encoder": random_prob(9), "context": random_prob(9, 1)}
    hu = np.zeros((9, len(HU_FEATURES)))
    names = [*map(str, build_features(prob, 5.0 * np.arange(9), REACH_MM, hu))]
    left_out = {part: set(names) - set(columns_without(part, names)) for part in STACKER_PARTS}
    assert left_out.pop("trees") == set()
    in_a_part = {name for columns in left_out.values() for name in columns}
    assert set(names) - in_a_part == {f"{stage}.{label}.own" for stage in prob for label in LABELS}
    assert left_out["position"] == {
        "gap_below_mm", "gap_above_mm", "from_top_mm", "from_bottom_mm", "relative_index",
        "n_slices",
    }  # fmt: skip
    assert len(left_out["hu"]) == 5 * len(HU_FEATURES)
    neighbours = {"below_5mm", "above_15mm", "near_max", "near_mean"}
    assert {f"context.any.{what}" for what in neighbours} <= left_out["neighbours"]
    assert "hu.brain_cm2.below_5mm" in left_out["neighbours"] & left_out["hu"]
    assert left_out["series"] >= {"encoder.any.series_top3", "hu.brain_cm2.series_median"}
    assert not left_out["series"] & left_out["neighbours"]


def test_every_column_is_described_with_its_offset() -> None:
    prob = {"encoder": random_prob(9), "context": random_prob(9, 1)}
    table = build_features(prob, 5.0 * np.arange(9), REACH_MM)
    described = {column: describe_column(column) for column in map(str, table)}
    kinds = [kind for kind, _ in described.values()]
    assert set(kinds) == {"own", "neighbour", "near", "series", "place"}
    assert kinds.count("neighbour") == 2 * 6 * 6  # stages, labels, offsets

    for column, (kind, offset_mm) in described.items():
        if kind == "neighbour":
            own = table[f"{column.rpartition('.')[0]}.own"]
            shifted = own.shift(-round(offset_mm / 5))
            np.testing.assert_allclose(table[column], shifted, atol=1e-5)
        elif kind == "own":
            assert offset_mm == 0
        else:
            assert np.isnan(offset_mm)


def test_across_a_missing_slice_scores_are_interpolated() -> None:
    prob, z_mm = random_prob(3), np.array([0.0, 10.0, 15.0])
    above = build_features({"encoder": prob}, z_mm, REACH_MM)["encoder.any.above_5mm"]
    own = logit(prob[:, ANY])
    np.testing.assert_allclose(above, [(own[0] + own[1]) / 2, own[2], np.nan], atol=2e-3)


@given(
    n_slices=st.integers(2, 40),
    seed=st.integers(0, 1000),
    step_mm=st.sampled_from([1.25, 2.5, 5.0]),
)
def test_positions_rounded_in_headers_read_the_same_neighbours(
    n_slices: int, seed: int, step_mm: float
) -> None:
    """Whether a neighbour near an end of the series exists does not depend on the last digit."""
    prob, z_mm = random_prob(n_slices, seed), step_mm * np.arange(n_slices)
    rounding_mm = np.random.default_rng(seed).uniform(-0.01, 0.01, n_slices)
    exact = build_features({"encoder": prob}, z_mm, REACH_MM)
    rounded = build_features({"encoder": prob}, z_mm + rounding_mm, REACH_MM)

    np.testing.assert_array_equal(exact.isna(), rounded.isna())
    scores = [name for name in map(str, exact) if "." in name]
    tolerance = 0.02 * 8 / step_mm + 1e-3  # logits lie within 8 of each other
    np.testing.assert_allclose(rounded[scores], exact[scores], atol=tolerance)


def test_position_columns_by_hand() -> None:
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
    prob = random_prob(9)
    table = build_features({"context": prob}, 5.0 * np.arange(9), REACH_MM)
    own = logit(prob[:, ANY])
    descending = np.sort(own)[::-1]
    np.testing.assert_allclose(table["context.any.series_max"], descending[0], atol=1e-3)
    np.testing.assert_allclose(table["context.any.series_top3"], descending[:3].mean(), atol=1e-3)
    np.testing.assert_allclose(table["context.any.series_mean"], own.mean(), atol=1e-3)
    assert table["context.any.near_mean"][4] == pytest.approx(own[1:8].mean(), abs=1e-3)
    assert table["context.any.near_max"][0] == pytest.approx(own[:4].max(), abs=1e-3)


@given(n_slices=st.integers(1, 12), seed=st.integers(0, 1000))
def test_a_column_reads_the_label_and_stage_of_its_name(n_slices: int, seed: int) -> None:
    """Other scores of one label change only the columns of that label."""
    prob, z_mm = random_prob(n_slices, seed), 5.0 * np.arange(n_slices)
    changed = prob.copy()
    changed[:, label_index("subdural")] = 0.5
    before = build_features({"encoder": prob, "context": prob}, z_mm, REACH_MM)
    after = build_features({"encoder": prob, "context": changed}, z_mm, REACH_MM)
    others = [name for name in map(str, before) if not name.startswith("context.subdural.")]
    np.testing.assert_array_equal(before[others], after[others])


def test_noise_below_the_rounding_changes_no_feature() -> None:
    prob, z_mm = random_prob(20), 5.0 * np.arange(20)
    noise = np.random.default_rng(1).uniform(-4e-4, 4e-4, prob.shape)
    noisy = sigmoid(logit(prob) + noise)
    assert np.abs(noisy - prob).max() > 9e-5
    np.testing.assert_array_equal(
        build_features({"encoder": prob}, z_mm, REACH_MM),
        build_features({"encoder": noisy}, z_mm, REACH_MM),
    )


def test_one_slice_has_features() -> None:
    table = build_features({"encoder": random_prob(1)}, np.array([3.0]), REACH_MM)
    assert len(table) == 1
    assert np.isnan(table["encoder.any.below_5mm"][0])


@pytest.mark.parametrize("label", SUBTYPES)
def test_a_label_reads_itself_and_any_in_full_and_of_others_the_slices_own_scores(
    label: str,
) -> None:
    table = build_features({"encoder": random_prob(4)}, 5.0 * np.arange(4), REACH_MM)
    names = [str(name) for name in table]
    columns = columns_of(label, names)
    in_full = {name for name in names if f".{label}." in name or ".any." in name}
    assert in_full <= set(columns)
    assert "gap_below_mm" in columns

    others = [other for other in SUBTYPES if other != label]
    of_others = {name for name in columns if any(f".{other}." in name for other in others)}
    assert of_others == {f"encoder.{other}.own" for other in others}


@given(st.integers(0, 10_000), st.sampled_from([0.0, 5.0, 15.0, 25.0]), st.booleans())
def test_all_labels_at_once_give_the_bits_of_column_by_column(
    seed: int, reach_mm: float, has_hu: bool
) -> None:
    rng = np.random.default_rng(seed)
    n_slices = int(rng.integers(1, 70))
    steps_mm = rng.choice([5.0, 5.0001, 2.5, 0.625, 10.3, 10 / 3], n_slices)
    z_mm = np.cumsum(steps_mm) - 400 * rng.random()
    prob: dict[str, np.ndarray] = {
        "encoder": rng.random((n_slices, len(LABELS))).astype(np.float32),
        "context": rng.random((n_slices, len(LABELS))) ** 6,
    }
    hu_features = rng.normal(size=(n_slices, len(HU_FEATURES))).astype(np.float32)
    hu_features[rng.random(hu_features.shape) < rng.choice([0, 0.1, 0.9])] = np.nan
    hu = hu_features if has_hu else None
    pd.testing.assert_frame_equal(
        build_features(prob, z_mm, reach_mm, hu),
        plain_features(prob, z_mm, reach_mm, hu),
        check_exact=True,
    )
