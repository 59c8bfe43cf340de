"""The one training loop: AdamW, warm-up and cosine, averaged weights, resumable."""

import json
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import numpy as np
import torch
from torch import nn

from ich3d.config.schema import ContextConfig, SlicesConfig
from ich3d.core.errors import ConfigError, DataError
from ich3d.core.progress import Progress, quiet
from ich3d.core.seeds import derive
from ich3d.core.workspace import DAMAGED, replacing
from ich3d.training import random_state
from ich3d.training.metrics_log import MetricsLog
from ich3d.training.ranks import ALONE, Ranks

log = logging.getLogger(__name__)
Batch = TypeVar("Batch")

WARMUP_SHARE: Final = 0.1
"""Share of all steps over which the learning rate rises."""

EMA_DECAY: Final = 0.99
"""How much of the averaged weights each step keeps."""

MAX_GRADIENT_NORM: Final = 1.0

CHECKPOINTS_PER_EPOCH: Final = 20
MIN_CHECKPOINT_STEPS: Final = 200
"""How often an epoch keeps its state: a short one only when it ends."""

REJECT_ERRORS: Final = 2.0
"""Standard errors by which validation patients must find an epoch worse to reject it. With few
patients the epoch of the lowest loss is an early one, picked by chance: they may reject an
epoch, not choose it.
"""


