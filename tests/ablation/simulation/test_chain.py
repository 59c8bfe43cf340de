"""States of slices, and rates that are fitted on series."""

import numpy as np

from ich3d.ablation.simulation.chain import (
    AFTER,
    BEFORE,
    LEVELS,
    N_SETS,
    LabelChain,
    label_sets,
    level_of,
    state_of,
)
from ich3d.core.labels import ANY, LABELS
from tests.helpers.sequences import made_up_sequences


def targets() -> list[np.ndarray]:
    """The labels (Z, K) of made-up series."""
    return [rows[list(LABELS)].to_numpy(float) for _, rows in made_up_sequences().groupby("series")]


def test_a_slice_without_bleeding_is_before_or_after_the_first_bleed() -> None:
    target = np.zeros((5, len(LABELS)))
    target[1:3, [LABELS.index("epidural"), LABELS.index(ANY)]] = 1
    epidural = 1 + (1 << LABELS.index("epidural"))
    assert state_of(target).tolist() == [BEFORE, epidural, epidural, AFTER, AFTER]


def test_sets_are_told_apart_by_their_subtypes_and_any_is_their_union() -> None:
    labels = label_sets()
    assert len(np.unique(labels, axis=0)) == N_SETS
    any_index = LABELS.index(ANY)
    subtypes = np.delete(labels, any_index, axis=1)
    np.testing.assert_array_equal(labels[:, any_index], subtypes.max(axis=1))


def test_levels_run_from_the_lowest_slice_to_the_highest() -> None:
    assert level_of(1).tolist() == [0]
    assert level_of(20)[[0, -1]].tolist() == [0, LEVELS - 1]
    assert (np.diff(level_of(30)) >= 0).all()


def test_rates_are_those_of_the_series_and_impossible_steps_have_none() -> None:
    chain = LabelChain.fit(targets())
    np.testing.assert_allclose(chain.step.sum(axis=2), 1)
    np.testing.assert_allclose(chain.set_rates.sum(axis=1), 1)
    assert not chain.step[:, BEFORE, AFTER].any()
    assert not chain.step[:, AFTER:, BEFORE].any()
    assert chain.first[AFTER] == 0

    # Bleeding lasts for several slices: it is likelier after bleeding than after none.
    state = 1 + (1 << LABELS.index("subdural"))
    assert chain.step[5, state, state] > 3 * chain.step[5, AFTER, state]
