"""Training the context models of one fold, on embeddings of patients new to their encoders."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ich3d.config.root import Config
from ich3d.context.bigru import ContextEnsemble, ContextModel
from ich3d.context.dataset import SeriesBatch, SeriesSample, collate, series_sample
from ich3d.context.shuffle import IN_TRAINING, random_order, shuffled_logits
from ich3d.core.errors import LeakageError
from ich3d.core.progress import Progress, quiet
from ich3d.core.seeds import derive, stream
from ich3d.core.types import SliceEmbeddings, TrainingGroups
from ich3d.prepare.folds import split_validation
from ich3d.prepare.store import Store, training_volumes
from ich3d.training.device import device
from ich3d.training.loop import Schedule, Task, fit
from ich3d.training.losses import group_losses, masked_log_loss
from ich3d.training.weights import FIRST_MEMBER, load_weights


def require_held_out(group_id: str, model: str, training_groups: TrainingGroups) -> None:
    """LeakageError where `model` was trained on the patient group whose slices it is to score."""
    if group_id in training_groups:
        raise LeakageError(
            f"{model} was trained on group {group_id}, so it cannot score its slices"
        )


@dataclass(frozen=True)
class _TrainingSeries:
    """One series that a context model learns from, and its patient group."""

    sample: SeriesSample
    group: str


def train_context(
    store: Store,
    embedded: Mapping[str, SliceEmbeddings],
    config: Config,
    fold: int,
    folder: Path,
    progress: Progress = quiet,
) -> tuple[ContextEnsemble, TrainingGroups]:
    """Train the context models of `fold` on the series of all other folds.

    Args:
        store: the prepared store, for positions, labels, groups and folds.
        embedded: held-out embeddings of each series outside the fold, by volume_id.
        config: sections `context` and `control` are used, and the seeds.
        fold: the fold that the models will score.
        folder: where each member keeps its state and history while it trains.
        progress: shows the epochs.

    Returns:
        The ensemble in evaluation mode on this machine's device, and the patient groups that it
        was trained on.

    Raises:
        LeakageError: an encoder embedded patients that it was trained on, and no control allows it.
    """
    groups = store.groups
    volume_ids = training_volumes(store, config, fold)
    if not config.control.allow_in_sample:
        for name in volume_ids:
            series = embedded[name]
            require_held_out(groups[name], series.encoder_id, series.training_groups)

    training_series = [
        _TrainingSeries(
            series_sample(embedded[name], store.z_mm(name), store.targets(name)), groups[name]
        )
        for name in volume_ids
    ]
    labels_by_group = store.bleeds(volume_ids)
    members = [
        _train_member(
            training_series,
            labels_by_group,
            config,
            (fold, index),
            folder / f"member{index}",
            progress,
        )
        for index in range(config.context.ensemble_size)
    ]
    ensemble = ContextEnsemble(members).to(device()).eval()
    return ensemble, TrainingGroups.of(groups[name] for name in volume_ids)


def _train_member(
    training_series: list[_TrainingSeries],
    labels_by_group: Mapping[str, np.ndarray],
    config: Config,
    fold_and_index: tuple[int, int],
    folder: Path,
    progress: Progress,
) -> ContextModel:
    """One context model of a fold. The first member draws from the run's own seed."""
    fold, index = fold_and_index
    root = config.context_seed if index == 0 else derive(config.context_seed, "member", index)
    seed, settings, where = derive(root, "context", fold), config.context, device()

    # Some patients are held back to choose the epoch.
    training_groups, validation_groups = split_validation(
        labels_by_group, settings.validation_fraction, stream(root, "context inner", fold)
    )
    training = [series for series in training_series if series.group in training_groups]
    validation = [series for series in training_series if series.group in validation_groups]

    torch.manual_seed(derive(seed, "init"))
    model = _new_model(config, training[0].sample.embeddings.shape[1]).to(where)
    noise_sd = _embedding_noise_sd(training, config)

    is_shuffled = config.control.shuffle == IN_TRAINING

    def batches(epoch: int) -> Iterator[tuple[SeriesBatch, torch.Tensor]]:
        """The epoch's batches, each with the order in which its slices are read (B, T)."""
        order = stream(seed, "order", epoch).permutation(len(training))
        shuffle_rng = stream(seed, "shuffle", epoch)
        for start in range(0, len(order), settings.series_per_batch):
            chosen = order[start : start + settings.series_per_batch]
            batch = collate([training[i].sample for i in chosen])
            yield batch, random_order(batch.lengths, shuffle_rng)

    def logits_of(model: torch.nn.Module, batch: SeriesBatch, order: torch.Tensor) -> torch.Tensor:
        """Logits (B, T, K), read in `order` where the control asks for it."""
        if is_shuffled:
            return shuffled_logits(model, batch, order)
        logits: torch.Tensor = model(batch.embeddings, batch.logits, batch.z_mm, batch.lengths)
        return logits

    def loss(
        model: torch.nn.Module, batch_and_order: tuple[SeriesBatch, torch.Tensor]
    ) -> torch.Tensor:
        batch, order = batch_and_order[0].to(where), batch_and_order[1]
        if noise_sd is not None:
            batch.embeddings.add_(torch.randn_like(batch.embeddings) * noise_sd)
        logits = logits_of(model, batch, order)
        return masked_log_loss(logits.flatten(0, 1), batch.target.flatten(0, 1))

    held_back = collate([series.sample for series in validation])
    held_back_order = random_order(held_back.lengths, stream(seed, "inner shuffle"))
    held_back = held_back.to(where)
    group_of_slice = np.repeat(
        [series.group for series in validation], held_back.target.shape[1]
    )  # (B * T,)

    @torch.no_grad()
    def validation_losses(model: torch.nn.Module) -> np.ndarray:
        logits = logits_of(model, held_back, held_back_order)
        return group_losses(logits.flatten(0, 1), held_back.target.flatten(0, 1), group_of_slice)

    # The model starts as the encoder, so that keeping the best epoch is safe: an early one
    # costs nothing.
    schedule = Schedule(
        epochs=settings.epochs,
        steps_per_epoch=-(-len(training) // settings.series_per_batch),
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        patience=settings.patience,
        tolerance=0.0,
    )
    task = Task(model, batches, loss, validation_losses, seed)
    fit(task, schedule, folder, f"context {fold}.{index}", progress)
    return model


def _new_model(config: Config, embedding_width: int) -> ContextModel:
    """A context model as training starts from it: new, or the first member of another run's."""
    model = ContextModel.from_config(config.context, embedding_width)
    if config.context.weights is not None:
        load_weights(Path(config.context.weights), model, FIRST_MEMBER)
    return model


def _embedding_noise_sd(training: list[_TrainingSeries], config: Config) -> torch.Tensor | None:
    """SD (D,) of the noise that the control adds to embeddings in training; None for no noise."""
    if not config.control.embedding_noise:
        return None
    embeddings = np.concatenate([series.sample.embeddings.numpy() for series in training])  # (N, D)
    sd = embeddings.std(axis=0) * config.control.embedding_noise
    return torch.from_numpy(sd).to(device())
