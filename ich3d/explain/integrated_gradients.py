"""TODO."""

from dataclasses import replace

import numpy as np
import torch

from ich3d.context.bigru import ContextEnsemble
from ich3d.context.dataset import ContextInput, collate, window_series

STEPS = 32  # points on the path of the integrated gradients


def context_parts(
    model: ContextEnsemble, series: ContextInput, baseline: np.ndarray, index: int, k: int
) -> np.ndarray:
    """What logit `k` of slice `index` is the sum of (1 + Z,): the logit at the baseline, then what each slice
    moved it by.

    Integrated gradients (Sundararajan et al., ICML 2017) on the straight way to the series from one of
    average slices in the same places, each with the logits `baseline` (K,) and the series' mean embedding.
    The integral is Gauss and Legendre's sum over `STEPS` points.
    """
    points, weights = np.polynomial.legendre.leggauss(STEPS)
    whole, config = (series, index), model.config
    part, place = whole if config.reads_whole_series else window_series(series, config)[index]
    logits, embeddings = part.logits - baseline, part.embeddings - series.embeddings.mean(axis=0)
    shares = np.concatenate([[0.0], (points + 1) / 2])  # the baseline itself, then the way from it
    way = [
        replace(
            part,
            embeddings=part.embeddings - (1 - share) * embeddings,
            logits=part.logits - (1 - share) * logits,
        )
        for share in shares
    ]
    batch = collate(way, [np.full_like(part.logits, np.nan)] * len(way))
    batch = batch.to(next(model.parameters()).device)
    inputs = batch.logits.requires_grad_(), batch.embeddings.requires_grad_()
    with torch.backends.cudnn.flags(
        enabled=False
    ):  # cuDNN has no gradient of a GRU outside training
        out = model(batch)[:, place, k]
        gradients = torch.autograd.grad(out.sum(), inputs, materialize_grads=True)
    by_logits, by_vectors = (
        np.tensordot(weights / 2, g[1:].cpu().numpy(), axes=1) for g in gradients
    )
    moved = (by_logits * logits).sum(axis=1) + (by_vectors * embeddings).sum(axis=1)
    below = index - place  # slices that the model's window leaves out
    return np.concatenate(
        [[out[0].item()], np.pad(moved, (below, len(series) - below - len(part)))]
    )
