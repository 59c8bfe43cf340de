"""Device, precision, checkpoints and the one training loop of the two networks."""

import json
import logging
import math
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import nn

from ich3d.core.errors import ConfigError
from ich3d.core.progress import Progress, quiet
from ich3d.core.seeds import derive
from ich3d.core.workspace import replacing

log = logging.getLogger(__name__)
Batch = TypeVar("Batch")
WARMUP_SHARE = 0.1
EMA_DECAY = 0.99


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: AdamW under a warm-up and a cosine, stopped once the last `patience` epochs
    were all worse on the inner patients than the best one by over `tolerance` standard errors of the
    paired difference. Zero keeps the best epoch."""

    epochs: int
    steps_per_epoch: int
    lr: float
    weight_decay: float
    patience: int
    tolerance: float

    def factor(self, step: int) -> float:
        """The learning rate's factor at a step: linear up, cosine down."""
        total = self.epochs * self.steps_per_epoch
        warmup = max(1.0, WARMUP_SHARE * total)
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1.0, total - warmup))))


@dataclass(frozen=True)
class Task(Generic[Batch]):
    """What is fitted: the model, an epoch's batches, the loss of one, the streams' seed, and the inner
    patients' loss: each group's share (G,) of it, whose mean is the metric."""

    model: nn.Module
    batches: Callable[[int], Iterable[Batch]]
    loss: Callable[[nn.Module, Batch], torch.Tensor]
    inner_losses: Callable[[nn.Module], np.ndarray]
    seed: int


@dataclass
class _State:
    """All that one epoch hands to the next; saved after each, so that a resumed run ends the same."""

    model: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer
    kept: dict[str, torch.Tensor]
    kept_epoch: int = -1
    best_losses: list[float] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)

    def save(self, path: Path) -> None:
        with replacing(path) as partial:
            torch.save(
                {
                    "model": self.model.state_dict(),
                    "average": self.average.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "kept": self.kept,
                    "kept_epoch": self.kept_epoch,
                    "best_losses": self.best_losses,
                    "history": self.history,
                },
                partial,
            )

    def load(self, path: Path) -> None:
        kept = torch.load(path, weights_only=True)
        self.model.load_state_dict(kept["model"])
        self.average.load_state_dict(kept["average"])
        self.optimizer.load_state_dict(kept["optimizer"])
        self.kept, self.kept_epoch = kept["kept"], kept["kept_epoch"]
        self.best_losses, self.history = kept["best_losses"], kept["history"]

    def keep_unless_worse(self, losses: np.ndarray, epoch: int, tolerance: float) -> None:
        """Keep this epoch's averaged weights unless the inner patients' losses (G,) say that the best
        epoch's were better, by over `tolerance` standard errors."""
        best = np.array(self.best_losses) if self.best_losses else losses
        worse = losses - best
        error = worse.std(ddof=1) / math.sqrt(len(worse)) if len(worse) > 1 else 0.0
        if worse.mean() <= tolerance * error:
            self.kept, self.kept_epoch = deepcopy(self.average.state_dict()), epoch
        if not self.best_losses or losses.mean() < best.mean():
            self.best_losses = losses.tolist()


def fit(
    task: Task[Batch], schedule: Schedule, folder: Path, label: str, progress: Progress = quiet
) -> nn.Module:
    """Train `task.model` and return it with the averaged weights of the last epoch that the inner
    patients do not find worse than the best, as far as the schedule's tolerance goes.

    Every epoch ends in `folder/state.pt`, from which an interrupted run goes on; `folder/history.json`
    keeps the losses. The streams of an epoch depend on the task's seed and the epoch alone.
    """
    optimizer = torch.optim.AdamW(
        _decayed(task.model, schedule.weight_decay), lr=schedule.lr, fused=True
    )
    state = _State(task.model, deepcopy(task.model), optimizer, kept={})
    checkpoint = folder / "state.pt"
    if checkpoint.exists():
        state.load(checkpoint)
    for epoch in range(len(state.history), schedule.epochs):
        if state.history and epoch - state.kept_epoch > schedule.patience:
            break
        torch.manual_seed(derive(task.seed, "epoch", epoch))
        batches = progress(
            task.batches(epoch), f"{label} {epoch + 1}/{schedule.epochs}", schedule.steps_per_epoch
        )
        train_loss = _epoch(task, schedule, state, batches, epoch)
        losses = task.inner_losses(state.average.eval())
        inner = float(losses.mean())
        state.history.append({"epoch": epoch, "loss": train_loss, "inner_loss": inner})
        state.keep_unless_worse(losses, epoch, schedule.tolerance)
        log.debug("%s epoch %d: loss %.4f, inner %.4f", label, epoch + 1, train_loss, inner)
        state.save(checkpoint)
    task.model.load_state_dict(state.kept)
    with replacing(folder / "history.json") as partial:
        history = [{**row, "is_kept": row["epoch"] == state.kept_epoch} for row in state.history]
        partial.write_text(json.dumps(history, indent=1) + "\n")
    return task.model.eval()


def _epoch(
    task: Task[Batch], schedule: Schedule, state: _State, batches: Iterable[Batch], epoch: int
) -> float:
    task.model.train()
    losses = []
    for index, batch in enumerate(batches):
        step = epoch * schedule.steps_per_epoch + index
        for group in state.optimizer.param_groups:
            group["lr"] = schedule.lr * schedule.factor(step)
        state.optimizer.zero_grad(set_to_none=True)
        loss = task.loss(task.model, batch)
        if not torch.isfinite(loss):
            raise ConfigError(
                f"the loss became {loss.item()} in epoch {epoch + 1}; lower the learning rate"
            )
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(task.model.parameters(), 1.0)
        state.optimizer.step()
        _average(state.average, task.model, step)
        losses.append(loss.detach())
    return float(torch.stack(losses).mean())


@torch.no_grad()
def _average(average: nn.Module, model: nn.Module, step: int) -> None:
    """Exponential moving average of the weights, warmed up so that early epochs are not stale."""
    decay = min(EMA_DECAY, (step + 1) / (step + 10))
    for kept, new in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if kept.dtype.is_floating_point:
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)


def _decayed(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices and kernels decay; biases and normalisation do not."""
    named = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in named if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in named if p.ndim <= 1], "weight_decay": 0.0},
    ]
