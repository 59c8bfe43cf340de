"""Scored series with probabilities that a test chooses."""

from dataclasses import replace

import numpy as np

from ich3d.core.labels import ANY, LABELS, STAGES
from ich3d.inference.scoring import SeriesPrediction

CALM = 0.125  # the probability of every slice and label that no test changes


def with_bleeds(prediction: SeriesPrediction, *bleeds: tuple[int, str, float]) -> SeriesPrediction:
    """The same series with other scores, all `CALM` except for `bleeds`.

    Each of `bleeds` is a slice, a label, and the stack's probability of that label and of `any`.
    """
    shape = (len(prediction.series), len(LABELS))
    prob = {stage: np.full(shape, CALM, dtype=np.float32) for stage in STAGES}
    for index, label, value in bleeds:
        prob["stack"][index, [LABELS.index(label), LABELS.index(ANY)]] = value
    return replace(prediction, prob=prob)
