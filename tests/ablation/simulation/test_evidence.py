"""The noise has the parts that are asked for, and the encoder the published log losses."""

import numpy as np
import pytest

from ich3d.ablation.simulation.chain import N_SETS, LabelChain, label_sets, level_of
from ich3d.ablation.simulation.evidence import (
    LOG_LOSS,
    Noise,
    fit_strength,
    read_single_slices,
)
from ich3d.core.errors import DataError
from ich3d.core.labels import LABELS
from ich3d.core.metrics import label_log_loss
from tests.helpers.sequences import made_up_sequences


def test_the_noise_has_variance_one_and_the_shares_of_its_parts() -> None:
    noise = Noise(offset=0.2, correlated=0.5, correlation_mm=10.0)
    z_mm = np.array([0.0, 5.0, 10.0, 30.0])
    drawn = np.stack([noise.draw(z_mm, np.random.default_rng(seed)) for seed in range(4000)])
    np.testing.assert_allclose(drawn.var(axis=(0, 2)), 1, atol=0.05)

    within_label = np.mean([np.cov(drawn[:, :, k].T) for k in range(len(LABELS))], axis=0)
    expected = 0.2 + 0.5 * np.exp(-np.abs(z_mm[:, None] - z_mm) / 10) + 0.3 * np.eye(4)
    np.testing.assert_allclose(within_label, expected, atol=0.05)
    across_labels = np.mean(drawn[:, 0, 0] * drawn[:, 1, 1])
    assert across_labels == pytest.approx(0.2, abs=0.05)


@pytest.mark.parametrize("offset", [0.0, 0.4])
def test_single_slices_are_read_by_the_rule_of_bayes(offset: float) -> None:
    rng = np.random.default_rng(0)
    strength, evidence = rng.uniform(0.5, 2, len(LABELS)), rng.normal(size=(4, len(LABELS)))
    rates = rng.dirichlet(np.ones(N_SETS), size=4)
    prob = read_single_slices(evidence, strength, offset, np.log(rates))

    inverse = np.linalg.inv(offset + (1 - offset) * np.eye(len(LABELS)))
    for row, x in enumerate(evidence):
        rest = x - label_sets() * strength
        weight = rates[row] * np.exp(-0.5 * np.einsum("sk,kl,sl->s", rest, inverse, rest))
        np.testing.assert_allclose(prob[row], weight @ label_sets() / weight.sum(), rtol=1e-9)


@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_the_strength_gives_the_published_log_losses(offset: float) -> None:
    table = made_up_sequences(200)
    series = [rows[list(LABELS)].to_numpy(float) for _, rows in table.groupby("series")]
    target = np.concatenate(series)
    rates = LabelChain.fit(series).log_set_rates
    log_rates = rates[np.concatenate([level_of(len(labels)) for labels in series])]
    rng = np.random.default_rng(0)
    shared, own = rng.standard_normal((len(target), 1)), rng.standard_normal(target.shape)
    noise = np.sqrt(offset) * shared + np.sqrt(1 - offset) * own

    strength = fit_strength(target, noise, offset, log_rates)
    prob = read_single_slices(target * strength + noise, strength, offset, log_rates)
    loss = label_log_loss(prob, target)
    np.testing.assert_allclose(loss, [LOG_LOSS[label] for label in LABELS], rtol=2e-4)


def test_labels_that_never_occur_have_no_strength() -> None:
    target = np.zeros((50, len(LABELS)))
    log_rates = LabelChain.fit([target]).log_set_rates[level_of(50)]
    with pytest.raises(DataError, match="no strength of the evidence"):
        fit_strength(target, np.zeros_like(target), 0.0, log_rates)
