"""The stacker is kept where it helps and only there; row and column order do not touch what it says."""

from dataclasses import asdict, replace
from json import dumps, loads

import numpy as np
import pandas as pd
import pytest

from ich3d.config.schema import StackConfig
from ich3d.core.labels import ANY, LABELS, SUBTYPES
from ich3d.core.metrics import label_log_loss, logit, sigmoid
from ich3d.stack.booster import LabelStack, StackRows, coherent, fit_stack, score_stack
from ich3d.stack.features import build_features

GROUPS, SLICES = 30, 20
Z_MM = 5.0 * np.arange(SLICES)
CONFIG = StackConfig(num_trees=40)


def make_rows(start: np.ndarray, target: np.ndarray) -> StackRows:
    """Rows of `GROUPS` series from scores and targets (GROUPS, SLICES, K)."""
    features = [build_features({"context": one}, Z_MM, 15.0) for one in start]
    return StackRows(
        features=pd.concat(features, ignore_index=True),
        start=start.reshape(-1, 6),
        target=target.reshape(-1, 6),
        group=np.repeat([f"p{i}" for i in range(GROUPS)], SLICES),
        fold=np.repeat(np.arange(GROUPS) % 3, SLICES),
    )


def random_scores(seed: int = 0) -> np.ndarray:
    logits = np.random.default_rng(seed).integers(-3000, 3000, (GROUPS, SLICES, 6)) / 1000
    return sigmoid(logits).astype(np.float32)


@pytest.fixture(scope="module")
def useful() -> StackRows:
    """Whether a slice bleeds is told by the score of the slice below it."""
    start = random_scores()
    target = np.zeros_like(start)
    target[:, 1:] = start[:, :-1] > 0.5
    return make_rows(start, target)


@pytest.fixture(scope="module")
def fitted(useful: StackRows) -> dict[str, LabelStack]:
    return fit_stack(useful, CONFIG, seed=1)


def calibrated_rows() -> StackRows:
    """Bleeds drawn from the scores themselves, which nothing can better."""
    start = random_scores(15)
    drawn = np.random.default_rng(7).random(start.shape) < start
    return make_rows(start, drawn.astype(float))


def test_a_useful_stacker_is_kept_and_helps(
    useful: StackRows, fitted: dict[str, LabelStack]
) -> None:
    assert list(fitted) == list(LABELS)
    assert all(item.is_kept for item in fitted.values())
    prob = score_stack(fitted, useful.features, useful.start)
    before, after = label_log_loss(useful.start, useful.target), label_log_loss(prob, useful.target)
    assert np.all(after < 0.5 * before)
    for item in fitted.values():
        assert item.inner_start_loss - item.inner_loss > item.inner_se > 0


def test_a_useless_stacker_is_not_kept_and_changes_nothing() -> None:
    rows = calibrated_rows()
    stack = fit_stack(rows, CONFIG, seed=1)
    assert not any(item.is_kept for item in stack.values())
    assert all(item.trees == "" for item in stack.values())
    prob = score_stack(stack, rows.features, rows.start)
    np.testing.assert_array_equal(prob, rows.start)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_label_of_one_class_is_not_kept(useful: StackRows, value: float) -> None:
    target = useful.target.copy()
    target[:, LABELS.index("epidural")] = value
    stack = fit_stack(replace(useful, target=target), CONFIG, seed=1)
    assert not stack["epidural"].is_kept
    assert stack["subdural"].is_kept


def test_a_label_of_one_patient_is_not_kept(useful: StackRows) -> None:
    target = useful.target.copy()
    target[useful.group != "p3", LABELS.index("epidural")] = 0.0
    assert not fit_stack(replace(useful, target=target), CONFIG, seed=1)["epidural"].is_kept


def test_a_label_that_no_slice_has_known_is_not_kept(useful: StackRows) -> None:
    target = useful.target.copy()
    target[:, LABELS.index("epidural")] = np.nan
    assert not fit_stack(replace(useful, target=target), CONFIG, seed=1)["epidural"].is_kept


