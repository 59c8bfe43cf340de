"""TODO."""

import numpy as np
import torch
from torch import nn

from ich3d.core.labels import weight_vector
from ich3d.core.metrics import log_losses, sigmoid


def masked_log_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The metric's weighted log loss of logits (N, K) on targets (N, K), whose NaN count nowhere."""
    known = ~torch.isnan(target)
    losses = nn.functional.binary_cross_entropy_with_logits(
        logits.float(), torch.nan_to_num(target), reduction="none"
    )
    mean = (losses * known).sum(dim=0) / known.sum(dim=0).clamp(min=1)
    weights = torch.as_tensor(weight_vector(), dtype=mean.dtype, device=mean.device)
    return (mean * weights).sum()


def group_losses(logits: torch.Tensor, target: torch.Tensor, group: np.ndarray) -> np.ndarray:
    """Each group's share (G,) of the metric over rows (N, K) of the groups `group` (N,); its mean is
    `masked_log_loss`."""
    losses = log_losses(sigmoid(logits.float().cpu().numpy()), target.cpu().numpy())
    shares = np.nan_to_num(losses / (~np.isnan(losses)).sum(axis=0).clip(min=1)) @ weight_vector()
    names, index = np.unique(group, return_inverse=True)
    return np.asarray(np.bincount(index, shares) * len(names))
