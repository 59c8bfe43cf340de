"""Training one fold's context model on embeddings whose encoders never saw their patients."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ich3d.config.root import Config
from ich3d.config.schema import ContextConfig
from ich3d.context.bigru import ContextEnsemble, ContextModel
from ich3d.context.dataset import (
    ContextBatch,
    ContextInput,
    collate,
    context_input,
    permute_slices,
    shuffled,
    window_series,
)
from ich3d.core.errors import LeakageError
from ich3d.core.metrics import sigmoid
from ich3d.core.progress import Progress, quiet
from ich3d.core.seeds import derive, stream
from ich3d.core.types import SliceEmbeddings, TrainingGroups
from ich3d.prepare.folds import split_validation
from ich3d.prepare.store import Store, training_volumes
from ich3d.training.device import device
from ich3d.training.loop import Schedule, Task, fit
from ich3d.training.losses import group_losses, masked_log_loss
from ich3d.training.weights import FIRST_MEMBER, load_weights

SHUFFLED_IN_TRAINING = "training"


def require_held_out(group_id: str, maker: str, training_groups: TrainingGroups) -> None:
    """The maker of a later stage's input must not have been fitted on this patient group."""
    if group_id in training_groups:
        raise LeakageError(
            f"{maker} was fitted on group {group_id}, whose slices it was to describe"
        )


@dataclass(frozen=True)
class _Row:
    series: ContextInput
    target: np.ndarray
    group: str


def train_context(
    store: Store,
    embedded: Mapping[str, SliceEmbeddings],
    config: Config,
    fold: int,
    folder: Path,
    progress: Progress = quiet,
) -> tuple[ContextEnsemble, TrainingGroups]:
    """Context models fitted on every fold but `fold`, and the patient groups behind them.

    `embedded` holds held-out embeddings by volume; LeakageError where an encoder saw its own rows, unless
    the config's controls allow that.
    """
    groups = store.groups
    outside = training_volumes(store, config, fold)
    if not config.control.allow_in_sample:
        for name in outside:
            require_held_out(
                groups[name], embedded[name].encoder_id, embedded[name].training_groups
            )
    rows = [
        _Row(context_input(embedded[name], store.z_mm(name)), store.targets(name), groups[name])
        for name in outside
    ]
    bleeds = store.bleeds(outside)
    ensemble = ContextEnsemble(config.context, rows[0].series.embeddings.shape[1])
    for index, model in enumerate(ensemble.members):
        assert isinstance(model, ContextModel)
        place = (fold, index)
        member = _train_member(rows, bleeds, config, place, folder / f"member{index}", progress)
        model.load_state_dict(member.state_dict())
    return ensemble.to(device()).eval(), TrainingGroups.of(groups[name] for name in outside)


