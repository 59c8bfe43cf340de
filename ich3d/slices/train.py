"""Training the encoders of one fold, and embedding series with them."""

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import nn

from ich3d.config.root import Config
from ich3d.core.errors import DataError
from ich3d.core.progress import Progress, quiet
from ich3d.core.seeds import derive, stream
from ich3d.core.types import SliceEmbeddings, TrainingGroups
from ich3d.prepare.folds import split_validation
from ich3d.prepare.hu_features import silenced_logits
from ich3d.prepare.store import Store, training_volumes
from ich3d.slices.augment import augment, mix
from ich3d.slices.dataset import CPU_BATCH, SliceDataset, SliceSample, in_batches, series_hu
from ich3d.slices.embed import embed
from ich3d.slices.encoder import EncoderEnsemble, SliceEncoder, load_start_weights
from ich3d.training.device import autocast, device
from ich3d.training.loop import Schedule, Task, fit
from ich3d.training.losses import base_logits, group_losses, masked_log_loss
from ich3d.training.ranks import ALONE, Ranks

log = logging.getLogger(__name__)

NO_LABELS: Final = "no labelled slice is left to train on: check that the label CSV fits the images"

TEMPERATURE_SCALES: Final = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2)
"""Factors that temperature scaling tries."""


class Share(NamedTuple):
    """One rank's share of a batch.

    Attributes:
        slices: what it reads.
        whole: slices in the batch.
        part: where in the batch its slices lie.
    """

    slices: SliceSample
    whole: int
    part: slice


def train_encoder(
    store: Store,
    config: Config,
    fold: int,
    folder: Path,
    progress: Progress = quiet,
    ranks: Ranks = ALONE,
) -> tuple[EncoderEnsemble, TrainingGroups]:
    """Train the encoders of `fold` on the slices of all other folds.

    Each member holds back another part of the patients for validation; these count as seen.

    Args:
        store: the prepared store.
        config: sections `slices` and `control` are used, the seed and the precision.
        fold: the fold that the encoders will embed.
        folder: where each member keeps its state and history while it trains.
        progress: shows the epochs.
        ranks: the processes that train it together.

    Returns:
        The ensemble in evaluation mode on this machine's device, and the patient groups that it
        saw.

    Raises:
        DataError: no labelled slice is left to train on.
    """
    volume_ids = training_volumes(store, config, fold)
    if not store.bleeds(volume_ids):
        raise DataError(NO_LABELS)

    members, mean_logits = [], []
    for index in range(config.slices.ensemble_size):
        member, validation_logits = train_member(
            store, config, fold, index, folder / f"member{index}", progress, ranks
        )
        members.append(member)
        mean_logits.append(validation_logits.mean(dim=0))

    ensemble = EncoderEnsemble(members)
    ensemble.mean_validation_logits.copy_(torch.stack(mean_logits).mean(dim=0))
    groups = TrainingGroups.of(store.groups[name] for name in volume_ids)
    return ensemble.to(device()).eval(), groups


def embed_volumes(
    encoder: EncoderEnsemble,
    encoder_id: str,
    training_groups: TrainingGroups,
    store: Store,
    volume_ids: Sequence[str],
    config: Config,
) -> list[SliceEmbeddings]:
    """Embed some series of the store; the result carries the groups that the encoder has seen."""
    embedded = []
    for name, hu in zip(volume_ids, series_hu(store, volume_ids, device()), strict=True):
        embeddings, logits = embed(encoder, hu, config)
        features = store.hu_features(name)
        logits = silenced_logits(logits, features)
        embedded.append(
            SliceEmbeddings(name, embeddings, logits, features, encoder_id, training_groups)
        )
    return embedded


def train_member(
    store: Store,
    config: Config,
    fold: int,
    index: int,
    folder: Path,
    progress: Progress = quiet,
    ranks: Ranks = ALONE,
) -> tuple[SliceEncoder, torch.Tensor]:
    """One encoder of a fold, and its logits (N, K) on its validation slices; see `train_encoder`.

    What `folder` holds of its training is not repeated.
    """
    training, validation, task = encoder_task(store, config, fold, index, ranks)
    schedule = Schedule.of(config.slices, len(training), config.slices.batch_size)
    fit(task, schedule, folder, f"encoder {fold}.{index}", progress)

    encoder = task.model
    assert isinstance(encoder, SliceEncoder)
    _scale_temperature(encoder, training, *_logits(encoder, validation, config, ranks))
    return encoder, _logits(encoder, validation, config, ranks)[0].cpu()