ScheduleSettings = SlicesConfig | ContextConfig
"""Sections of the configuration that say how a network is trained."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast a network is trained.

    Attributes:
        epochs: largest number of epochs.
        steps_per_epoch: batches an epoch.
        lr: learning rate at its highest, after the warm-up.
        weight_decay: AdamW's, on matrices and kernels only.
        patience: rejected epochs in a row after which training stops.
        tolerance: an epoch is rejected if the validation patients find it worse than their best
            epoch by over so many standard errors of the paired difference. Zero keeps the best
            epoch.
    """

    epochs: int
    steps_per_epoch: int
    lr: float
    weight_decay: float
    patience: int
    tolerance: float

    @classmethod
    def of(
        cls,
        settings: ScheduleSettings,
        n_items: int,
        batch_size: int,
        tolerance: float = REJECT_ERRORS,
    ) -> "Schedule":
        """The schedule of a section of the configuration for `n_items` slices or series."""
        return cls(
            epochs=settings.epochs,
            steps_per_epoch=-(-n_items // batch_size),
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            patience=settings.patience,
            tolerance=tolerance,
        )

    @property
    def checkpoint_steps(self) -> int:
        """Steps from one checkpoint within an epoch to the next."""
        return max(MIN_CHECKPOINT_STEPS, -(-self.steps_per_epoch // CHECKPOINTS_PER_EPOCH))

    def factor(self, step: int) -> float:
        """The learning rate at a step as a share of `lr`: a linear rise, then a cosine to zero."""
        total = self.epochs * self.steps_per_epoch
        warmup = max(1.0, WARMUP_SHARE * total)
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1.0, total - warmup))
        return 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class Task(Generic[Batch]):
    """What is trained, and on what.

    Attributes:
        model: the network; it is trained in place.
        batches: the batches of an epoch, by its number and that of the first batch that is wanted.
        loss: the loss of the network on one batch, one number.
        validation_losses: what each validation patient group adds to the network's loss (G,), as
            `losses.group_losses` has it.
        seed: the root of the task's random streams.
        lr_factor: factor of the learning rate of a parameter, by its name.
        ranks: the processes that train the network together, each on its part of every batch.
    """

    model: nn.Module
    batches: Callable[[int, int], Iterable[Batch]]
    loss: Callable[[nn.Module, Batch], torch.Tensor]
    validation_losses: Callable[[nn.Module], np.ndarray]
    seed: int
    lr_factor: Callable[[str], float] = lambda name: 1.0
    ranks: Ranks = ALONE


def fit(
    task: Task[Batch], schedule: Schedule, folder: Path, label: str, progress: Progress = quiet
) -> nn.Module:
    """Train `task.model`; keep the moving average of its weights after the last accepted epoch.

    Every epoch, and long ones on their way, are kept in `folder/state.pt`, from which an
    interrupted training continues; it ends in the same weights, because the state of the random
    streams is kept too. `folder/history.json` holds the losses of the epochs,
    `folder/metrics.jsonl` what happened on the way.

    Args:
        task: network, batches and losses.
        schedule: epochs, learning rate, and when to stop.
        folder: where state and history are kept.
        label: what progress and log lines call the task.
        progress: shows the steps of each epoch.

    Returns:
        The network in evaluation mode.

    Raises:
        ConfigError: the loss is no longer finite.
    """
    parameters = _parameter_groups(task.model, schedule.weight_decay, task.lr_factor)
    optimizer = torch.optim.AdamW(parameters, lr=schedule.lr, fused=True)
    state = _State(task.model, deepcopy(task.model), optimizer, kept={})
    checkpoint = folder / "state.pt"
    if checkpoint.exists():
        state.load(checkpoint)
    metrics = MetricsLog(folder, state.position(schedule)) if task.ranks.is_first else None

    for epoch in range(len(state.history), schedule.epochs):
        if state.history and epoch - state.kept_epoch > schedule.patience:
            break
        if state.random:
            random_state.restore(task.ranks.own(state.random))
        else:
            torch.manual_seed(derive(task.seed, "epoch", epoch))
        first = len(state.step_losses)
        batches = progress(
            task.batches(epoch, first),
            f"{label} {epoch + 1}/{schedule.epochs}",
            schedule.steps_per_epoch - first,
        )
        _train_epoch(task, schedule, state, batches, checkpoint, metrics)

        # The averaged weights are judged, for they are what is kept.
        task.ranks.share_buffers(state.average)
        losses = task.validation_losses(state.average.eval())
        state.end_epoch(losses, epoch, schedule.tolerance)
        row = state.history[-1]
        log.debug(
            "%s epoch %d: loss %.4f, validation %.4f",
            label, epoch + 1, row["loss"], row["inner_loss"],
        )  # fmt: skip
        if metrics is not None:
            metrics.epoch(state.position(schedule), row, state.kept_epoch == epoch)
            state.save(checkpoint)

    task.model.load_state_dict(state.kept)
    if metrics is not None:
        metrics.close()
        _write_history(folder / "history.json", state)
    return task.model.eval()


@dataclass
class _State:
    """All that one step hands to the next, so that a run which resumes from it ends the same.

    `step_losses` are those of an epoch that is under way, `random` the state of the random streams
    in it, for each rank; both are empty between epochs.
    """

    model: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer
    kept: dict[str, torch.Tensor]
    kept_epoch: int = -1
    best_losses: list[float] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)
    step_losses: list[torch.Tensor] = field(default_factory=list)
    random: list[dict[str, torch.Tensor]] = field(default_factory=list)

    def position(self, schedule: Schedule) -> int:
        """Steps since the training began."""
        return len(self.history) * schedule.steps_per_epoch + len(self.step_losses)

    def save(self, path: Path) -> None:
        """Write the state, whole or not at all."""
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "kept": self.kept,
            "kept_epoch": self.kept_epoch,
            "best_losses": self.best_losses,
            "history": self.history,
            "step_losses": [float(loss) for loss in self.step_losses],
            "random": self.random,
        }
        content = BytesIO()  # torch does not say why a file cannot be written
        torch.save(state, content)
        with replacing(path) as partial:
            partial.write_bytes(content.getbuffer())

    def load(self, path: Path) -> None:
        """Continue from a state that `save` wrote."""
        try:
            state = torch.load(path, weights_only=True, map_location="cpu")
        except Exception:  # on damaged bytes torch raises many kinds of exceptions
            raise DataError(f"{path} is damaged: {DAMAGED}") from None
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.kept, self.kept_epoch = state["kept"], state["kept_epoch"]
        self.best_losses, self.history = state["best_losses"], state["history"]
        self.step_losses = [torch.tensor(loss) for loss in state.get("step_losses", [])]
        self.random = state.get("random", [])  # both are new in version 0.3

    def end_epoch(self, losses: np.ndarray, epoch: int, tolerance: float) -> None:
        """Note the epoch's losses, and keep its weights unless validation losses (G,) reject it."""
        loss = float(torch.stack([loss.cpu() for loss in self.step_losses]).mean())
        self.history.append({"epoch": epoch, "loss": loss, "inner_loss": float(losses.mean())})
        self.keep_unless_worse(losses, epoch, tolerance)
        self.step_losses, self.random = [], []

    def keep_unless_worse(self, losses: np.ndarray, epoch: int, tolerance: float) -> None:
        """Keep this epoch's averaged weights, unless validation losses (G,) reject them.

        They are rejected if they are worse than the best epoch's by over `tolerance` standard
        errors of the paired difference over groups.
        """
        best = np.array(self.best_losses) if self.best_losses else losses
        difference = losses - best
        n_groups = len(difference)
        error = difference.std(ddof=1) / math.sqrt(n_groups) if n_groups > 1 else 0.0

        if difference.mean() <= tolerance * error:
            self.kept, self.kept_epoch = deepcopy(self.average.state_dict()), epoch
        if not self.best_losses or losses.mean() < best.mean():
            self.best_losses = losses.tolist()


