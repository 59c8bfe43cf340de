"""Training the context models of one fold, on embeddings of patients new to their encoders."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ich3d.config.ablation import IN_TRAINING
from ich3d.config.root import Config
from ich3d.context.bigru import ContextEnsemble, ContextModel
from ich3d.context.dataset import (
    SeriesBatch,
    SeriesSample,
    collate,
    random_run,
    series_sample,
)
from ich3d.context.share import ValidationScores, choose_encoder_share, validation_scores
from ich3d.context.shuffle import random_order, shuffled_logits
from ich3d.core.errors import LeakageError
from ich3d.core.progress import Progress, quiet
from ich3d.core.seeds import derive, stream
from ich3d.core.types import SliceEmbeddings, TrainingGroups
from ich3d.prepare.folds import split_validation
from ich3d.prepare.store import Store, training_volumes
from ich3d.slices.frozen import COPIES_SHARE
from ich3d.training.device import device
from ich3d.training.loop import REJECT_ERRORS, Schedule, Task, fit
from ich3d.training.losses import base_logits, group_losses, masked_log_loss
from ich3d.training.weights import FIRST_MEMBER, load_weights, round_to_half


def require_held_out(group_id: str, model: str, training_groups: TrainingGroups) -> None:
    """LeakageError where `model` was trained on the patient group whose slices it is to score."""
    if group_id in training_groups:
        raise LeakageError(
            f"{model} was trained on group {group_id}, so it cannot score its slices"
        )


def train_context(
    store: Store,
    embedded: Mapping[str, SliceEmbeddings],
    config: Config,
    fold: int,
    folder: Path,
    progress: Progress = quiet,
    copies: Callable[[str], Sequence[np.ndarray]] | None = None,
) -> tuple[ContextEnsemble, TrainingGroups]:
    """Train the context models of `fold` on the series of all other folds, always in float32.

    Trained weights are rounded to half precision, in which a model folder keeps them, so that what
    is scored out of fold is what predicts.

    Args:
        store: the prepared store, for positions, labels, groups and folds.
        embedded: held-out embeddings of each series outside the fold, by volume_id.
        config: sections `context` and `control` are used, and the seeds.
        fold: the fold that the models will score.
        folder: where each member keeps its state and history while it trains.
        progress: shows the epochs.
        copies: embeddings (Z, D) of augmented copies of a series, by volume_id; each time that a
            training series is read, its own or one of these are drawn. None for its own alone.

    Returns:
        The ensemble in evaluation mode on this machine's device, and the patient groups that it
        was trained on.

    Raises:
        LeakageError: an encoder embedded patients that it was trained on, and no control allows it.
    """
    groups = store.groups
    volume_ids = training_volumes(store, config, fold)
    if not config.control.allow_in_sample:
        for volume_id in volume_ids:
            series = embedded[volume_id]
            require_held_out(groups[volume_id], series.encoder_id, series.training_groups)

    samples = {
        volume_id: series_sample(
            embedded[volume_id], store.z_mm(volume_id), store.targets(volume_id)
        )
        for volume_id in volume_ids
    }
    versions = {
        name: [
            sample,
            *(
                sample._replace(embeddings=torch.from_numpy(embeddings))
                for embeddings in (copies(name) if copies else ())
            ),
        ]
        for name, sample in samples.items()
    }
    members, validated = [], []
    for index in range(config.context.ensemble_size):
        member, scores = _train_member(
            store, versions, config, fold, index, folder / f"member{index}", progress
        )
        members.append(member)
        validated.append(scores)
    ensemble = ContextEnsemble(members).to(device()).eval()
    if config.context.reads == "embeddings" and config.control.shuffle != IN_TRAINING:
        ensemble.encoder_share.fill_(choose_encoder_share(validated))
    round_to_half(ensemble)
    return ensemble, TrainingGroups.of(groups[volume_id] for volume_id in volume_ids)


def _train_member(
    store: Store,
    versions: Mapping[str, Sequence[SeriesSample]],
    config: Config,
    fold: int,
    index: int,
    folder: Path,
    progress: Progress,
) -> tuple[ContextModel, ValidationScores]:
    """Member `index` of the context models of a fold, trained on series by volume_id, and what it
    says of its validation patients. The first version of each series is the series itself.
    """
    # Every member draws from a root of its own; the first one's is the run's.
    root = config.context_seed
    if index > 0:
        root = derive(root, "member", index)
    settings = config.context

    # Some patients are held back for validation, which chooses the epoch.
    training_groups, validation_groups = split_validation(
        store.bleeds(versions), settings.validation_fraction, stream(root, "context inner", fold)
    )
    training = [v for name, v in versions.items() if store.groups[name] in training_groups]
    validation = {n: v[0] for n, v in versions.items() if store.groups[n] in validation_groups}
    own = [of_series[0] for of_series in training]

    seed = derive(root, "context", fold)
    torch.manual_seed(derive(seed, "init"))
    model = _new_model(config, own).to(device())
    feed = _Feed(config, seed, training)
    validation_losses = _validation_losses(store, validation, feed)

    # A model that starts as the encoder may keep its best epoch: an early one costs nothing. One
    # that starts from nothing is trained to the end, unless its few validation patients reject it.
    tolerance = 0.0 if model.corrects_logits else REJECT_ERRORS
    schedule = Schedule.of(settings, len(training), settings.series_per_batch, tolerance)
    task = Task(model, feed.batches, feed.loss, validation_losses, seed)
    fit(task, schedule, folder, f"context {fold}.{index}", progress)
    groups = [store.groups[name] for name in validation]
    return model, validation_scores(model, list(validation.values()), groups)


OrderedBatch = tuple[SeriesBatch, torch.Tensor]
"""A batch and the order in which the slices of each series are read (B, T)."""


class _Feed:
    """The batches of a member's training and their loss, as the controls change them."""

    def __init__(
        self, config: Config, seed: int, training: Sequence[Sequence[SeriesSample]]
    ) -> None:
        self.is_shuffled = config.control.shuffle == IN_TRAINING
        self.seed = seed
        self._training = training
        self._batch_size = config.context.series_per_batch
        self._subseries = config.context.subseries
        self._noise_sd = _embedding_noise_sd([versions[0] for versions in training], config)

    def batches(self, epoch: int, first: int) -> Iterator[OrderedBatch]:
        """The batches of an epoch from number `first` on, in random order."""
        return islice(self._drawn(epoch), first, None)

    def _drawn(self, epoch: int) -> Iterator[OrderedBatch]:
        order = stream(self.seed, "order", epoch).permutation(len(self._training))
        shuffle_rng = stream(self.seed, "shuffle", epoch)
        cut_rng = stream(self.seed, "cut", epoch)
        version_rng = stream(self.seed, "version", epoch)
        for start in range(0, len(order), self._batch_size):
            chosen = order[start : start + self._batch_size]
            drawn = [_drawn(self._training[i], version_rng) for i in chosen]
            batch = collate([_cut(sample, self._subseries, cut_rng) for sample in drawn])
            yield batch, random_order(batch.lengths, shuffle_rng)

    def logits(self, model: nn.Module, batch: SeriesBatch, order: torch.Tensor) -> torch.Tensor:
        """The model's logits (B, T, K), read in `order` where the control asks for it."""
        arguments = (
            batch.embeddings, batch.logits, batch.z_mm, batch.lengths, batch.brain_cm2,
        )  # fmt: skip
        if self.is_shuffled:
            return shuffled_logits(model, *arguments, order)
        logits: torch.Tensor = model(*arguments)
        return logits

    def loss(self, model: nn.Module, batch_and_order: OrderedBatch) -> torch.Tensor:
        """The weighted log loss of a batch on this machine's device."""
        batch, order = batch_and_order[0].to(device()), batch_and_order[1]
        if self._noise_sd is not None:
            batch.embeddings.add_(torch.randn_like(batch.embeddings) * self._noise_sd)
        logits = self.logits(model, batch, order)
        return masked_log_loss(logits.flatten(0, 1), batch.target.flatten(0, 1))