def test_unlabelled_slices_count_nowhere(useful: StackRows, fitted: dict[str, LabelStack]) -> None:
    more = StackRows(
        features=pd.concat([useful.features, useful.features[:50]], ignore_index=True),
        start=np.concatenate([useful.start, useful.start[:50]]),
        target=np.concatenate([useful.target, np.full((50, 6), np.nan)]),
        group=np.concatenate([useful.group, useful.group[:50]]),
        fold=np.concatenate([useful.fold, useful.fold[:50]]),
    )
    assert fit_stack(more, CONFIG, seed=1) == fitted


def test_any_is_at_least_every_subtype(useful: StackRows, fitted: dict[str, LabelStack]) -> None:
    """In the stack; the score it starts from may say otherwise."""
    start = useful.start
    assert (start[:, LABELS.index(ANY)] < start[:, : len(SUBTYPES)].max(axis=1)).any()
    for stack in (fitted, {name: replace(item, is_kept=False) for name, item in fitted.items()}):
        prob = coherent(score_stack(stack, useful.features, start))
        assert np.all(prob[:, LABELS.index(ANY)] >= prob[:, : len(SUBTYPES)].max(axis=1))
        assert np.all((prob >= 0) & (prob <= 1))


def test_columns_are_found_by_name(useful: StackRows, fitted: dict[str, LabelStack]) -> None:
    shuffled = useful.features[np.random.default_rng(0).permutation(useful.features.columns)]
    extra = shuffled.assign(unknown=np.arange(len(shuffled)))
    np.testing.assert_array_equal(
        score_stack(fitted, useful.features, useful.start), score_stack(fitted, extra, useful.start)
    )


def test_a_missing_column_is_an_error_and_no_guess(
    useful: StackRows, fitted: dict[str, LabelStack]
) -> None:
    with pytest.raises(KeyError, match=r"context\.any\.own"):
        score_stack(fitted, useful.features.drop(columns="context.any.own"), useful.start)


def test_rows_are_scored_one_by_one(useful: StackRows, fitted: dict[str, LabelStack]) -> None:
    whole = score_stack(fitted, useful.features, useful.start)
    order = np.random.default_rng(0).permutation(len(whole))[:40]
    np.testing.assert_array_equal(
        score_stack(fitted, useful.features.iloc[order], useful.start[order]), whole[order]
    )


def test_noise_below_the_rounding_changes_no_score(fitted: dict[str, LabelStack]) -> None:
    """The last digits of a network's arithmetic cannot flip a tree."""
    prob = random_scores()[0].astype(np.float64)
    noise = np.random.default_rng(2).uniform(-1e-4, 1e-4, prob.shape)
    noisy = np.clip(prob + noise, 1e-3, 1 - 1e-3)
    same = np.round(logit(noisy), 3) == np.round(logit(prob), 3)
    noisy = np.where(same, noisy, prob)
    assert same.mean() > 0.5
    assert np.abs(noisy - prob).max() > 5e-5
    one, two = (
        score_stack(fitted, build_features({"context": p}, Z_MM, 15.0), p) for p in (prob, noisy)
    )
    np.testing.assert_array_equal(one, two)


def test_equal_seeds_give_equal_trees(useful: StackRows, fitted: dict[str, LabelStack]) -> None:
    assert fit_stack(useful, CONFIG, seed=1) == fitted
    assert fit_stack(useful, CONFIG, seed=2) != fitted


def test_text_keeps_every_tree(useful: StackRows, fitted: dict[str, LabelStack]) -> None:
    tree = loads(dumps({label: asdict(item) for label, item in fitted.items()}))
    again = {
        label: LabelStack(**{**fields, "columns": tuple(fields["columns"])})
        for label, fields in tree.items()
    }
    assert again == fitted
    np.testing.assert_array_equal(
        score_stack(again, useful.features, useful.start),
        score_stack(fitted, useful.features, useful.start),
    )
