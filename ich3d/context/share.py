"""How much the encoder's own logits count beside context models that read embeddings alone.

With few patients both err often and differently, and the mean of the two is best. With many, the
context models know what the encoder says, and better.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from ich3d.context.bigru import ENCODER_SHARE, ContextModel
from ich3d.context.dataset import SeriesSample, collate
from ich3d.core.labels import ANY, LABELS
from ich3d.training.losses import group_losses

SHARES: Final = (ENCODER_SHARE, 0.25, 0.0)
"""The shares to choose from, the most cautious first."""

MIN_BLEEDING_GROUPS: Final = 20
"""With fewer validation patients who bleed, the first share stands."""


@dataclass(frozen=True)
class ValidationScores:
    """Logits of N slices, of patients whom neither model was trained on.

    Attributes:
        encoder: the encoder's logits (N, K).
        context: those of a context model (N, K).
        target: labels (N, K), NaN where there is none.
        group: patient group (N,).
    """

    encoder: torch.Tensor
    context: torch.Tensor
    target: torch.Tensor
    group: np.ndarray


@torch.no_grad()
def validation_scores(
    model: ContextModel, series: Sequence[SeriesSample], groups: Sequence[str]
) -> ValidationScores:
    """The scores of a member's validation series, each of the patient group in `groups`."""
    batch = collate(series).to(next(model.parameters()).device)
    logits = model(batch.embeddings, batch.logits, batch.z_mm, batch.lengths, batch.brain_cm2)
    is_slice = torch.arange(logits.shape[1]) < batch.lengths[:, None]  # (B, T)
    encoder, context, target = (
        tensor.cpu()[is_slice] for tensor in (batch.logits, logits, batch.target)
    )
    return ValidationScores(encoder, context, target, np.repeat(groups, batch.lengths.numpy()))


def choose_encoder_share(members: Sequence[ValidationScores]) -> float:
    """The most cautious of `SHARES` whose loss is within one standard error of the lowest.

    Each member is scored on its own validation patients. The standard error is that of the paired
    difference over patient groups (Breiman et al., 1984).
    """
    group = np.concatenate([scores.group for scores in members])
    encoder, context, target = (
        torch.cat([getattr(scores, name) for scores in members])
        for name in ("encoder", "context", "target")
    )
    bleeds = target[:, LABELS.index(ANY)].numpy() > 0.5
    if len(np.unique(group[bleeds])) < MIN_BLEEDING_GROUPS:
        return SHARES[0]

    losses = [
        group_losses(share * encoder + (1 - share) * context, target, group) for share in SHARES
    ]
    best = losses[int(np.argmin([loss.mean() for loss in losses]))]
    for share, loss in zip(SHARES, losses, strict=True):
        worse = loss - best  # (G,)
        if worse.mean() <= worse.std(ddof=1) / np.sqrt(len(worse)):
            return share
    return SHARES[-1]
