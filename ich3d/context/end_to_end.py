"""Training encoder and context model of a fold together, over whole series.

The loss reaches the trained parts of the encoder's network through the GRU, and through the
encoder's own last layer, whose scores of single slices stay the encoder's. The two are one stage:
both are trained on the same patients, and score the fold's, whom neither has seen.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ich3d.config.root import Config
from ich3d.context.bigru import ContextEnsemble, ContextModel
from ich3d.context.dataset import random_run
from ich3d.core.errors import DataError
from ich3d.core.progress import Progress, quiet
from ich3d.core.seeds import derive, stream
from ich3d.core.types import TrainingGroups
from ich3d.prepare.folds import split_validation
from ich3d.prepare.hu_features import BRAIN_CM2
from ich3d.prepare.store import Store, training_volumes
from ich3d.slices.encoder import EncoderEnsemble, SliceEncoder
from ich3d.slices.partly_frozen import (
    PLAIN,
    FrozenMaps,
    SliceMaps,
    encode_maps,
    lr_factor,
    new_encoder,
)
from ich3d.slices.train import NO_LABELS
from ich3d.training.device import autocast, device
from ich3d.training.loop import Schedule, Task, fit
from ich3d.training.losses import base_logits, group_losses, masked_log_loss
from ich3d.training.weights import round_to_half


@dataclass(frozen=True)
class MapSeries:
    """One series as the pair reads it, slices inferior to superior.

    Attributes:
        maps: what the frozen parts give for its slices, in both versions.
        z_mm: positions along the slice normal, float64 (Z,).
        brain_cm2: area inside the skull, float32 (Z,).
        target: labels 0 or 1, float32 (Z, K); NaN where a slice has no label.
    """

    maps: tuple[SliceMaps, SliceMaps]
    z_mm: torch.Tensor
    brain_cm2: torch.Tensor
    target: torch.Tensor

    def run(self, run: slice) -> "MapSeries":
        """Consecutive slices as a series of their own."""
        plain, mirrored = (SliceMaps(*(tensor[run] for tensor in one)) for one in self.maps)
        return MapSeries((plain, mirrored), self.z_mm[run], self.brain_cm2[run], self.target[run])


class EncoderAndContext(nn.Module):
    """A slice encoder and a context model that reads its embeddings, as one network.

    The first `frozen_parts` of the encoder's network are never run: it reads what they gave.
    """

    def __init__(self, encoder: SliceEncoder, context: ContextModel, frozen_parts: int) -> None:
        super().__init__()
        self.frozen_parts = frozen_parts
        self.encoder = encoder
        self.context = context

    def forward(
        self, batch: Sequence[MapSeries], version: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of the encoder and of the context model for the N slices of `batch`.

        Args:
            batch: B series.
            version: `PLAIN` or `MIRRORED`.

        Returns:
            Two tensors float32 (N, K), slices in the order of the series.
        """
        where = next(self.parameters()).device
        maps = SliceMaps(
            *(
                torch.cat(parts).to(where)
                for parts in zip(*(series.maps[version] for series in batch), strict=True)
            )
        )
        embeddings, logits = encode_maps(self.encoder, maps, self.frozen_parts)  # (N, D), (N, K)

        lengths = [len(series.z_mm) for series in batch]
        context_logits: torch.Tensor = self.context(
            _padded(embeddings.split(lengths)),
            _padded(logits.split(lengths)),
            _on(where, _padded([series.z_mm for series in batch])),
            torch.tensor(lengths),
            _padded([series.brain_cm2 for series in batch]).to(where),
        )  # (B, T, K)
        by_series = [rows[:length] for rows, length in zip(context_logits, lengths, strict=True)]
        return logits, torch.cat(by_series)

    def loss(self, batch: Sequence[MapSeries], version: int) -> torch.Tensor:
        """The sum of both models' weighted log losses on `batch`."""
        logits, context_logits = self(batch, version)
        target = torch.cat([series.target for series in batch]).to(logits.device)
        return masked_log_loss(logits, target) + masked_log_loss(context_logits, target)


