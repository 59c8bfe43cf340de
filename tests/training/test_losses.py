"""The loss is the metric: unknown labels are left out of it."""

import numpy as np
import pytest
import torch

from ich3d.core.metrics import sigmoid, weighted_log_loss
from ich3d.training.losses import masked_log_loss


def test_masked_log_loss_is_the_metric() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (40, 6)).astype(np.float32)
    target = (rng.random((40, 6)) < 0.3).astype(np.float32)
    target[rng.random((40, 6)) < 0.2] = np.nan
    loss = masked_log_loss(torch.from_numpy(logits), torch.from_numpy(target))
    assert float(loss) == pytest.approx(weighted_log_loss(sigmoid(logits), target), rel=1e-5)


def test_unlabelled_targets_carry_no_gradient() -> None:
    logits = torch.zeros(3, 6, requires_grad=True)
    target = torch.ones(3, 6)
    target[1] = torch.nan
    masked_log_loss(logits, target).backward()
    assert logits.grad is not None
    assert torch.all(logits.grad[1] == 0)
    assert torch.all(logits.grad[0] < 0)


def test_a_batch_without_any_label_has_no_loss() -> None:
    assert float(masked_log_loss(torch.zeros(2, 6), torch.full((2, 6), torch.nan))) == 0.0
