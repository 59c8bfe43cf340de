"""Probabilities of one series: the model's logits as probabilities, in the order of the slices."""

import numpy as np
import pytest
import torch

from ich3d.context.bigru import ContextEnsemble
from ich3d.context.score import member_agreement, score_context, score_shuffled
from ich3d.core.labels import LABELS
from ich3d.core.metrics import sigmoid
from ich3d.prepare.hu_features import BRAIN_CM2
from tests.helpers.embedded import batch_of, context_model, logits_of, random_embedded


def test_scores_are_probabilities_of_the_logits() -> None:
    model, series = context_model(reads="both"), random_embedded(5)
    scores = score_context(model, series, 5.0 * np.arange(5))
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, sigmoid(logits_of(model, batch_of(series))[0]), atol=1e-6)


@pytest.mark.parametrize("shuffle", ["test", "training", "with_differences"])
def test_shuffled_scores_differ(shuffle: str) -> None:
    model, series, z_mm = context_model(), random_embedded(12), 5.0 * np.arange(12)
    plain = score_context(model, series, z_mm)
    shuffled = score_shuffled(model, series, z_mm, shuffle, np.random.default_rng(0))
    assert np.abs(shuffled - plain).max() > 1e-4


def test_members_agree_where_their_probabilities_of_any_are_equal() -> None:
    """A slice that shows no brain has the same probability from all."""
    one, other = context_model(), context_model()
    torch.nn.init.ones_(other.correction_head.bias)
    series, z_mm = random_embedded(5), 5.0 * np.arange(5)
    series.hu_features[2, BRAIN_CM2] = 0.0
    agreement = member_agreement(ContextEnsemble([one, other]), series, z_mm)
    prob = [score_context(model, series, z_mm)[:, LABELS.index("any")] for model in (one, other)]
    np.testing.assert_allclose(agreement, 1 - 2 * np.std(prob, axis=0), atol=1e-6)
    assert agreement[2] == 1
    assert agreement[[0, 1, 3, 4]].max() < 0.999
    assert np.isnan(member_agreement(ContextEnsemble([one]), series, z_mm)).all()
