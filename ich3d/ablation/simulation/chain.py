"""How labels follow each other from slice to slice: a Markov chain over the states of a slice.

A state is the set of subtypes that a slice shows; a slice without any is in one of two states,
before or after the lowest slice of the series that bleeds. Rates depend on the level of the head,
so that a chain knows what the position says.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from ich3d.core.labels import ANY, LABELS, SUBTYPES

LEVELS: Final = 10
"""Parts of a series, from its lowest to its highest slice, that have rates of their own."""

N_SETS: Final = 2 ** len(SUBTYPES)
"""Sets of subtypes; set 0 is the empty one."""

BEFORE, AFTER = 0, 1
"""The states of a slice without bleeding: set s of others is state s + 1."""

LEVEL_PRIOR: Final = 50.0
"""A level's rates are those of all levels after so many slices."""

STATE_PRIOR: Final = 5.0
"""The rates after a state are those of all slices after so many slices."""


def label_sets() -> np.ndarray:
    """The labels (N_SETS, K) of each set of subtypes, `any` included, as 0 or 1."""
    bits = np.arange(N_SETS)[:, None] >> np.arange(len(SUBTYPES))
    subtypes = (bits & 1).astype(float)
    labels = np.zeros((N_SETS, len(LABELS)))
    labels[:, [LABELS.index(label) for label in SUBTYPES]] = subtypes
    labels[:, LABELS.index(ANY)] = subtypes.max(axis=1)
    return labels


def set_of(target: np.ndarray) -> np.ndarray:
    """The set of subtypes (Z,) of slices with labels (Z, K)."""
    subtypes = target[:, [LABELS.index(label) for label in SUBTYPES]] > 0.5
    return np.asarray(subtypes @ (1 << np.arange(len(SUBTYPES))))


def state_of(target: np.ndarray) -> np.ndarray:
    """The state (Z,) of the slices of one series with labels (Z, K), inferior to superior."""
    sets = set_of(target)
    has_bled = np.cumsum(sets > 0) > 0
    return np.where(sets > 0, sets + 1, np.where(has_bled, AFTER, BEFORE))


def level_of(n_slices: int) -> np.ndarray:
    """The level (Z,) of each slice of a series."""
    share = np.arange(n_slices) / max(1, n_slices - 1)
    return np.asarray(np.minimum((share * LEVELS).astype(int), LEVELS - 1))


@dataclass(frozen=True)
class LabelChain:
    """Rates of labels.

    Attributes:
        labels: the labels (S, K) of each state.
        set_rates: how frequent each set is at each level (LEVELS, N_SETS).
        first: how frequent each state is in the lowest slice (S,).
        step: rates of the states of a slice at a level, after each state of the slice below
            (LEVELS, S below, S).
    """

    labels: np.ndarray
    set_rates: np.ndarray
    first: np.ndarray
    step: np.ndarray

    @classmethod
    def fit(cls, targets: Sequence[np.ndarray]) -> "LabelChain":
        """The chain of series with labels (Z, K), inferior to superior."""
        n_states = N_SETS + 1
        sets, first = np.zeros((LEVELS, N_SETS)), np.zeros(n_states)
        step = np.zeros((LEVELS, n_states, n_states))
        for target in targets:
            level, state = level_of(len(target)), state_of(target)
            np.add.at(sets, (level, set_of(target)), 1)
            np.add.at(step, (level[1:], state[:-1], state[1:]), 1)
            first[state[0]] += 1

        # Few slices borrow rates from more: a level from all levels, a state from all states.
        all_sets = _rates(sets.sum(axis=0), np.full(N_SETS, 1 / N_SETS), 1.0)
        states = np.concatenate([[all_sets[0] / 2, all_sets[0] / 2], all_sets[1:]])
        after = _rates(step.sum(axis=0), _possible(np.tile(states, (n_states, 1))), STATE_PRIOR)
        return cls(
            labels=np.concatenate([label_sets()[:1], label_sets()]),
            set_rates=_rates(sets, all_sets, LEVEL_PRIOR),
            first=_rates(first, _possible(states[None])[0], STATE_PRIOR),
            step=_rates(step, after, LEVEL_PRIOR),
        )

    @cached_property
    def log_set_rates(self) -> np.ndarray:
        """Logarithms of `set_rates`."""
        return np.asarray(np.log(self.set_rates))


def _rates(counts: np.ndarray, prior: np.ndarray, weight: float) -> np.ndarray:
    """Rates (..., M) of counts (..., M) and of `weight` more slices at the rates `prior`."""
    total = counts.sum(axis=-1, keepdims=True)
    return np.asarray((counts + weight * prior) / (total + weight))


def _possible(rates: np.ndarray) -> np.ndarray:
    """Rates (S or 1, S) after each state, of those states alone that can follow it.

    What has bled is never again before the first bleed, and what has not is not after it.
    """
    possible = rates.copy()
    possible[BEFORE, AFTER] = 0.0
    possible[BEFORE + 1 :, BEFORE] = 0.0
    return np.asarray(possible / possible.sum(axis=-1, keepdims=True))
