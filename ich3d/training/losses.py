"""The loss that networks are trained on: the metric's weighted log loss, on logits."""

import numpy as np
import torch
from torch import nn

from ich3d.core.arguments import require_tensor
from ich3d.core.labels import LABELS, weight_vector
from ich3d.core.metrics import log_losses, sigmoid


def masked_log_loss(
    logits: torch.Tensor, target: torch.Tensor, n_known: torch.Tensor | None = None
) -> torch.Tensor:
    """Weighted log loss of RSNA 2019 as one number; targets that are NaN are left out.

    Args:
        logits: (N, K), labels in the order of `core.labels.LABELS`.
        target: labels from 0 to 1 (N, K), NaN where a slice has no label.
        n_known: how many slices have each label (K,), where these are a part of a batch; None for
            the number in `target`. The losses of all parts add up to the batch's.

    Raises:
        DataError: the two are not of this shape.

    Examples:
        >>> nothing_known = torch.full((2, 6), float("nan"))
        >>> float(masked_log_loss(torch.zeros(2, 6), nothing_known))
        0.0
    """
    require_tensor("logits", logits, "(N, K)", (None, len(LABELS)))
    require_tensor("target", target, "(N, K)", tuple(logits.shape))
    is_known = ~torch.isnan(target)
    losses = nn.functional.binary_cross_entropy_with_logits(
        logits.float(), torch.nan_to_num(target), reduction="none"
    )  # (N, K)
    n_known = is_known.sum(dim=0) if n_known is None else n_known
    label_loss = (losses * is_known).sum(dim=0) / n_known.clamp(min=1)  # (K,)
    weights = torch.as_tensor(weight_vector(), dtype=label_loss.dtype, device=label_loss.device)
    return (label_loss * weights).sum()


def group_losses(logits: torch.Tensor, target: torch.Tensor, group: np.ndarray) -> np.ndarray:
    """Each patient group's part of the loss times G (G,), so that their mean is
    `masked_log_loss`.

    Args:
        logits: (N, K).
        target: labels (N, K), NaN where a slice has no label.
        group: the patient group of each row (N,).
    """
    losses = log_losses(sigmoid(logits.float().cpu().numpy()), target.cpu().numpy())  # (N, K)
    n_known = (~np.isnan(losses)).sum(axis=0).clip(min=1)  # (K,)
    row_loss = np.nan_to_num(losses / n_known) @ weight_vector()  # (N,)

    names, index = np.unique(group, return_inverse=True)
    return np.asarray(np.bincount(index, row_loss) * len(names))


def base_logits(target: np.ndarray) -> torch.Tensor:
    """Logit (K,) of each label's rate in `target` (N, K), kept off 0 and 1 by half a slice.

    A label that no slice has ground truth for counts as absent everywhere.
    """
    n_positive = np.nansum(target, axis=0)
    n_known = (~np.isnan(target)).sum(axis=0)
    n_rows = np.where(n_known > 0, n_known, len(target))
    rates = (n_positive + 0.5) / (n_rows + 1.0)
    return torch.logit(torch.as_tensor(rates, dtype=torch.float32))
