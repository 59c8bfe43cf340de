"""Embeddings and logits of one encoder, expressed as another encoder would give them.

Encoders that were trained separately agree on slices but not on numbers: neither an embedding
nor the offset and scale of a logit carries over from one to the other. Ridge regression on
series that both were trained on finds the linear map between them. No label is used, and the
series that the map is applied to take no part in it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from scipy.linalg import solve

from ich3d.core.errors import DataError
from ich3d.core.types import SliceEmbeddings

PENALTY: Final = 1e-3
"""Ridge penalty for each slice, on columns of unit variance."""

SMALLEST_VARIANCE: Final = 1e-12
"""A column that varies less, as a share of its mean square, is constant and says nothing."""


@dataclass(frozen=True)
class Alignment:
    """A linear map from one encoder's embeddings (Z, D) and logits (Z, K) to another's.

    Attributes:
        target_id: the other encoder.
        weights: (D + K, D + K).
        source_mean, target_mean: means of the columns in the series of the fit (D + K,).
    """

    target_id: str
    weights: np.ndarray
    source_mean: np.ndarray
    target_mean: np.ndarray

    def __call__(self, embedded: SliceEmbeddings) -> SliceEmbeddings:
        """The series as the target encoder would embed it.

        `training_groups` stay those of the encoder that saw the slices.
        """
        above_mean = _columns(embedded) - self.source_mean
        aligned = (above_mean @ self.weights + self.target_mean).astype(np.float32)  # (Z, D + K)
        width = embedded.embeddings.shape[1]
        return replace(
            embedded,
            embeddings=aligned[:, :width],
            logits=aligned[:, width:],
            encoder_id=f"{embedded.encoder_id} as {self.target_id}",
        )


def fit_alignment(
    source: Iterable[SliceEmbeddings], target: Iterable[SliceEmbeddings]
) -> Alignment:
    """The map from `source` to `target`, the same series embedded by two encoders.

    Series are read one after the other, and only sums of products are kept: there may be more of
    them than memory holds.

    Raises:
        DataError: there is no series.
    """
    sums: _Sums | None = None
    target_id = ""
    for one, other in zip(source, target, strict=True):
        if sums is None:
            sums, target_id = _Sums(_columns(one)[0], _columns(other)[0]), other.encoder_id
        sums.add(_columns(one), _columns(other))
    if sums is None:
        raise DataError("an alignment needs a series that both encoders were trained on")
    return Alignment(target_id, *sums.ridge())


class _Sums:
    """Sums over slices of two encoders' columns and of their products.

    Columns are counted from those of a first slice, so that no digits are lost.
    """

    def __init__(self, source_start: np.ndarray, target_start: np.ndarray) -> None:
        width = len(source_start)
        self._starts = source_start, target_start
        self._count = 0
        self._source, self._target = np.zeros(width), np.zeros(width)
        self._squares, self._products = np.zeros((width, width)), np.zeros((width, width))

    def add(self, source: np.ndarray, target: np.ndarray) -> None:
        """Add the columns (Z, D + K) of one series."""
        x, y = source - self._starts[0], target - self._starts[1]
        self._count += len(x)
        self._source += x.sum(axis=0)
        self._target += y.sum(axis=0)
        self._squares += x.T @ x
        self._products += x.T @ y

    def ridge(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Weights and both means of the ridge regression on columns of unit variance."""
        count = self._count
        mean, target_mean = self._source / count, self._target / count
        covariance = self._squares / count - np.outer(mean, mean)
        products = self._products / count - np.outer(mean, target_mean)

        source_mean = self._starts[0] + mean
        variance = covariance.diagonal()
        is_constant = variance <= SMALLEST_VARIANCE * (variance + source_mean**2)
        sd = np.sqrt(np.where(is_constant, 1.0, variance))
        scaled = covariance / np.outer(sd, sd) + PENALTY * np.eye(len(sd))
        weights = solve(scaled, products / sd[:, None], assume_a="pos") / sd[:, None]
        return weights, source_mean, self._starts[1] + target_mean


def _columns(embedded: SliceEmbeddings) -> np.ndarray:
    """Embeddings and logits of a series side by side, float64 (Z, D + K)."""
    return np.hstack([embedded.embeddings, embedded.logits]).astype(np.float64)
