"""The gain of new scores on old ones, and its standard error over patients."""

import numpy as np
import pytest

from ich3d.core.labels import LABELS, weight_vector
from ich3d.core.metrics import log_losses, weighted_log_loss
from ich3d.recalibrate.gains import WEIGHTED, label_gain, markdown, weighted_gain
from tests.helpers.hospital import N_SLICES, random_cases

N_PATIENTS = 20
GROUP = np.repeat([f"p{index}" for index in range(N_PATIENTS)], N_SLICES)


@pytest.fixture(scope="module")
def target() -> np.ndarray:
    return random_cases(N_PATIENTS)[0].reshape(-1, len(LABELS))


@pytest.fixture(scope="module")
def better() -> np.ndarray:
    return random_cases(N_PATIENTS)[1].reshape(-1, len(LABELS))


@pytest.fixture(scope="module")
def worse() -> np.ndarray:
    return random_cases(N_PATIENTS, shift=2.0)[1].reshape(-1, len(LABELS))


def test_better_scores_gain_what_their_loss_is_lower_by(
    target: np.ndarray, better: np.ndarray, worse: np.ndarray
) -> None:
    gain = label_gain("epidural", worse[:, 0], better[:, 0], target[:, 0], GROUP)
    losses = log_losses(worse[:, 0], target[:, 0]) - log_losses(better[:, 0], target[:, 0])
    assert gain.value == pytest.approx(losses.mean())
    assert gain.value > gain.se > 0
    assert gain.n_slices == int(target[:, 0].sum())

    # With equally many slices a patient, the error is that of the mean over patients.
    by_patient = losses.reshape(N_PATIENTS, N_SLICES).mean(axis=1)
    assert gain.se == pytest.approx(by_patient.std(ddof=1) / np.sqrt(N_PATIENTS))


def test_the_weighted_gain_is_that_of_the_challenge_score(
    target: np.ndarray, better: np.ndarray, worse: np.ndarray
) -> None:
    gain = weighted_gain(worse, better, target, GROUP)
    expected = weighted_log_loss(worse, target) - weighted_log_loss(better, target)
    assert gain.value == pytest.approx(expected)
    losses = (log_losses(worse, target) - log_losses(better, target)) @ weight_vector()
    by_patient = losses.reshape(N_PATIENTS, N_SLICES).mean(axis=1)
    assert gain.se == pytest.approx(by_patient.std(ddof=1) / np.sqrt(N_PATIENTS))


def test_what_is_not_labelled_does_not_count(
    target: np.ndarray, better: np.ndarray, worse: np.ndarray
) -> None:
    partly = target.copy()
    partly[:, 0] = np.nan
    partly[: 5 * N_SLICES, 1] = np.nan
    unknown = label_gain("epidural", worse[:, 0], better[:, 0], partly[:, 0], GROUP)
    assert np.isnan(unknown.value)
    gain = weighted_gain(worse, better, partly, GROUP)
    assert gain.value == pytest.approx(
        weighted_log_loss(worse, partly) - weighted_log_loss(better, partly)
    )
    assert gain.se > 0

    kept = {"epidural": "no", WEIGHTED: "yes"}
    lines = markdown([unknown, gain], kept).splitlines()
    assert lines[2] == "| epidural | 0 | 0 | - | - | - | no |"
    assert f"{gain.value:+.4f} ({gain.se:.4f}) | yes |" in lines[3]
