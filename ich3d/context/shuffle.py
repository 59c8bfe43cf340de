"""The control experiments that give a context model the slices of a series in random order.

What a model loses by that is what the order of slices is worth to it. Nothing here is used when a
series is predicted.
"""

import numpy as np
import torch
from torch import nn

from ich3d.context.bigru import ContextEnsemble, ContextModel, gather_slices


def random_order(lengths: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """A permutation of the slices of each series, int64 (B, T); padding stays where it is."""
    order = np.tile(np.arange(int(lengths.max())), (len(lengths), 1))  # (B, T)
    for row, length in zip(order, lengths.tolist(), strict=True):
        row[:length] = rng.permutation(length)
    return torch.from_numpy(order)


def shuffled_logits(
    model: nn.Module,
    embeddings: torch.Tensor,
    logits: torch.Tensor,
    z_mm: torch.Tensor,
    lengths: torch.Tensor,
    brain_cm2: torch.Tensor,
    order: torch.Tensor,
    differences_too: bool = False,
) -> torch.Tensor:
    """As `ContextModel.forward`, but the GRU reads the slices in another order.

    Row t of the result still belongs to slice t. A slice moves together with its differences to its
    true neighbours, while positions and gaps stay where they are.

    Args:
        model: a `ContextModel` or `ContextEnsemble` without a window.
        embeddings: (B, T, D).
        logits: (B, T, K).
        z_mm: (B, T).
        lengths: (B,).
        brain_cm2: (B, T).
        order: the slice that is read at each step (B, T).
        differences_too: take differences after the slices have moved, so that they are to whatever
            slice is read before and after.

    Returns:
        Logits (B, T, K).
    """
    if isinstance(model, ContextEnsemble):
        arguments = (embeddings, logits, z_mm, lengths, brain_cm2, order, differences_too)
        return model.joined(logits, [shuffled_logits(m, *arguments) for m in model.members])

    assert isinstance(model, ContextModel)
    read_at = order.to(logits.device)[..., None]  # (B, T, 1)
    slices = model.slice_features(embeddings, logits, brain_cm2)  # (B, T, C)
    if differences_too:
        shuffled = model.with_differences(gather_slices(slices, read_at), lengths)
    else:
        shuffled = gather_slices(model.with_differences(slices, lengths), read_at)

    positions = model.position_features(z_mm, lengths)  # (B, T, P)
    read = model.read(shuffled, positions, lengths)  # (B, T, K), in the new order
    return model.on_top_of(logits, gather_slices(read, torch.argsort(read_at, dim=1)))
