"""A stacker is kept only where it helps; the order of rows and columns changes no score."""

from dataclasses import replace
from json import dumps, loads

import numpy as np
import pandas as pd
import pytest

from ich3d.config.schema import StackConfig
from ich3d.core.errors import DataError
from ich3d.core.labels import ANY, LABELS, SUBTYPES, label_index
from ich3d.core.metrics import label_log_loss, logit, sigmoid
from ich3d.stack.booster import (
    AVERAGE,
    RENAMED_FIELDS,
    START,
    LabelStacker,
    Stacker,
    StackRows,
    coherent,
    fit_stacker,
)
from tests.helpers.stack_rows import (
    N_SLICES,
    features_of,
    predictable_rows,
    random_context_prob,
    unpredictable_rows,
)

CONFIG = StackConfig(num_trees=40)
EPIDURAL = label_index("epidural")


@pytest.fixture(scope="module")
def rows() -> StackRows:
    return predictable_rows()


@pytest.fixture(scope="module")
def stacker(rows: StackRows) -> Stacker:
    return fit_stacker(rows, CONFIG, seed=1)


def epidural_is_kept(rows: StackRows, target: np.ndarray) -> bool:
    """Whether a stacker of epidural is kept where `rows` have these labels (N, K)."""
    stacker = fit_stacker(replace(rows, target=target), CONFIG, seed=1)
    assert stacker.by_label["subdural"].is_kept  # another label is not affected
    return stacker.by_label["epidural"].is_kept


def test_a_stacker_that_helps_is_kept(rows: StackRows, stacker: Stacker) -> None:
    assert list(stacker.by_label) == list(LABELS)
    assert stacker.reach_mm == CONFIG.reach_mm
    for label_stacker in stacker.by_label.values():
        assert label_stacker.is_kept
        gain = label_stacker.validation_start_loss - label_stacker.validation_loss
        assert gain > label_stacker.validation_gain_se > 0

    before = label_log_loss(rows.start_prob, rows.target)
    after = label_log_loss(stacker.score(rows.features, rows.start_prob), rows.target)
    assert np.all(after < 0.5 * before)


def test_a_stacker_that_does_not_help_is_not_kept_and_changes_no_order() -> None:
    rows = unpredictable_rows()
    stacker = fit_stacker(rows, CONFIG, seed=1)
    for label_stacker in stacker.by_label.values():
        assert not label_stacker.is_kept
        assert label_stacker.trees == ""
        assert label_stacker.blend is not None
        assert label_stacker.blend.weights == {"encoder": 0.0, "context": 1.0}
    prob = stacker.score(rows.features, rows.start_prob)
    np.testing.assert_allclose(prob, rows.start_prob, atol=0.06)  # the temperature alone
    for k in range(len(LABELS)):
        in_order = prob[np.argsort(rows.start_prob[:, k]), k]
        assert np.all(np.diff(in_order) >= -3e-4)  # logits are rounded to 1e-3


def test_scores_that_are_too_sure_are_drawn_toward_the_base_rate() -> None:
    calibrated = unpredictable_rows()
    sure_prob = sigmoid(3 * logit(calibrated.start_prob)).astype(np.float32)
    series_prob = sure_prob.reshape(-1, N_SLICES, len(LABELS))
    features = pd.concat([features_of(prob) for prob in series_prob], ignore_index=True)
    sure = replace(calibrated, start_prob=sure_prob, features=features)

    prob = fit_stacker(sure, StackConfig(num_trees=1), seed=1).score(features, sure_prob)
    base = logit(sure.target.mean(axis=0))
    distance = np.abs(logit(prob) - base) / np.abs(logit(sure_prob) - base)
    assert np.all(np.median(distance, axis=0) < 0.7)
    assert np.all(label_log_loss(prob, sure.target) < label_log_loss(sure_prob, sure.target))


@pytest.mark.parametrize("value", [0.0, 1.0, np.nan], ids=["absent", "present", "unknown"])
def test_a_label_of_one_class_is_not_kept(rows: StackRows, value: float) -> None:
    target = rows.target.copy()
    target[:, EPIDURAL] = value
    assert not epidural_is_kept(rows, target)


def test_a_label_of_few_patients_is_not_kept(rows: StackRows) -> None:
    target = rows.target.copy()
    target[~np.isin(rows.group, [f"p{index}" for index in range(5)]), EPIDURAL] = 0.0
    assert not epidural_is_kept(rows, target)


