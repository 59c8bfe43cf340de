"""What a simulated encoder sees of each slice, and the scores that it gives for it.

The evidence for label k in a slice is `strength_k * y_k` plus Gaussian noise of variance 1 with
three parts: one number for the series and all labels (`offset`), one for each label that neighbours
share, with correlation exp(-mm / correlation_mm) (`correlated`), and one for each label and slice
(`white`). The encoder reads single slices as well as can be: its scores are the probabilities of
the labels given the evidence of the slice and its level in the head. So no later stage gains
anything but by neighbours.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from ich3d.ablation.simulation.chain import label_sets
from ich3d.core.errors import DataError
from ich3d.core.labels import LABELS
from ich3d.core.metrics import label_log_loss

LOG_LOSS: Final = {
    "epidural": 0.0155,
    "intraparenchymal": 0.0441,
    "intraventricular": 0.0268,
    "subarachnoid": 0.0690,
    "subdural": 0.0838,
    "any": 0.1052,
}
"""Out-of-fold log loss of a published network that reads single slices of RSNA 2019."""

FIRST_STRENGTH: Final = 2.5
LOSS_TOLERANCE: Final = 1e-4
STRENGTH_STEP: Final = 0.05
MAX_ITERATIONS: Final = 30


@dataclass(frozen=True)
class Noise:
    """The noise of the evidence: shares of its variance, which sum to 1.

    Attributes:
        offset: of one number for the series, which all labels share.
        correlated: of a first-order autoregressive part of each label.
        correlation_mm: the distance over which the correlation of that part falls to 1/e.
    """

    offset: float
    correlated: float
    correlation_mm: float

    @property
    def white(self) -> float:
        """The share of the noise that each slice has by itself."""
        return 1.0 - self.offset - self.correlated

    def correlation(self, distance_mm: np.ndarray) -> np.ndarray:
        """Correlation of the autoregressive part at a distance in mm."""
        return np.asarray(np.exp(-distance_mm / self.correlation_mm))

    def draw(self, z_mm: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The noise (Z, K) of one series with slices at `z_mm` (Z,)."""
        shape = len(z_mm), len(LABELS)
        part = rng.standard_normal(shape)
        for t, rho in enumerate(self.correlation(np.diff(z_mm)), start=1):
            part[t] = rho * part[t - 1] + np.sqrt(1 - rho**2) * part[t]
        return np.asarray(
            np.sqrt(self.offset) * rng.standard_normal()
            + np.sqrt(self.correlated) * part
            + np.sqrt(self.white) * rng.standard_normal(shape)
        )


def read_single_slices(
    evidence: np.ndarray, strength: np.ndarray, offset: float, log_rates: np.ndarray
) -> np.ndarray:
    """Probabilities (N, K) of the labels, each slice by itself.

    Args:
        evidence: (N, K).
        strength: of each label (K,).
        offset: the share of the noise that all labels of a slice have in common.
        log_rates: logarithms of how frequent each set of subtypes is at the level of each slice
            (N, N_SETS).
    """
    labels = label_sets()
    means = labels * strength  # (N_SETS, K)
    inverse = np.linalg.inv(offset + (1 - offset) * np.eye(len(LABELS)))
    scaled = means @ inverse
    log_prob = log_rates + evidence @ scaled.T - 0.5 * (means * scaled).sum(axis=1)
    prob = np.exp(log_prob - log_prob.max(axis=1, keepdims=True))
    return np.asarray((prob / prob.sum(axis=1, keepdims=True)) @ labels)


def fit_strength(
    target: np.ndarray, noise: np.ndarray, offset: float, log_rates: np.ndarray
) -> np.ndarray:
    """The strength (K,) of each label with which its log loss is that of `LOG_LOSS`, by Newton's
    method.

    Args:
        target: labels (N, K) of all slices.
        noise: that of their evidence (N, K).
        offset: as in `Noise`.
        log_rates: as in `read_single_slices`.

    Raises:
        DataError: no strength gives these losses.
    """
    wanted = np.array([LOG_LOSS[label] for label in LABELS])

    def error(strength: np.ndarray) -> np.ndarray:
        """Logarithm of the loss of each label (K,) over the wanted one."""
        prob = read_single_slices(target * strength + noise, strength, offset, log_rates)
        return np.asarray(np.log(label_log_loss(prob, target) / wanted))

    strength = np.full(len(LABELS), FIRST_STRENGTH)
    for _ in range(MAX_ITERATIONS):
        current = error(strength)
        if np.abs(current).max() < LOSS_TOLERANCE:
            return strength
        moved = strength + STRENGTH_STEP * np.eye(len(LABELS))
        slopes = np.stack([error(row) - current for row in moved], axis=1) / STRENGTH_STEP
        step = np.linalg.lstsq(slopes, -current)[0]
        strength = np.maximum(strength + np.clip(step, -1, 1), 0.0)
    raise DataError(
        "no strength of the evidence gives the published log losses on these label sequences: each "
        "label has to occur, and not in all of them"
    )
