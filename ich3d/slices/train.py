"""Training one fold's encoder, and embedding the patients that it has not seen."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from ich3d.config.root import Config
from ich3d.core.errors import DataError
from ich3d.core.progress import Progress, quiet
from ich3d.core.seeds import derive, stream
from ich3d.core.types import SliceEmbeddings, TrainingGroups
from ich3d.prepare.folds import split_validation
from ich3d.prepare.store import Store, training_volumes
from ich3d.slices.augment import augment, mix
from ich3d.slices.dataset import SliceBatch, Slices
from ich3d.slices.embed import embed
from ich3d.slices.encoder import EncoderEnsemble, SliceEncoder, load_start
from ich3d.training.device import autocast, device
from ich3d.training.loop import Schedule, Task, fit
from ich3d.training.losses import group_losses, masked_log_loss

log = logging.getLogger(__name__)
# With few inner patients the lowest loss is an early epoch picked by chance: they may veto, not choose.
REJECT_ERRORS = 2.0
TEMPERATURE_SCALES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2)


def train_encoder(
    store: Store, config: Config, fold: int, folder: Path, progress: Progress = quiet
) -> tuple[EncoderEnsemble, TrainingGroups]:
    """FoldEncoders fitted on every fold but `fold`, and the patient groups behind them.

    An inner part of those groups, another one for each member, may veto epochs and tempers the logits;
    it counts as seen.
    """
    outside = training_volumes(store, config, fold)
    ensemble = EncoderEnsemble(config.slices)
    levels = []
    for index in range(config.slices.ensemble_size):
        place = (fold, index)
        member, held_out = _train_member(
            store, config, outside, place, folder / f"member{index}", progress
        )
        ensemble.members[index].load_state_dict(member.state_dict())
        levels.append(held_out.mean(dim=0))
    ensemble.mean_validation_logits.copy_(torch.stack(levels).mean(dim=0))
    return ensemble.to(device()).eval(), TrainingGroups.of(store.groups[name] for name in outside)


def _train_member(
    store: Store,
    config: Config,
    outside: list[str],
    place: tuple[int, int],
    folder: Path,
    progress: Progress,
) -> tuple[SliceEncoder, torch.Tensor]:
    """One encoder of a fold and its logits (N, K) on its inner slices. `place` is (fold, member); the first
    member draws from the run's own seed."""
    fold, index = place
    root = config.seed if index == 0 else derive(config.seed, "member", index)
    seed, groups = derive(root, "encoder", fold), store.groups
    fitted_on, held_back = split_validation(
        store.bleeds(outside),
        config.slices.validation_fraction,
        stream(root, "encoder inner", fold),
    )
    training = _slices(store, config, [name for name in outside if groups[name] in fitted_on])
    inner = _slices(store, config, [name for name in outside if groups[name] in held_back])
    torch.manual_seed(derive(seed, "init"))
    encoder = SliceEncoder(config.slices)
    _start_at_base_rates(encoder, training)
    load_start(encoder, config.slices)
    encoder = encoder.to(device())
    where, settings = device(), config.slices

    def batches(epoch: int) -> Iterator[SliceBatch]:
        order = stream(seed, "order", epoch).permutation(len(training))
        return training.batches(order, settings.batch_size)

    def loss(model: torch.nn.Module, batch: SliceBatch) -> torch.Tensor:
        batch = batch.to(where)
        assert isinstance(model, SliceEncoder)
        hu = augment(model.with_mirror(batch.hu), torch.default_generator)
        image = model.image(hu, batch.is_copy)
        target = batch.target
        if settings.mixup:
            image, target = mix(image, target, settings.mixup)
        with autocast(where, config.precision):
            _, logits = model.encode(image)
        return masked_log_loss(logits, target)

    inner_groups = np.array([groups[name] for name, _ in inner.places])

    def inner_losses(model: torch.nn.Module) -> np.ndarray:
        return group_losses(*_logits(model, inner, config), inner_groups)

    task = Task(encoder, batches, loss, inner_losses, seed)
    steps = -(-len(training) // settings.batch_size)
    schedule = Schedule(
        settings.epochs, steps, settings.lr, settings.weight_decay, settings.patience, REJECT_ERRORS
    )
    fit(task, schedule, folder, f"encoder {fold}.{index}", progress)
    _scale_temperature(encoder, training, *_logits(encoder, inner, config))
    return encoder, _logits(encoder, inner, config)[0].cpu().float()


def embed_volumes(
    encoder: EncoderEnsemble,
    encoder_id: str,
    training_groups: TrainingGroups,
    store: Store,
    volume_ids: Sequence[str],
    config: Config,
) -> list[SliceEmbeddings]:
    """Embeddings of some series of the store, with the groups that the encoder has seen."""
    embedded = []
    for name in volume_ids:
        embeddings, logits = embed(encoder, store.hu(name), config)
        embedded.append(SliceEmbeddings(name, embeddings, logits, encoder_id, training_groups))
    return embedded


def _slices(store: Store, config: Config, volume_ids: list[str]) -> Slices:
    slices = Slices(store, volume_ids, config.slices.neighbours)
    if len(slices) == 0:
        raise DataError(
            "no labelled slice is left to train on: check that the label CSV fits the images"
        )
    return slices


@torch.no_grad()
def _logits(
    model: torch.nn.Module, slices: Slices, config: Config
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and targets (N, K) of all places, unaugmented."""
    where = device()
    logits, targets = [], []
    for batch in slices.batches(np.arange(len(slices)), config.slices.batch_size):
        moved = batch.to(where)
        with autocast(where, config.precision):
            logits.append(model(moved.hu, moved.is_copy)[1])
        targets.append(moved.target)
    return torch.cat(logits), torch.cat(targets)


@torch.no_grad()
def _start_at_base_rates(encoder: SliceEncoder, training: Slices) -> None:
    """The head's bias starts at each label's rate, so that the first steps do not go into finding it. A label
    that no slice has a truth for stays there."""
    encoder.head.bias.copy_(_base_logits(training))
    encoder.head.weight.mul_(0.1)
    encoder.head.weight[np.isnan(training.targets()).all(axis=0)] = 0.0


@torch.no_grad()
def _scale_temperature(
    encoder: SliceEncoder, training: Slices, logits: torch.Tensor, target: torch.Tensor
) -> None:
    """Draw all logits toward the training rates by the one factor that suits the inner patients best,
    whose `logits` and `target` (N, K) are given; the head takes it in (temperature scaling, Guo et al.,
    ICML 2017, about the rate instead of about one half)."""
    anchor = _base_logits(training).to(logits.device)
    losses = [
        float(masked_log_loss(anchor + scale * (logits - anchor), target))
        for scale in TEMPERATURE_SCALES
    ]
    scale = TEMPERATURE_SCALES[int(np.argmin(losses))]
    log.info("logits drawn toward the base rate by %.2f", scale)
    encoder.head.weight.mul_(scale)
    encoder.head.bias.copy_(anchor + scale * (encoder.head.bias - anchor))


def _base_logits(training: Slices) -> torch.Tensor:
    """Logit (K,) of each label's rate, kept off the ends by half a slice; where no slice has a truth, as if
    nobody had it."""
    targets = training.targets()
    positive = np.nansum(targets, axis=0)
    known = (~np.isnan(targets)).sum(axis=0)
    rows = np.where(known > 0, known, len(targets))
    return torch.logit(torch.as_tensor((positive + 0.5) / (rows + 1.0), dtype=torch.float32))
