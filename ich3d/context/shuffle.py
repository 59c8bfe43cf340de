"""The control experiments that give a context model the slices of a series in random order.

What a model loses by that is what the order of slices is worth to it. Nothing here is used when a
series is predicted.
"""

from typing import Final

import numpy as np
import torch
from torch import nn

from ich3d.context.bigru import ContextEnsemble, ContextModel, gather_slices
from ich3d.context.dataset import SeriesBatch

NEVER: Final = "never"
IN_TRAINING: Final = "training"
WITH_DIFFERENCES: Final = "with_differences"


def random_order(lengths: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """A permutation of the slices of each series, int64 (B, T); padding stays in place."""
    order = np.tile(np.arange(int(lengths.max())), (len(lengths), 1))  # (B, T)
    for row, length in zip(order, lengths.tolist(), strict=True):
        row[:length] = rng.permutation(length)
    return torch.from_numpy(order)


def shuffled_logits(
    model: nn.Module, batch: SeriesBatch, order: torch.Tensor, differences_too: bool = False
) -> torch.Tensor:
    """Logits (B, T, K) of slices that the GRU reads in `order` (B, T); rows stay those of the
    slices.

    Each slice moves together with its differences to its true neighbours, while positions and
    gaps stay in place. With `differences_too`, differences are to whatever slice comes to lie
    next to it.
    """
    if isinstance(model, ContextEnsemble):
        members = [
            shuffled_logits(member, batch, order, differences_too) for member in model.members
        ]
        return torch.stack(members).mean(dim=0)

    assert isinstance(model, ContextModel)
    read_at = order.to(batch.logits.device)[..., None]  # (B, T, 1)
    slices = model.slice_features(batch.embeddings, batch.logits)  # (B, T, C)
    if differences_too:
        shuffled = model.with_differences(gather_slices(slices, read_at), batch.lengths)
    else:
        shuffled = gather_slices(model.with_differences(slices, batch.lengths), read_at)

    place = model.place_features(batch.z_mm, batch.lengths)  # (B, T, 5)
    correction = model.correction(shuffled, place, batch.lengths)  # (B, T, K), in shuffled order
    return batch.logits + gather_slices(correction, torch.argsort(read_at, dim=1))