def _train_member(
    rows: list[_Row],
    bleeds: Mapping[str, np.ndarray],
    config: Config,
    place: tuple[int, int],
    folder: Path,
    progress: Progress,
) -> ContextModel:
    """One context model of a fold: `place` is (fold, member). The first member draws from the run's
    own seed."""
    fold, index = place
    root = config.context_seed if index == 0 else derive(config.context_seed, "member", index)
    seed, settings, where = derive(root, "context", fold), config.context, device()
    fitted_on, held_back = split_validation(
        bleeds, settings.validation_fraction, stream(root, "context inner", fold)
    )
    training = [row for row in rows if row.group in fitted_on]
    inner = [row for row in rows if row.group in held_back]
    torch.manual_seed(derive(seed, "init"))
    model = _new_model(config, training[0].series.embeddings.shape[1])
    model = model.to(where)
    noise: torch.Tensor | None = None
    if config.control.embedding_noise:
        spread = np.concatenate([row.series.embeddings for row in training]).std(axis=0)
        noise = torch.from_numpy(spread * config.control.embedding_noise).to(where)

    def batches(epoch: int) -> Iterator[ContextBatch]:
        order = stream(seed, "order", epoch).permutation(len(training))
        chosen = [training[i] for i in order]
        if config.control.shuffle == SHUFFLED_IN_TRAINING:
            chosen = _shuffled(chosen, stream(seed, "shuffle", epoch))
        for start in range(0, len(order), settings.series_per_batch):
            yield _collate(chosen[start : start + settings.series_per_batch], settings)[0]

    def loss(model: torch.nn.Module, batch: ContextBatch) -> torch.Tensor:
        moved = batch.to(where)
        if noise is not None:
            moved.embeddings.add_(torch.randn_like(moved.embeddings) * noise)
        return masked_log_loss(model(moved).flatten(0, 1), moved.target.flatten(0, 1))

    if config.control.shuffle == SHUFFLED_IN_TRAINING:
        inner = _shuffled(inner, stream(seed, "inner shuffle"))
    inner_batch, inner_groups = _collate(inner, settings)
    inner_batch = inner_batch.to(where)

    @torch.no_grad()
    def inner_losses(model: torch.nn.Module) -> np.ndarray:
        return group_losses(
            model(inner_batch).flatten(0, 1), inner_batch.target.flatten(0, 1), inner_groups
        )

    task = Task(model, batches, loss, inner_losses, seed)
    steps = -(-len(training) // settings.series_per_batch)
    # The model starts as the encoder, so that the best epoch is safe to choose: an early one costs nothing.
    schedule = Schedule(
        settings.epochs, steps, settings.lr, settings.weight_decay, settings.patience, tolerance=0.0
    )
    fit(task, schedule, folder, f"context {fold}.{index}", progress)
    return model


def _new_model(config: Config, embedding_width: int) -> ContextModel:
    """A context model as training starts from it: afresh, or from the first member of another run's."""
    model = ContextModel(config.context, embedding_width)
    if config.context.weights is not None:
        load_weights(Path(config.context.weights), model, FIRST_MEMBER)
    return model


def _shuffled(rows: Sequence[_Row], rng: np.random.Generator) -> list[_Row]:
    return [_Row(shuffled(row.series, rng), row.target, row.group) for row in rows]


def _collate(rows: Sequence[_Row], config: ContextConfig) -> tuple[ContextBatch, np.ndarray]:
    """The rows as one batch, and the group of each of its B x T places. With a window each slice is a
    series of its own, whose only target is its own."""
    if config.reads_whole_series:
        batch = collate([row.series for row in rows], [row.target for row in rows])
        return batch, np.repeat([row.group for row in rows], batch.target.shape[1])
    parts, targets, groups = [], [], []
    for row in rows:
        for target, (part, place) in zip(
            row.target, window_series(row.series, config), strict=True
        ):
            only_own = np.full((len(part), len(target)), np.nan, dtype=np.float32)
            only_own[place] = target
            parts.append(part)
            targets.append(only_own)
            groups.append(row.group)
    batch = collate(parts, targets)
    return batch, np.repeat(groups, batch.target.shape[1])


@torch.no_grad()
def score_context(model: ContextModel | ContextEnsemble, series: ContextInput) -> np.ndarray:
    """Probabilities float32 (Z, K) of one series."""
    is_whole = model.config.reads_whole_series
    parts = [(series, 0)] if is_whole else window_series(series, model.config)
    empty = [
        np.full((len(part), series.logits.shape[1]), np.nan, dtype=np.float32) for part, _ in parts
    ]
    batch = collate([part for part, _ in parts], empty).to(next(model.parameters()).device)
    logits = model(batch).cpu().numpy()
    own = (
        logits[0]
        if is_whole
        else np.stack([logits[i, place] for i, (_, place) in enumerate(parts)])
    )
    return sigmoid(own).astype(np.float32)


def score_shuffled(
    model: ContextEnsemble, series: ContextInput, shuffle: str, rng: np.random.Generator
) -> np.ndarray:
    """As `score_context`, its slices mixed as `control.shuffle` says; the rows stay those of the slices."""
    if shuffle == "never":
        return score_context(model, series)
    if shuffle == "with_differences":
        moved, order = permute_slices(series, rng)
        return score_context(model, moved)[np.argsort(order)]
    return score_context(model, shuffled(series, rng))
