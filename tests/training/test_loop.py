"""The training loop: which epoch it keeps, when it stops, and that it resumes to equal weights."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ich3d.core.errors import ConfigError
from ich3d.training.loop import Schedule, Task, fit

SCHEDULE = Schedule(
    epochs=4, steps_per_epoch=4, lr=0.1, weight_decay=0.0, patience=2, tolerance=2.0
)

Losses = list[list[float]]
"""The losses of four validation patient groups, by epoch."""

GOOD, BAD = [0.2, 0.2, 0.2, 0.2], [0.6, 0.61, 0.6, 0.6]


def line_task(losses: Losses) -> Task[torch.Tensor]:
    """A line that is trained to y = 2x; validation gives `losses` epoch by epoch."""
    torch.manual_seed(0)
    losses_of_epochs = iter(losses)

    def batches(epoch: int) -> Iterator[torch.Tensor]:
        yield from torch.randn(4, 8, 1)

    def loss(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        squared_error: torch.Tensor = (model(x) - 2 * x) ** 2
        return squared_error.mean()

    def validation_losses(model: nn.Module) -> np.ndarray:
        return np.array(next(losses_of_epochs))

    return Task(nn.Linear(1, 1), batches, loss, validation_losses, seed=0)


def history(folder: Path) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = json.loads((folder / "history.json").read_text())
    return rows


def kept_epoch(losses: Losses, folder: Path, schedule: Schedule = SCHEDULE) -> int:
    """Train with these validation losses; the epoch whose weights are kept."""
    fit(line_task(losses), schedule, folder, "line")
    (kept,) = (int(row["epoch"]) for row in history(folder) if row["is_kept"])
    return kept


def test_the_last_epoch_is_kept_where_losses_differ_by_chance(tmp_path: Path) -> None:
    noisy = [[0.5, 0.5, 0.5, 0.5], [0.1, 0.9, 0.2, 0.4], [0.6, 0.3, 0.5, 0.5], [0.5, 0.2, 0.4, 0.6]]
    assert np.argmin(np.mean(noisy, axis=1)) == 1
    assert kept_epoch(noisy, tmp_path) == 3


def test_epochs_that_are_worse_beyond_chance_are_rejected(tmp_path: Path) -> None:
    assert kept_epoch([[0.5, 0.5, 0.5, 0.5], GOOD, BAD, [0.7, 0.7, 0.71, 0.7]], tmp_path) == 1


def test_without_tolerance_the_best_epoch_is_kept(tmp_path: Path) -> None:
    losses = [
        [0.5, 0.5, 0.5, 0.5],
        [0.1, 0.9, 0.2, 0.4],
        [0.6, 0.3, 0.5, 0.5],
        [0.5, 0.2, 0.4, 0.6],
    ]
    assert kept_epoch(losses, tmp_path, replace(SCHEDULE, tolerance=0.0)) == 1


def test_training_stops_once_patience_is_over(tmp_path: Path) -> None:
    fit(line_task([GOOD] + [BAD] * 19), replace(SCHEDULE, epochs=20), tmp_path, "line")
    assert len(history(tmp_path)) == 1 + SCHEDULE.patience


def test_the_learning_rate_rises_and_then_falls_to_zero() -> None:
    schedule = replace(SCHEDULE, epochs=10, steps_per_epoch=10)
    factors = [schedule.factor(step) for step in range(100)]
    assert np.argmax(factors) in (9, 10)  # a tenth of all steps
    assert max(factors) == 1
    assert np.all(np.diff(factors[:10]) > 0)
    assert np.all(np.diff(factors[10:]) < 0)
    assert factors[-1] < 1e-3


def test_an_interrupted_training_ends_in_the_same_weights(tmp_path: Path) -> None:
    losses = [[0.4, 0.4, 0.4, 0.4]] * 4
    whole = fit(line_task(losses), SCHEDULE, tmp_path / "whole", "line")
    with pytest.raises(StopIteration):  # the third epoch gets no validation losses and fails
        fit(line_task(losses[:2]), SCHEDULE, tmp_path / "stopped", "line")

    task = line_task(losses[2:])
    task.model.load_state_dict({"weight": torch.zeros(1, 1), "bias": torch.zeros(1)})
    resumed = fit(task, SCHEDULE, tmp_path / "stopped", "line")
    pairs = list(zip(whole.parameters(), resumed.parameters(), strict=True))
    assert len(pairs) == 2
    for uninterrupted, continued in pairs:
        assert torch.equal(uninterrupted, continued)
    assert history(tmp_path / "whole") == history(tmp_path / "stopped")


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path: Path) -> None:
    task = replace(line_task([GOOD]), loss=lambda model, x: model(x).sum() * torch.nan)
    with pytest.raises(ConfigError, match="lower the learning rate"):
        fit(task, SCHEDULE, tmp_path, "line")