def train_end_to_end(
    store: Store,
    config: Config,
    fold: int,
    maps: FrozenMaps,
    folder: Path,
    progress: Progress = quiet,
) -> tuple[EncoderEnsemble, ContextEnsemble, TrainingGroups]:
    """Train encoder and context model of `fold` together on the series of all other folds.

    Args:
        store: the prepared store.
        config: sections `slices` and `context` are used, and the seed. Epochs, rates and batches
            are those of `context`; the encoder's last layer has `slices.layer_decay` times its
            rate.
        fold: the fold that both will score.
        maps: what the frozen parts give for the store's slices.
        folder: where state and history are kept while it trains.
        progress: shows the epochs.

    Returns:
        Both in evaluation mode on this machine's device, and the patient groups that both were
        trained on.

    Raises:
        DataError: no labelled slice is left to train on.
    """
    settings, where = config.context, device()
    volume_ids = training_volumes(store, config, fold)
    bleeds = store.bleeds(volume_ids)
    if not bleeds:
        raise DataError(NO_LABELS)
    seed = derive(config.context_seed, "end to end", fold)
    training_groups, _ = split_validation(
        bleeds, settings.validation_fraction, stream(seed, "inner", fold)
    )
    every = {name: _map_series(store, maps, name) for name in volume_ids}
    training_ids = [name for name in volume_ids if store.groups[name] in training_groups]
    training = [every[name] for name in training_ids]
    validation = {name: one for name, one in every.items() if name not in training_ids}

    torch.manual_seed(derive(seed, "init"))
    model = _new_pair(config, store, maps, training_ids, training)

    def batches(epoch: int, first: int) -> Iterator[tuple[list[MapSeries], int]]:
        return islice(drawn(epoch), first, None)

    def drawn(epoch: int) -> Iterator[tuple[list[MapSeries], int]]:
        rng = stream(seed, "order", epoch)
        order = rng.permutation(len(training))
        for start in range(0, len(order), settings.series_per_batch):
            chosen = order[start : start + settings.series_per_batch]
            series = [training[i] for i in chosen]
            cut = [one.run(random_run(len(one.z_mm), settings.subseries, rng)) for one in series]
            yield cut, int(rng.integers(2))

    def loss(network: nn.Module, batch: tuple[list[MapSeries], int]) -> torch.Tensor:
        assert isinstance(network, EncoderAndContext)
        with autocast(where, config.precision):
            return network.loss(*batch)

    schedule = Schedule.of(settings, len(training), settings.series_per_batch)
    task = Task(
        model,
        batches,
        loss,
        _validation_losses(store, validation),
        seed,
        lambda name: _pair_lr_factor(name, config.slices.layer_decay),
    )
    fit(task, schedule, folder, f"end to end {fold}", progress)

    encoder, context = EncoderEnsemble([model.encoder]), ContextEnsemble([model.context])
    round_to_half(context)
    groups = TrainingGroups.of(store.groups[name] for name in volume_ids)
    return encoder.to(where).eval(), context.to(where).eval(), groups


def _map_series(store: Store, maps: FrozenMaps, volume_id: str) -> MapSeries:
    plain, mirrored = (maps.series(volume_id, version) for version in (0, 1))
    return MapSeries(
        (plain, mirrored),
        torch.tensor(store.z_mm(volume_id), dtype=torch.float64),
        torch.tensor(store.hu_features(volume_id)[:, BRAIN_CM2]),
        torch.tensor(store.targets(volume_id)),
    )


def _new_pair(
    config: Config,
    store: Store,
    maps: FrozenMaps,
    training_ids: Sequence[str],
    training: Sequence[MapSeries],
) -> EncoderAndContext:
    """The pair as training starts from it: the frozen network's embeddings give the context model
    their scale.
    """
    frozen_parts = config.slices.frozen_parts
    encoder = new_encoder(config, maps, store, training_ids).eval()
    context = ContextModel.from_config(config.context, encoder.embedding_width).to(device())
    with torch.no_grad():
        embeddings = [
            encode_maps(
                encoder, SliceMaps(*(t.to(device()) for t in one.maps[PLAIN])), frozen_parts
            )[0]
            for one in training
        ]
        context.set_embedding_scale(embeddings)
        assert context.slice_head is not None
        context.slice_head.weight.mul_(0.1)
        target = np.concatenate([one.target.numpy() for one in training])
        context.slice_head.bias.copy_(base_logits(target))
    return EncoderAndContext(encoder, context, frozen_parts)


def _pair_lr_factor(name: str, layer_decay: float) -> float:
    """1 for the context model; the encoder's last layer lies `layer_decay` below it."""
    return layer_decay * lr_factor(name, layer_decay) if name.startswith("encoder.") else 1.0


def _validation_losses(
    store: Store, validation: Mapping[str, MapSeries]
) -> Callable[[nn.Module], np.ndarray]:
    """A function that gives what each validation patient group adds to the context's loss (G,)."""
    series = list(validation.values())
    target = torch.cat([one.target for one in series])
    group = np.repeat([store.groups[name] for name in validation], [len(s.z_mm) for s in series])

    @torch.no_grad()
    def losses(network: nn.Module) -> np.ndarray:
        assert isinstance(network, EncoderAndContext)
        return group_losses(network(series, PLAIN)[1], target, group)

    return losses


def _on(where: torch.device, z_mm: torch.Tensor) -> torch.Tensor:
    """Positions on a device; Metal has no float64."""
    return z_mm.to(where, torch.float32 if where.type == "mps" else torch.float64)


def _padded(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Tensors (Z, ...) of different Z as one (B, T, ...), zero in the padding."""
    return torch.nn.utils.rnn.pad_sequence(list(tensors), batch_first=True)
