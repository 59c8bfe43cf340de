"""Probabilities of one series by the context model, and how far the models of an ensemble agree."""

from collections.abc import Callable

import numpy as np
import torch

from ich3d.config.ablation import WITH_DIFFERENCES
from ich3d.context.bigru import ContextEnsemble, ContextModel
from ich3d.context.shuffle import random_order, shuffled_logits
from ich3d.core.labels import ANY, LABELS
from ich3d.core.metrics import agreement, sigmoid
from ich3d.core.types import SliceEmbeddings
from ich3d.prepare.hu_features import BRAIN_CM2, silenced


def score_context(
    model: ContextModel | ContextEnsemble, embedded: SliceEmbeddings, z_mm: np.ndarray
) -> np.ndarray:
    """Score one series, always in float32. Slices that show no brain get next to nothing.

    Args:
        model: the context model, in evaluation mode.
        embedded: what the encoder gave for the series.
        z_mm: positions of its slices in millimetres, float64 (Z,), inferior to superior.

    Returns:
        Probabilities float32 (Z, K).
    """
    return _score(model, model, embedded, z_mm)


def member_agreement(
    ensemble: ContextEnsemble, embedded: SliceEmbeddings, z_mm: np.ndarray
) -> np.ndarray:
    """How far the members' probabilities of `any` agree in each slice (Z,), as
    `core.metrics.agreement` has it; NaN for one member. Arguments of `score_context`.
    """
    members = [member for member in ensemble.members if isinstance(member, ContextModel)]
    prob = np.stack([score_context(member, embedded, z_mm) for member in members])  # (M, Z, K)
    return agreement(prob[..., LABELS.index(ANY)])


def score_shuffled(
    model: ContextModel | ContextEnsemble,
    embedded: SliceEmbeddings,
    z_mm: np.ndarray,
    shuffle: str,
    rng: np.random.Generator,
) -> np.ndarray:
    """Probabilities float32 (Z, K) with the slices read in random order: a control experiment.

    `shuffle` is the value of `control.shuffle`; differences are shuffled too if it says so.
    """
    order = random_order(torch.tensor([len(z_mm)]), rng)

    def read_in_order(
        embeddings: torch.Tensor,
        logits: torch.Tensor,
        z: torch.Tensor,
        lengths: torch.Tensor,
        brain_cm2: torch.Tensor,
    ) -> torch.Tensor:
        arguments = (embeddings, logits, z, lengths, brain_cm2)
        return shuffled_logits(model, *arguments, order, shuffle == WITH_DIFFERENCES)

    return _score(model, read_in_order, embedded, z_mm)


@torch.no_grad()
def _score(
    model: ContextModel | ContextEnsemble,
    read: Callable[..., torch.Tensor],
    embedded: SliceEmbeddings,
    z_mm: np.ndarray,
) -> np.ndarray:
    """The probabilities of `read`, called with the tensors that `ContextModel.forward` takes."""
    device = next(model.parameters()).device
    z_dtype = torch.float32 if device.type == "mps" else torch.float64  # Metal has no float64
    logits = read(
        torch.from_numpy(embedded.embeddings)[None].float().to(device),  # (1, Z, D)
        torch.from_numpy(embedded.logits)[None].to(device),  # (1, Z, K)
        torch.tensor(z_mm, dtype=z_dtype)[None].to(device),  # (1, Z)
        torch.tensor([len(z_mm)]),
        torch.from_numpy(embedded.hu_features[:, BRAIN_CM2].copy())[None].to(device),  # (1, Z)
    )[0]  # (Z, K)
    prob = sigmoid(logits.cpu().numpy()).astype(np.float32)
    return silenced(prob, embedded.hu_features)
