"""Probabilities of one series: the model's logits as probabilities, in the order of the slices."""

import numpy as np
import pytest

from ich3d.context.score import score_context, score_shuffled
from ich3d.core.metrics import sigmoid
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
