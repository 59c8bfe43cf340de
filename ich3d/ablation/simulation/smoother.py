"""The known answer: probabilities of the labels given all evidence of a series and its process.

Labels follow a `LabelChain`, and what neighbours share of the noise follows its own correlation: a
switching linear Gaussian model. Its filter keeps, for each state of a slice, mean and variance of
that noise. Where all noise beside the offset is autoregressive, the noise of a slice is known once
its state is; where it is white, there is none to keep. In both cases filter and smoother are exact.
Where the two are mixed, the noise of a state is a mixture of Gaussians, which is approximated by
one (Kim, Journal of Econometrics 1994). The offset of a series is integrated numerically.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ich3d.ablation.simulation.chain import LabelChain, level_of
from ich3d.ablation.simulation.evidence import Noise
from ich3d.core.labels import LABELS

OFFSET_NODES: Final = 41
OFFSET_SDS: Final = 4.0
"""The offset is integrated over so many equally spaced values, as far as so many of its SDs."""

SMALLEST: Final = 1e-12
"""Variances are kept above this, so that none is divided by zero."""

SMALLEST_WEIGHT: Final = 1e-300
"""The same for the weight of a state."""

Series = tuple[np.ndarray, np.ndarray]
"""Evidence (Z, K) and positions in mm (Z,) of one series."""


def smooth(
    series: Sequence[Series], chain: LabelChain, strength: np.ndarray, noise: Noise
) -> list[np.ndarray]:
    """Probabilities (Z, K) of the labels of each series, given all of its evidence.

    Args:
        series: evidence and positions of each series, inferior to superior.
        chain: how labels follow each other.
        strength: of the evidence for each label (K,).
        noise: of the evidence.
    """
    model = _Model(chain, chain.labels * strength, noise, _Batch.of(series, noise))
    evidence = model.batch.evidence
    if noise.offset == 0:
        return model.batch.split(model.smooth(evidence)[0] @ chain.labels)

    # A mean over values of the offset, each weighted by how likely it makes the evidence.
    total, weight_sum = np.zeros(evidence.shape), np.zeros(len(evidence))
    largest = np.full(len(evidence), -np.inf)  # of the weights' logarithms so far
    for node in np.linspace(-OFFSET_SDS, OFFSET_SDS, OFFSET_NODES):
        state, log_likelihood = model.smooth(evidence - np.sqrt(noise.offset) * node)
        log_weight = log_likelihood - 0.5 * node**2
        new_largest = np.maximum(largest, log_weight)
        old, new = np.exp(largest - new_largest), np.exp(log_weight - new_largest)
        total = total * old[:, None, None] + new[:, None, None] * (state @ chain.labels)
        weight_sum, largest = weight_sum * old + new, new_largest
    return model.batch.split(total / weight_sum[:, None, None])


@dataclass(frozen=True)
class _Batch:
    """B series padded to T slices, the longest first.

    Attributes:
        evidence: (B, T, K).
        level: of each slice (B, T).
        rho: correlation of the autoregressive noise with that of the slice below (B, T).
        lengths: slices of each series (B,).
        order: the place of each among those that were given (B,).
    """

    evidence: np.ndarray
    level: np.ndarray
    rho: np.ndarray
    lengths: np.ndarray
    order: np.ndarray

    @classmethod
    def of(cls, series: Sequence[Series], noise: Noise) -> "_Batch":
        lengths = np.array([len(z_mm) for _, z_mm in series])
        order = np.argsort(-lengths, kind="stable")
        shape = len(series), int(lengths.max())
        evidence, level = np.zeros((*shape, len(LABELS))), np.zeros(shape, dtype=int)
        rho = np.zeros(shape)
        for row, index in enumerate(order):
            values, z_mm = series[index]
            evidence[row, : len(z_mm)] = values
            level[row, : len(z_mm)] = level_of(len(z_mm))
            rho[row, 1 : len(z_mm)] = noise.correlation(np.diff(z_mm))
        return cls(evidence, level, rho, lengths[order], order)

    def split(self, prob: np.ndarray) -> list[np.ndarray]:
        """Padded rows (B, T, K) as one array (Z, K) a series, in the order given."""
        parts: list[np.ndarray] = [np.empty(0)] * len(self.order)
        for row, index in enumerate(self.order):
            parts[index] = prob[row, : self.lengths[row]]
        return parts


@dataclass(frozen=True)
class _Filtered:
    """What is known at one slice of the n series that have it.

    Attributes:
        state: probabilities of the states (n, S).
        mean, variance: of the autoregressive noise of each label in each state (n, S, K).
    """

    state: np.ndarray
    mean: np.ndarray
    variance: np.ndarray

    def of_first(self, n: int) -> "_Filtered":
        """That of the first n series."""
        return _Filtered(self.state[:n], self.mean[:n], self.variance[:n])


@dataclass(frozen=True)
class _Model:
    """The chain, the mean evidence of each state (S, K), the noise, and the series."""

    chain: LabelChain
    means: np.ndarray
    noise: Noise
    batch: _Batch

    def smooth(self, evidence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities of the states (B, T, S) given evidence without offset (B, T, K); and the
        logarithm of how likely that evidence is (B,), up to a constant.
        """
        n_series, longest, _ = evidence.shape
        prob = np.zeros((n_series, longest, len(self.means)))
        log_likelihood = np.zeros(n_series)
        below_given: list[np.ndarray] = []  # of the states below, given the state of each slice

        for t in range(longest):
            n = int((self.batch.lengths > t).sum())
            residual = evidence[:n, t, None] - self.means  # (n, S, K)
            if t == 0:
                filtered, given, log_total = self._first(residual)
            else:
                filtered, given, log_total = self._next(filtered.of_first(n), residual, t)
            prob[:n, t] = filtered.state
            below_given.append(given)
            log_likelihood[:n] += log_total

        for t in range(longest - 1, 0, -1):
            given = below_given[t]  # (n, S below, S)
            n = len(given)
            prob[:n, t - 1] = (given @ prob[:n, t, :, None])[..., 0]
        return prob, log_likelihood

    def _first(self, residual: np.ndarray) -> tuple[_Filtered, np.ndarray, np.ndarray]:
        """The lowest slice, as `_next` gives others."""
        predicted = np.full((len(residual), 1, 1), max(self.noise.correlated, SMALLEST))
        total_variance = predicted + self.noise.white
        log_weight = -0.5 * (residual**2 / total_variance).sum(axis=2)  # (n, S)
        top = log_weight.max(axis=1, keepdims=True)
        weight = self.chain.first * np.exp(log_weight - top)
        total = weight.sum(axis=1, keepdims=True)

        gain = predicted / total_variance
        variance = np.broadcast_to((1 - gain) * predicted, residual.shape)
        filtered = _Filtered(weight / total, gain * residual, variance)
        return filtered, np.empty(0), np.log(total[:, 0]) + top[:, 0]

    def _next(
        self, below: _Filtered, residual: np.ndarray, t: int
    ) -> tuple[_Filtered, np.ndarray, np.ndarray]:
        """Slice `t` from the slice below.

        Args:
            below: what is known there.
            residual: evidence of slice `t` minus the mean of each state (n, S, K).
            t: the index of the slice.

        Returns:
            What is known at the slice; probabilities of the states below given that of the slice
            (n, S below, S); and what the slice adds to the logarithm of how likely the evidence
            is (n,).
        """
        if self.noise.correlated == 0:
            log_weight = -0.5 * (residual**2).sum(axis=2)[:, None] / self.noise.white
            state, given, log_total = self._weighted(below, log_weight, t)
            return _Filtered(state, below.mean, below.variance), given, log_total

        rho = self.batch.rho[: len(residual), t, None, None]
        predicted_mean = rho * below.mean  # (n, S below, K)
        predicted = rho**2 * below.variance + self.noise.correlated * (1 - rho**2) + SMALLEST
        precision = 1 / (predicted + self.noise.white)

        # How likely the evidence is after each pair of states: a Gaussian, its square written out.
        swapped = residual.transpose(0, 2, 1)  # (n, K, S)
        square = precision @ swapped**2 - 2 * (predicted_mean * precision) @ swapped
        square += (predicted_mean**2 * precision - np.log(precision)).sum(axis=2)[..., None]
        log_weight = -0.5 * square  # (n, S below, S)
        state, given, log_total = self._weighted(below, log_weight, t)

        # The noise of each state: after a pair it is kept + gain * residual; pairs are merged.
        gain = predicted * precision
        kept = (1 - gain) * predicted_mean
        mixed = given.transpose(0, 2, 1)  # (n, S, S below)
        mean_gain = mixed @ gain
        mean = mixed @ kept + mean_gain * residual
        second = mixed @ (kept**2 + (1 - gain) * predicted)
        second += 2 * residual * (mixed @ (kept * gain)) + residual**2 * (mixed @ gain**2)
        variance = np.maximum(second - mean**2, SMALLEST)
        return _Filtered(state, mean, variance), given, log_total

    def _weighted(
        self, below: _Filtered, log_weight: np.ndarray, t: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """States of slice `t` (n, S), and the rest as `_next` returns it, from how likely each pair
        of states makes its evidence (n, S below or 1, S).
        """
        top = log_weight.max(axis=(1, 2), keepdims=True)
        step = self.chain.step[self.batch.level[: len(log_weight), t]]
        weight = below.state[..., None] * step * np.exp(log_weight - top)
        of_state = weight.sum(axis=1, keepdims=True)  # (n, 1, S)
        total = of_state.sum(axis=2, keepdims=True)
        given = weight / np.maximum(of_state, SMALLEST_WEIGHT)
        return (of_state / total)[:, 0], given, np.log(total[:, 0, 0]) + top[:, 0, 0]