def _validation_losses(
    store: Store, validation: Mapping[str, SeriesSample], feed: _Feed
) -> Callable[[nn.Module], np.ndarray]:
    """A function that gives what each validation patient group adds to a model's loss (G,)."""
    batch = collate(list(validation.values()))
    order = random_order(batch.lengths, stream(feed.seed, "inner shuffle"))
    batch = batch.to(device())
    target = batch.target.flatten(0, 1)  # (B * T, K)
    groups = [store.groups[volume_id] for volume_id in validation]
    group_of_slice = np.repeat(groups, batch.target.shape[1])  # (B * T,)

    @torch.no_grad()
    def losses(model: nn.Module) -> np.ndarray:
        return group_losses(feed.logits(model, batch, order).flatten(0, 1), target, group_of_slice)

    return losses


def _new_model(config: Config, training: Sequence[SeriesSample]) -> ContextModel:
    """A context model as training starts from it: new, or the first member of another run's.

    A new one that reads embeddings alone takes their scale, and the labels' rates, from the
    training series.
    """
    embeddings = [sample.embeddings for sample in training]  # each (Z, D)
    model = ContextModel.from_config(config.context, embeddings[0].shape[1])
    if config.context.weights is not None:
        load_weights(Path(config.context.weights), model, FIRST_MEMBER)
    elif model.slice_head is not None:
        model.set_embedding_scale(embeddings)
        target = np.concatenate([sample.target.numpy() for sample in training])  # (N, K)
        with torch.no_grad():
            model.slice_head.weight.mul_(0.1)
            model.slice_head.bias.copy_(base_logits(target))
    return model


def _drawn(versions: Sequence[SeriesSample], rng: np.random.Generator) -> SeriesSample:
    """The series itself, the first of its versions, or with a chance of `COPIES_SHARE` a copy."""
    is_copy = rng.random() < COPIES_SHARE and len(versions) > 1
    return versions[int(rng.integers(1, len(versions)))] if is_copy else versions[0]


def _cut(sample: SeriesSample, share: float, rng: np.random.Generator) -> SeriesSample:
    """The sample, or with a chance of `share` a random run of its slices, of any length from 1."""
    run = random_run(len(sample.z_mm), share, rng)
    return SeriesSample(*(tensor[run] for tensor in sample))


def _embedding_noise_sd(training: list[SeriesSample], config: Config) -> torch.Tensor | None:
    """SD (D,) of the noise that the control adds to embeddings in training; None for no noise."""
    if not config.control.embedding_noise:
        return None
    embeddings = np.concatenate([sample.embeddings.numpy() for sample in training])  # (N, D)
    sd = embeddings.std(axis=0) * config.control.embedding_noise
    return torch.from_numpy(sd).to(device())
