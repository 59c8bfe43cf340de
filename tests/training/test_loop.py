"""The training loop: which epoch it keeps, when it stops, and that it resumes to equal weights."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from ich3d.core.errors import ConfigError
from ich3d.training import loop, metrics_log
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

    def batches(epoch: int, first: int) -> Iterator[torch.Tensor]:
        yield from torch.randn(4, 8, 1)[first:]

    def loss(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        squared_error: torch.Tensor = (model(x) - 2 * x) ** 2
        return squared_error.mean()

    def validation_losses(model: nn.Module) -> np.ndarray:
        return np.array(next(losses_of_epochs))

    return Task(nn.Linear(1, 1), batches, loss, validation_losses, seed=0)


class NoisyLine(nn.Linear):
    """A line that draws from torch's random stream, and counts the batches that it saw."""

    def __init__(self) -> None:
        super().__init__(1, 1)
        self.steps = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.steps += 1
        return super().forward(x + torch.randn_like(x))


def noisy_task(losses: Losses, stop_at: int | None = None) -> Task[torch.Tensor]:
    """As `line_task`, on batches that depend on the epoch; it fails at step `stop_at`."""
    torch.manual_seed(0)
    task, model = line_task(losses), NoisyLine()

    def batches(epoch: int, first: int) -> Iterator[torch.Tensor]:
        yield from torch.randn(4, 8, 1, generator=torch.Generator().manual_seed(epoch))[first:]

    def loss(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
        if model.steps == stop_at:
            raise InterruptedError
        return task.loss(network, x)

    return replace(task, model=model, batches=batches, loss=loss)


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(row) for row in (folder / "metrics.jsonl").read_text().splitlines()]


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


def test_a_training_that_stops_within_an_epoch_ends_in_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on at the last checkpoint, with the random numbers that came next."""
    monkeypatch.setattr(loop, "MIN_CHECKPOINT_STEPS", 2)
    losses = [[0.4, 0.4, 0.4, 0.4]] * 4
    whole = fit(noisy_task(losses), SCHEDULE, tmp_path / "whole", "line")
    with pytest.raises(InterruptedError):
        fit(noisy_task(losses, stop_at=7), SCHEDULE, tmp_path / "stopped", "line")

    continued = noisy_task(losses[1:])
    resumed = fit(continued, SCHEDULE, tmp_path / "stopped", "line")
    for uninterrupted, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(uninterrupted, other)
    assert history(tmp_path / "whole") == history(tmp_path / "stopped")
    assert continued.model.steps == 16 - 6
    assert [row["step"] for row in metrics(tmp_path / "stopped")] == [4, 8, 12, 16]


def test_each_epoch_and_some_steps_are_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_log, "STEPS_PER_ROW", 2)
    fit(line_task([GOOD, BAD, BAD, BAD]), SCHEDULE, tmp_path, "line")
    rows = metrics(tmp_path)
    steps = [row for row in rows if "epoch" not in row]
    epochs = [row for row in rows if "epoch" in row]
    assert [row["step"] for row in steps] == [2, 4, 6, 8, 10, 12]
    assert all(row["steps_per_second"] > 0 for row in steps)
    assert [row["lr"] for row in steps] == [
        SCHEDULE.lr * SCHEDULE.factor(s - 1) for s in range(2, 13, 2)
    ]
    assert [row["is_kept"] for row in epochs] == [True, False, False]
    assert [row["validation_loss"] for row in epochs] == [np.mean(GOOD), np.mean(BAD), np.mean(BAD)]
    for number, row in enumerate(epochs):
        in_epoch = [step["loss"] for step in steps[2 * number : 2 * number + 2]]
        assert row["loss"] == pytest.approx(np.mean(in_epoch), abs=1e-5)


def test_tensorboard_reads_the_losses_of_the_epochs(tmp_path: Path) -> None:
    fit(line_task([GOOD, BAD]), replace(SCHEDULE, epochs=2), tmp_path, "line")
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    read = [(event.step, event.value) for event in events.Scalars("epoch/validation_loss")]
    assert read == [(4, pytest.approx(np.mean(GOOD))), (8, pytest.approx(np.mean(BAD)))]


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path: Path) -> None:
    task = replace(line_task([GOOD]), loss=lambda model, x: model(x).sum() * torch.nan)
    with pytest.raises(ConfigError, match="lower the learning rate"):
        fit(task, SCHEDULE, tmp_path, "line")