def test_unlabelled_slices_change_nothing(rows: StackRows, stacker: Stacker) -> None:
    more = StackRows(
        features=pd.concat([rows.features, rows.features[:50]], ignore_index=True),
        start_prob=np.concatenate([rows.start_prob, rows.start_prob[:50]]),
        target=np.concatenate([rows.target, np.full((50, len(LABELS)), np.nan)]),
        group=np.concatenate([rows.group, rows.group[:50]]),
        fold=np.concatenate([rows.fold, rows.fold[:50]]),
    )
    assert fit_stacker(more, CONFIG, seed=1) == stacker


def test_coherent_raises_any_to_the_largest_subtype(rows: StackRows, stacker: Stacker) -> None:
    prob = stacker.score(rows.features, rows.start_prob)
    any_index, subtypes = label_index(ANY), [label_index(label) for label in SUBTYPES]
    largest_subtype = prob[:, subtypes].max(axis=1)
    assert (prob[:, any_index] < largest_subtype).any()

    raised = coherent(prob)
    np.testing.assert_array_equal(
        raised[:, any_index], np.maximum(prob[:, any_index], largest_subtype)
    )
    np.testing.assert_array_equal(raised[:, subtypes], prob[:, subtypes])


def test_columns_are_found_by_name(rows: StackRows, stacker: Stacker) -> None:
    rng = np.random.default_rng(0)
    shuffled = rows.features[rng.permutation(rows.features.columns)]
    extra = shuffled.assign(unknown=np.arange(len(shuffled)))
    np.testing.assert_array_equal(
        stacker.score(rows.features, rows.start_prob), stacker.score(extra, rows.start_prob)
    )


def test_a_missing_column_is_an_error(rows: StackRows, stacker: Stacker) -> None:
    with pytest.raises(DataError, match=r"context\.any\.own"):
        stacker.score(rows.features.drop(columns="context.any.own"), rows.start_prob)


def test_a_slice_is_scored_the_same_whatever_the_other_rows(
    rows: StackRows, stacker: Stacker
) -> None:
    prob = stacker.score(rows.features, rows.start_prob)
    some = np.random.default_rng(0).permutation(len(prob))[:40]
    np.testing.assert_array_equal(
        stacker.score(rows.features.iloc[some], rows.start_prob[some]), prob[some]
    )


def test_noise_below_the_rounding_changes_no_score(stacker: Stacker) -> None:
    """The last digits of a network's arithmetic cannot change which branch of a tree is taken."""
    prob = random_context_prob()[0].astype(np.float64)
    noise = np.random.default_rng(2).uniform(-1e-4, 1e-4, prob.shape)
    noisy = np.clip(prob + noise, 1e-3, 1 - 1e-3)
    is_same = np.round(logit(noisy), 3) == np.round(logit(prob), 3)
    noisy = np.where(is_same, noisy, prob)
    assert is_same.mean() > 0.5
    assert np.abs(noisy - prob).max() > 5e-5

    np.testing.assert_array_equal(
        stacker.score(features_of(prob), prob), stacker.score(features_of(noisy), noisy)
    )


def test_equal_seeds_give_equal_trees(rows: StackRows, stacker: Stacker) -> None:
    assert fit_stacker(rows, CONFIG, seed=1) == stacker
    assert fit_stacker(rows, CONFIG, seed=2) != stacker


def test_contributions_add_up_to_the_logit_before_calibration(
    rows: StackRows, stacker: Stacker
) -> None:
    any_stacker, start = stacker.by_label[ANY], rows.start_prob[:, label_index(ANY)]
    parts = any_stacker.contributions(rows.features, start)
    assert list(parts) == [*any_stacker.columns, AVERAGE, START]

    calibrated = any_stacker.scale * parts.sum(axis=1) + any_stacker.shift
    np.testing.assert_allclose(
        calibrated, logit(any_stacker.score(rows.features, start)), atol=1e-6
    )


def test_json_keeps_every_tree(rows: StackRows, stacker: Stacker) -> None:
    read = {
        label: LabelStacker.from_dict(loads(dumps(label_stacker.as_dict())))
        for label, label_stacker in stacker.by_label.items()
    }
    assert read == stacker.by_label
    np.testing.assert_array_equal(
        Stacker(read).score(rows.features, rows.start_prob),
        stacker.score(rows.features, rows.start_prob),
    )


def test_fields_of_version_0_1_are_read(stacker: Stacker) -> None:
    new_to_old = {new: old for old, new in RENAMED_FIELDS.items()}
    assert set(new_to_old) == {"validation_loss", "validation_start_loss", "validation_gain_se"}
    fields = stacker.by_label[ANY].as_dict()
    old_fields = {new_to_old.get(name, name): value for name, value in fields.items()}
    assert LabelStacker.from_dict(old_fields) == stacker.by_label[ANY]
