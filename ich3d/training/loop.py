"""The one training loop: AdamW, warm-up and cosine, averaged weights, resumable."""

import json
import logging
import math
from collections.abc import Callable, Iterable
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

log = logging.getLogger(__name__)
Batch = TypeVar("Batch")

WARMUP_SHARE: Final = 0.1
"""Share of all steps over which the learning rate rises."""

EMA_DECAY: Final = 0.99
"""How much of the averaged weights each step keeps."""

MAX_GRADIENT_NORM: Final = 1.0

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
        batches: the batches of an epoch, by its number.
        loss: the loss of the network on one batch, one number.
        validation_losses: what each validation patient group adds to the network's loss (G,), as
            `losses.group_losses` has it.
        seed: the root of the task's random streams.
        lr_factor: factor of the learning rate of a parameter, by its name.
    """

    model: nn.Module
    batches: Callable[[int], Iterable[Batch]]
    loss: Callable[[nn.Module, Batch], torch.Tensor]
    validation_losses: Callable[[nn.Module], np.ndarray]
    seed: int
    lr_factor: Callable[[str], float] = lambda name: 1.0


def fit(
    task: Task[Batch], schedule: Schedule, folder: Path, label: str, progress: Progress = quiet
) -> nn.Module:
    """Train `task.model`; keep the moving average of its weights after the last accepted epoch.

    Every epoch ends in `folder/state.pt`, from which an interrupted training continues;
    `folder/history.json` holds the losses. The random streams of an epoch depend on the task's
    seed and the epoch alone, so an interrupted training ends in the same weights.

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

    for epoch in range(len(state.history), schedule.epochs):
        if state.history and epoch - state.kept_epoch > schedule.patience:
            break
        torch.manual_seed(derive(task.seed, "epoch", epoch))
        epoch_label = f"{label} {epoch + 1}/{schedule.epochs}"
        batches = progress(task.batches(epoch), epoch_label, schedule.steps_per_epoch)
        train_loss = _train_epoch(task, schedule, state, batches, epoch)

        # The averaged weights are judged, for they are what is kept.
        losses = task.validation_losses(state.average.eval())
        validation_loss = float(losses.mean())
        state.history.append({"epoch": epoch, "loss": train_loss, "inner_loss": validation_loss})
        state.keep_unless_worse(losses, epoch, schedule.tolerance)
        log.debug(
            "%s epoch %d: loss %.4f, validation %.4f", label, epoch + 1, train_loss, validation_loss
        )
        state.save(checkpoint)

    task.model.load_state_dict(state.kept)
    _write_history(folder / "history.json", state)
    return task.model.eval()


@dataclass
class _State:
    """All that one epoch hands to the next. It is saved after each, so that a resumed run ends
    the same.
    """

    model: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer
    kept: dict[str, torch.Tensor]
    kept_epoch: int = -1
    best_losses: list[float] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)

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
        }
        content = BytesIO()  # torch does not say why a file cannot be written
        torch.save(state, content)
        with replacing(path) as partial:
            partial.write_bytes(content.getbuffer())

    def load(self, path: Path) -> None:
        """Continue from a state that `save` wrote."""
        try:
            state = torch.load(path, weights_only=True)
        except Exception:  # on damaged bytes torch raises many kinds of exceptions
            raise DataError(f"{path} is damaged: {DAMAGED}") from None
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.kept, self.kept_epoch = state["kept"], state["kept_epoch"]
        self.best_losses, self.history = state["best_losses"], state["history"]

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
    task: Task[Batch], schedule: Schedule, state: _State, batches: Iterable[Batch], epoch: int
) -> float:
    """One pass over `batches`; the mean loss."""
    task.model.train()
    losses = []
    for index, batch in enumerate(batches):
        step = epoch * schedule.steps_per_epoch + index
        for parameters in state.optimizer.param_groups:
            parameters["lr"] = schedule.lr * schedule.factor(step) * parameters["lr_factor"]

        state.optimizer.zero_grad(set_to_none=True)
        loss = task.loss(task.model, batch)
        if not torch.isfinite(loss):
            raise ConfigError(
                f"the loss became {loss.item()} in epoch {epoch + 1}; lower the learning rate"
            )
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(task.model.parameters(), MAX_GRADIENT_NORM)
        state.optimizer.step()

        _update_average(state.average, task.model, step)
        losses.append(loss.detach())
    return float(torch.stack(losses).mean())


@torch.no_grad()
def _update_average(average: nn.Module, model: nn.Module, step: int) -> None:
    """Exponential moving average of the weights; its decay rises from zero, so that early
    epochs are not stale.
    """
    decay = min(EMA_DECAY, (step + 1) / (step + 10))
    tensors = zip(average.state_dict().values(), model.state_dict().values(), strict=True)
    for averaged, current in tensors:
        if averaged.dtype.is_floating_point:
            averaged.lerp_(current, 1 - decay)
        else:
            averaged.copy_(current)


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