def encoder_task(
    store: Store,
    config: Config,
    fold: int,
    index: int = 0,
    ranks: Ranks = ALONE,
) -> tuple[SliceDataset, SliceDataset, Task[Share]]:
    """Training and validation slices of one encoder of a fold, and its task.

    The first member of an ensemble draws from the run's own seed.
    """
    volume_ids = training_volumes(store, config, fold)
    root = config.seed if index == 0 else derive(config.seed, "member", index)
    seed, settings, where = derive(root, "encoder", fold), config.slices, device()

    # Some patients are held back: they may reject an epoch, and scale the logits in the end.
    training_groups, validation_groups = split_validation(
        store.bleeds(volume_ids), settings.validation_fraction, stream(root, "encoder inner", fold)
    )
    training = _labelled_slices(store, config, volume_ids, training_groups)
    validation = _labelled_slices(store, config, volume_ids, validation_groups)

    torch.manual_seed(derive(seed, "init"))
    encoder = SliceEncoder.from_config(settings)
    _start_at_base_rates(encoder, training)
    load_start_weights(encoder, settings)
    encoder = encoder.to(where)
    if ranks.count > 1 and where.type == "cuda":
        encoder = nn.SyncBatchNorm.convert_sync_batchnorm(encoder)

    def batches(epoch: int, first: int) -> Iterator[Share]:
        order = stream(seed, "order", epoch).permutation(len(training))
        yield from _shares(training, in_batches(order, settings.batch_size)[first:], ranks)

    def loss(model: nn.Module, share: Share) -> torch.Tensor:
        assert isinstance(model, SliceEncoder)
        batch = share.slices.to(where)
        draw = partial(
            augment, generator=torch.default_generator, whole=share.whole, part=share.part
        )
        network_input, target = model.network_input(batch.hu, batch.is_copy, draw), batch.target
        if settings.mixup:
            network_input, target = mix(network_input, target, settings.mixup)
        with autocast(where, config.precision):
            _, logits = model.encode(network_input)
        n_known = ranks.total((~torch.isnan(target)).sum(dim=0))
        return masked_log_loss(logits, target, n_known)

    group_of_slice = np.array([store.groups[name] for name, _ in validation.slice_indices])  # (N,)

    def validation_losses(model: nn.Module) -> np.ndarray:
        return group_losses(*_logits(model, validation, config, ranks), group_of_slice)

    task = Task(encoder, batches, loss, validation_losses, seed, ranks=ranks)
    return training, validation, task


def _shares(slices: SliceDataset, batches: list[np.ndarray], ranks: Ranks) -> Iterator[Share]:
    """This rank's share of each batch. Where a batch has fewer slices than there are ranks, one
    without a share reads the first slice and not its labels.
    """
    parts = [ranks.part if ranks.rank < len(batch) else slice(0, 1) for batch in batches]
    chosen = [batch[part] for batch, part in zip(batches, parts, strict=True)]
    read = slices.batches(chosen, device())
    for sample, batch, part in zip(read, batches, parts, strict=True):
        if ranks.rank >= len(batch):
            sample = sample._replace(target=torch.full_like(sample.target, torch.nan))
        yield Share(sample, len(batch), part)


def _labelled_slices(
    store: Store, config: Config, volume_ids: list[str], groups: Sequence[str]
) -> SliceDataset:
    """The labelled slices of those series whose patients are in `groups`."""
    names = [name for name in volume_ids if store.groups[name] in groups]
    slices = SliceDataset(store, names, config.slices.neighbours)
    if len(slices) == 0:
        raise DataError(NO_LABELS)
    return slices


@torch.no_grad()
def _logits(
    model: nn.Module, slices: SliceDataset, config: Config, ranks: Ranks
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and targets (N, K) of all slices, without augmentation; each rank scores a part."""
    where, target = device(), torch.from_numpy(slices.targets())
    logits = torch.zeros(target.shape, device=where)
    size = CPU_BATCH if where.type == "cpu" else config.slices.batch_size
    own = in_batches(np.arange(len(slices)), size)[ranks.part]
    for index, batch in zip(own, slices.batches(own, where), strict=True):
        batch = batch.to(where)
        with autocast(where, config.precision):
            logits[torch.from_numpy(index)] = model(batch.hu, batch.is_copy)[1].float()
    return ranks.total(logits), target.to(where)


@torch.no_grad()
def _start_at_base_rates(encoder: SliceEncoder, training: SliceDataset) -> None:
    """Start the head's bias at each label's rate, so that the first steps need not find it.

    A label that no slice has ground truth for keeps its base rate.
    """
    encoder.head.bias.copy_(base_logits(training.targets()))
    encoder.head.weight.mul_(0.1)
    has_no_truth = np.isnan(training.targets()).all(axis=0)  # (K,)
    encoder.head.weight[has_no_truth] = 0.0


@torch.no_grad()
def _scale_temperature(
    encoder: SliceEncoder, training: SliceDataset, logits: torch.Tensor, target: torch.Tensor
) -> None:
    """Scale all logits around the training rates by the factor that fits the validation slices
    best.

    `logits` and `target` (N, K) are those of the validation slices. The head takes the factor in.
    Temperature scaling (Guo et al., ICML 2017), around the base rate instead of one half.
    """
    base = base_logits(training.targets()).to(logits.device)  # (K,)
    losses = [
        float(masked_log_loss(base + scale * (logits - base), target))
        for scale in TEMPERATURE_SCALES
    ]
    scale = TEMPERATURE_SCALES[int(np.argmin(losses))]
    log.info("the encoder's logits are scaled by %.2f, as fits its validation patients best", scale)

    encoder.head.weight.mul_(scale)
    encoder.head.bias.copy_(base + scale * (encoder.head.bias - base))