def _train_epoch(
    task: Task[Batch],
    schedule: Schedule,
    state: _State,
    batches: Iterable[Batch],
    checkpoint: Path,
    metrics: MetricsLog | None,
) -> None:
    """Train on the rest of an epoch, keeping the state now and then."""
    task.model.train()
    averaged, current = _floats(state.average), _floats(task.model)
    for batch in batches:
        step = state.position(schedule)
        for parameters in state.optimizer.param_groups:
            parameters["lr"] = schedule.lr * schedule.factor(step) * parameters["lr_factor"]

        loss = backward(task, batch)
        nn.utils.clip_grad_norm_(task.model.parameters(), MAX_GRADIENT_NORM)
        state.optimizer.step()

        # The average's decay rises from zero, so that early epochs are not stale.
        decay = min(EMA_DECAY, (step + 1) / (step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(averaged, current, 1 - decay)
        state.step_losses.append(loss)

        # The loss of a step is read after the next one has begun: a GPU then never waits for it.
        _require_finite(state.step_losses[-2:-1], len(state.history))
        if metrics is not None:
            metrics.step(step + 1, state.step_losses, schedule.lr * schedule.factor(step))
        done = len(state.step_losses)
        if done % schedule.checkpoint_steps == 0 and done < schedule.steps_per_epoch:
            _require_finite([loss], len(state.history))
            state.random = task.ranks.gather(random_state.of_this_process())
            if task.ranks.is_first:
                _copy_counts(state.average, task.model)
                state.save(checkpoint)
    _require_finite(state.step_losses[-1:], len(state.history))
    _copy_counts(state.average, task.model)


def backward(task: Task[Batch], batch: Batch) -> torch.Tensor:
    """Give the network's parameters their gradients on a batch; the loss.

    Each rank gives its part of both.
    """
    task.model.zero_grad(set_to_none=True)
    loss = task.loss(task.model, batch)
    torch.autograd.backward(loss)
    loss = loss.detach()
    task.ranks.add_up([loss, *(p.grad for p in task.model.parameters() if p.grad is not None)])
    return loss


def _require_finite(losses: Sequence[torch.Tensor], epoch: int) -> None:
    for loss in losses:
        if not torch.isfinite(loss):
            raise ConfigError(
                f"the loss became {loss.item()} in epoch {epoch + 1}; lower the learning rate"
            )


def _floats(model: nn.Module) -> list[torch.Tensor]:
    """The model's parameters and statistics, without its counts."""
    return [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]


@torch.no_grad()
def _copy_counts(average: nn.Module, model: nn.Module) -> None:
    """Give the averaged model what cannot be averaged: how many batches it has seen."""
    for copied, own in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if not copied.is_floating_point():
            copied.copy_(own)


def _parameter_groups(
    model: nn.Module, weight_decay: float, lr_factor: Callable[[str], float]
) -> list[dict[str, Any]]:
    """The optimizer's groups, one for each factor of the learning rate and weight decay: matrices
    and kernels decay, biases and normalisation do not.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decay = weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((lr_factor(name), decay), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay, "lr_factor": factor}
        for (factor, decay), parameters in groups.items()
    ]


def _write_history(path: Path, state: _State) -> None:
    """The losses of each epoch, and which epoch was kept."""
    history = [{**row, "is_kept": row["epoch"] == state.kept_epoch} for row in state.history]
    with replacing(path) as partial:
        partial.write_text(json.dumps(history, indent=1) + "\n")
