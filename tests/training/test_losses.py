"""The loss is the metric: labels without ground truth are left out of it."""

import numpy as np
import pytest
import torch

from ich3d.core.labels import LABELS
from ich3d.core.metrics import sigmoid, weighted_log_loss
from ich3d.training.losses import group_losses, masked_log_loss


def test_masked_log_loss_is_the_metric() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (40, len(LABELS))).astype(np.float32)
    target = (rng.random(logits.shape) < 0.3).astype(np.float32)
    target[rng.random(logits.shape) < 0.2] = np.nan
    loss = masked_log_loss(torch.from_numpy(logits), torch.from_numpy(target))
    assert float(loss) == pytest.approx(weighted_log_loss(sigmoid(logits), target), rel=1e-5)


def test_unlabelled_targets_have_no_gradient() -> None:
    logits = torch.zeros(3, len(LABELS), requires_grad=True)
    target = torch.ones(3, len(LABELS))
    target[1] = torch.nan
    masked_log_loss(logits, target).backward()
    assert logits.grad is not None
    assert torch.all(logits.grad[1] == 0)
    assert torch.all(logits.grad[0] < 0)


def test_a_batch_without_any_label_has_no_loss() -> None:
    logits = torch.zeros(2, len(LABELS))
    assert float(masked_log_loss(logits, torch.full_like(logits, torch.nan))) == 0.0


def test_the_mean_over_groups_is_the_loss() -> None:
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(40, len(LABELS))).astype(np.float32))
    target = torch.from_numpy((rng.random(logits.shape) < 0.3).astype(np.float32))
    target[::7] = torch.nan
    losses = group_losses(logits, target, np.repeat(["a", "b", "c", "d"], 10))
    assert len(losses) == 4
    assert losses.mean() == pytest.approx(float(masked_log_loss(logits, target)), rel=1e-5)
