"""The known answer is that of an enumeration of all sequences of states, and it is calibrated."""

from itertools import product

import numpy as np
import pytest

from ich3d.ablation.simulation.chain import LEVELS, LabelChain, level_of
from ich3d.ablation.simulation.evidence import Noise
from ich3d.ablation.simulation.smoother import smooth
from ich3d.core.labels import LABELS
from ich3d.core.metrics import calibration_error

STRENGTH = np.array([1.0, 2.0, 1.5, 0.5, 1.0, 1.5])
Z_MM = np.array([0.0, 5.0, 10.5, 13.0, 40.0])

EXACT = {
    "white": Noise(0.0, 0.0, 10.0),
    "autoregressive": Noise(0.0, 1.0, 12.0),
    "offset and white": Noise(0.4, 0.0, 10.0),
    "offset and autoregressive": Noise(0.3, 0.7, 8.0),
}


def small_chain() -> LabelChain:
    """A chain over three states: nothing, one subtype, and two of them."""
    labels = np.array([[0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 1], [0, 1, 1, 0, 0, 1]], dtype=float)
    rng = np.random.default_rng(0)
    step = rng.dirichlet([1.0, 1.0, 1.0], size=(LEVELS, 3)) + 2 * np.eye(3)
    step /= step.sum(axis=2, keepdims=True)
    return LabelChain(labels, np.empty(0), np.array([0.6, 0.3, 0.1]), step)


def draw_states(chain: LabelChain, n_slices: int, rng: np.random.Generator) -> np.ndarray:
    """States (Z,) of one series of the chain."""
    states = [rng.choice(len(chain.first), p=chain.first)]
    for level in level_of(n_slices)[1:]:
        states.append(rng.choice(len(chain.first), p=chain.step[level, states[-1]]))
    return np.array(states)


def enumerated(
    chain: LabelChain, evidence: np.ndarray, z_mm: np.ndarray, noise: Noise
) -> np.ndarray:
    """Probabilities (Z, K) from all sequences of states, each with the noise's whole covariance."""
    n_slices, n_labels = evidence.shape
    distance_mm = np.abs(z_mm[:, None] - z_mm)
    of_label = noise.correlated * noise.correlation(distance_mm) + noise.white * np.eye(n_slices)
    inverse = np.linalg.inv(np.kron(of_label, np.eye(n_labels)) + noise.offset)
    levels = level_of(n_slices)

    log_weights, labels = [], []
    for states in product(range(len(chain.first)), repeat=n_slices):
        of_path = chain.labels[list(states)]  # (Z, K)
        rest = (evidence - of_path * STRENGTH).ravel()
        log_prior = np.log(chain.first[states[0]])
        for level, below, state in zip(levels[1:], states[:-1], states[1:], strict=True):
            log_prior += np.log(chain.step[level, below, state])
        log_weights.append(log_prior - 0.5 * rest @ inverse @ rest)
        labels.append(of_path)
    weights = np.exp(np.array(log_weights) - max(log_weights))
    return np.tensordot(weights / weights.sum(), np.array(labels), axes=1)


Drawn = tuple[np.ndarray, np.ndarray, np.ndarray]


def drawn_series(chain: LabelChain, noise: Noise, count: int) -> list[Drawn]:
    """Evidence, positions and labels of series of different lengths, drawn from the process."""
    rng = np.random.default_rng(1)
    series = []
    for index in range(count):
        z_mm = Z_MM[: 1 + index % len(Z_MM)]
        labels = chain.labels[draw_states(chain, len(z_mm), rng)]
        series.append((labels * STRENGTH + noise.draw(z_mm, rng), z_mm, labels))
    return series


@pytest.mark.parametrize("name", EXACT)
def test_it_is_exact_for_one_part_of_the_noise_beside_an_offset(name: str) -> None:
    chain, noise = small_chain(), EXACT[name]
    series = drawn_series(chain, noise, 15)
    smoothed = smooth([(x, z_mm) for x, z_mm, _ in series], chain, STRENGTH, noise)
    for prob, (x, z_mm, _) in zip(smoothed, series, strict=True):
        np.testing.assert_allclose(prob, enumerated(chain, x, z_mm, noise), atol=1e-4)


def test_it_is_near_for_mixed_noise() -> None:
    """The noise of a state is then a mixture of Gaussians, which one Gaussian stands for."""
    chain, noise = small_chain(), Noise(0.1, 0.5, 15.0)
    series = drawn_series(chain, noise, 40)
    smoothed = smooth([(x, z_mm) for x, z_mm, _ in series], chain, STRENGTH, noise)
    errors = [
        np.abs(prob - enumerated(chain, x, z_mm, noise))
        for prob, (x, z_mm, _) in zip(smoothed, series, strict=True)
    ]
    assert np.concatenate(errors).mean() < 0.005
    assert np.concatenate(errors).max() < 0.1


@pytest.mark.parametrize("noise", [EXACT["offset and white"], Noise(0.0, 0.6, 15.0)])
def test_it_is_calibrated_on_its_own_process(noise: Noise) -> None:
    chain = small_chain()
    series = drawn_series(chain, noise, 3000)
    prob = np.concatenate(smooth([(x, z_mm) for x, z_mm, _ in series], chain, STRENGTH, noise))
    target = np.concatenate([labels for _, _, labels in series])
    for label in ("epidural", "any"):
        k = LABELS.index(label)
        assert calibration_error(prob[:, k], target[:, k]) < 0.015
