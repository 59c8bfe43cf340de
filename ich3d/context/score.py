"""Probabilities of one series by the context model."""

import numpy as np
import torch

from ich3d.context.bigru import ContextEnsemble, ContextModel
from ich3d.context.dataset import collate, series_sample
from ich3d.context.shuffle import NEVER, WITH_DIFFERENCES, random_order, shuffled_logits
from ich3d.core.metrics import sigmoid
from ich3d.core.types import SliceEmbeddings


@torch.no_grad()
def score_context(
    model: ContextModel | ContextEnsemble, embedded: SliceEmbeddings, z_mm: np.ndarray
) -> np.ndarray:
    """Probabilities float32 (Z, K) of one embedded series whose slices lie at `z_mm` (Z,)."""
    batch = collate([series_sample(embedded, z_mm)]).to(next(model.parameters()).device)
    logits = model(batch.embeddings, batch.logits, batch.z_mm, batch.lengths)[0]  # (Z, K)
    return sigmoid(logits.cpu().numpy()).astype(np.float32)


@torch.no_grad()
def score_shuffled(
    model: ContextModel | ContextEnsemble,
    embedded: SliceEmbeddings,
    z_mm: np.ndarray,
    shuffle: str,
    rng: np.random.Generator,
) -> np.ndarray:
    """As `score_context`, its slices read in random order as the key `control.shuffle` says."""
    if shuffle == NEVER:
        return score_context(model, embedded, z_mm)
    batch = collate([series_sample(embedded, z_mm)]).to(next(model.parameters()).device)
    order = random_order(batch.lengths, rng)
    logits = shuffled_logits(model, batch, order, differences_too=shuffle == WITH_DIFFERENCES)[0]
    return sigmoid(logits.cpu().numpy()).astype(np.float32)
