"""The training loop: what it keeps, and that an interruption leaves no trace."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ich3d.core.errors import ConfigError
from ich3d.core.labels import LABELS
from ich3d.training.loop import Schedule, Task, fit
from ich3d.training.losses import group_losses, masked_log_loss


def test_group_shares_average_to_the_metric() -> None:
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(40, len(LABELS))).astype(np.float32))
    target = torch.from_numpy((rng.random((40, len(LABELS))) < 0.3).astype(np.float32))
    target[::7] = torch.nan
    shares = group_losses(logits, target, np.repeat(["a", "b", "c", "d"], 10))
    assert len(shares) == 4
    assert shares.mean() == pytest.approx(float(masked_log_loss(logits, target)), rel=1e-5)


def line_task(inner_by_epoch: list[list[float]], seed: int = 0) -> Task[torch.Tensor]:
    """A line fitted to y = 2x, whose inner losses of four groups are given epoch by epoch."""
    torch.manual_seed(seed)
    given = iter(inner_by_epoch)

    def batches(epoch: int) -> Iterator[torch.Tensor]:
        yield from torch.randn(4, 8, 1)

    def loss(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return ((model(x) - 2 * x) ** 2).mean()

    return Task(nn.Linear(1, 1), batches, loss, lambda _: np.array(next(given)), seed)


SCHEDULE = Schedule(
    epochs=4, steps_per_epoch=4, lr=0.1, weight_decay=0.0, patience=2, tolerance=2.0
)


def kept_epoch(inner: list[list[float]], folder: Path) -> int:
    fit(line_task(inner), SCHEDULE, folder, "line")
    history = json.loads((folder / "history.json").read_text())
    (kept,) = [row["epoch"] for row in history if row["is_kept"]]
    return int(kept)


def test_a_lower_inner_loss_within_chance_does_not_choose_the_epoch(tmp_path: Path) -> None:
    noisy = [[0.5, 0.5, 0.5, 0.5], [0.1, 0.9, 0.2, 0.4], [0.6, 0.3, 0.5, 0.5], [0.5, 0.2, 0.4, 0.6]]
    assert kept_epoch(noisy, tmp_path) == 3


def test_inner_patients_veto_epochs_that_are_worse_beyond_chance(tmp_path: Path) -> None:
    worse = [
        [0.5, 0.5, 0.5, 0.5],
        [0.2, 0.2, 0.2, 0.2],
        [0.6, 0.61, 0.6, 0.6],
        [0.7, 0.7, 0.71, 0.7],
    ]
    assert kept_epoch(worse, tmp_path) == 1


def test_training_stops_once_patience_is_over(tmp_path: Path) -> None:
    schedule = Schedule(
        epochs=20, steps_per_epoch=4, lr=0.1, weight_decay=0.0, patience=2, tolerance=2.0
    )
    inner = [[0.2, 0.2, 0.2, 0.2]] + [[0.6, 0.61, 0.6, 0.6]] * 19
    fit(line_task(inner), schedule, tmp_path, "line")
    assert len(json.loads((tmp_path / "history.json").read_text())) == 3


def test_an_interrupted_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    inner = [[0.4, 0.4, 0.4, 0.4]] * 4
    whole = fit(line_task(inner), SCHEDULE, tmp_path / "whole", "line")
    with pytest.raises(StopIteration):  # the third epoch finds no inner losses and fails
        fit(line_task(inner[:2]), SCHEDULE, tmp_path / "stopped", "line")
    task = line_task(inner[2:])
    task.model.load_state_dict({"weight": torch.zeros(1, 1), "bias": torch.zeros(1)})
    resumed = fit(task, SCHEDULE, tmp_path / "stopped", "line")
    for one, two in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, two)


def test_a_loss_that_is_no_number_stops_with_a_sentence(tmp_path: Path) -> None:
    task = line_task([[0.0]])
    broken = Task(
        task.model, task.batches, lambda m, x: m(x).sum() * torch.nan, task.validation_losses, 0
    )
    with pytest.raises(ConfigError, match="lower the learning rate"):
        fit(broken, SCHEDULE, tmp_path, "line")
