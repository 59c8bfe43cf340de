"""What each slice of a series moved one logit of the context model by."""

from typing import Final

import numpy as np
import torch

from ich3d.context.bigru import ContextEnsemble
from ich3d.context.dataset import series_sample
from ich3d.core.types import SliceEmbeddings

STEPS: Final = 32
"""Points at which the integral is evaluated."""


def context_contributions(
    model: ContextEnsemble,
    embedded: SliceEmbeddings,
    z_mm: np.ndarray,
    baseline_logits: np.ndarray,
    index: int,
    k: int,
) -> np.ndarray:
    """The parts that logit `k` of slice `index` is the sum of.

    Integrated gradients (Sundararajan et al., ICML 2017) along the straight line from a series of
    average slices in the same places to the series itself. The integral is a Gauss-Legendre sum.

    Args:
        model: the context models.
        embedded: the encoder's output for the series.
        z_mm: positions along the slice normal (Z,).
        baseline_logits: the logits of an average slice (K,); its embedding is the mean of the
            series.
        index: the slice that is explained.
        k: the label, an index into `core.labels.LABELS`.

    Returns:
        float (1 + Z,): the logit at the baseline, then what each slice moved it by; slices
        outside the model's window have zero.
    """
    device = next(model.parameters()).device
    points, weights = np.polynomial.legendre.leggauss(STEPS)
    shares = torch.tensor([0.0, *((points + 1) / 2)])  # (1 + STEPS,): the baseline, then the path
    shares = shares[:, None, None].float()  # (1 + STEPS, 1, 1)

    # Every point of the path is one series of the batch.
    sample = series_sample(embedded, z_mm)
    logits_change = sample.logits - torch.tensor(baseline_logits)  # (Z, K)
    embeddings_change = sample.embeddings - torch.tensor(embedded.embeddings.mean(axis=0))  # (Z, D)
    logits = (sample.logits - (1 - shares) * logits_change).to(device).requires_grad_()
    embeddings = (sample.embeddings - (1 - shares) * embeddings_change).to(device).requires_grad_()
    path_z_mm = sample.z_mm.expand(len(shares), -1)  # (1 + STEPS, Z)
    path_z_mm = path_z_mm.float() if device.type == "mps" else path_z_mm
    lengths = torch.full((len(shares),), len(z_mm))

    with torch.backends.cudnn.flags(enabled=False):  # cuDNN has no GRU gradient in evaluation mode
        brain_cm2 = sample.brain_cm2.expand(len(shares), -1).to(device)
        outputs = model(embeddings, logits, path_z_mm.to(device), lengths, brain_cm2)
        explained = outputs[:, index, k]
        by_embeddings, by_logits = (
            gradient[1:].cpu()
            for gradient in torch.autograd.grad(
                explained.sum(), (embeddings, logits), materialize_grads=True
            )
        )  # (STEPS, Z, D), (STEPS, Z, K)

    quadrature = torch.tensor(weights / 2).float()[:, None, None]
    moved = ((quadrature * by_logits).sum(dim=0) * logits_change).sum(dim=1)
    moved += ((quadrature * by_embeddings).sum(dim=0) * embeddings_change).sum(dim=1)  # (Z,)
    return np.concatenate([[explained[0].item()], moved.double().numpy()])
