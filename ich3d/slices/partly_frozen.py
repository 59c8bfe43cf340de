"""Encoders whose first parts stay as they were loaded while the others are trained.

What the frozen parts give is computed once for each slice and its mirror image, and shared by all
folds, so that an epoch costs only what is trained. Training starts where the frozen network ends:
the last layer is the regression on its features.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import nn

from ich3d.config.root import Config
from ich3d.core.errors import DataError
from ich3d.core.progress import Progress, quiet
from ich3d.core.seeds import derive, stream
from ich3d.core.types import TrainingGroups
from ich3d.core.workspace import named_file_sha256, read_arrays, replacing
from ich3d.prepare.folds import split_validation
from ich3d.prepare.store import Store, plain_name, training_volumes
from ich3d.slices.dataset import fixed_batches, scoring_batch
from ich3d.slices.encoder import EncoderEnsemble, SliceEncoder, load_start_weights
from ich3d.slices.frozen import fit_regressions
from ich3d.slices.lite0 import N_PARTS, EfficientNetLite0
from ich3d.slices.train import NO_LABELS
from ich3d.training.device import autocast, device
from ich3d.training.loop import Schedule, Task, fit
from ich3d.training.losses import group_losses, masked_log_loss

MAPS_FORMAT: Final = 2
"""Raised when files of maps change, so that those of an earlier version are not read."""

PLAIN: Final = 0
MIRRORED: Final = 1
"""The two versions of a slice, as indices into `FrozenMaps`."""


class FixedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation by the statistics that it was loaded with, in training too.

    A few hundred steps on a few patients move the statistics only half-way from photographs to
    heads, so that the network that is trained and the one that predicts would be two.
    """

    def train(self, mode: bool = True) -> "FixedBatchNorm2d":
        """Stay in evaluation mode."""
        return super().train(False)


class SliceMaps(NamedTuple):
    """What the frozen parts of a network give for N slices.

    Attributes:
        features: the features that these parts have, float32 (N, P).
        maps: the output of the last of them, float32 (N, C, h, w).
    """

    features: torch.Tensor
    maps: torch.Tensor


class FrozenMaps:
    """`SliceMaps` of a store's series, computed once and kept in a folder in half precision."""

    def __init__(self, store: Store, config: Config, folder: Path) -> None:
        """Maps of `store` by the first parts of the network of `config.slices`, below `folder`.

        These parts, their input and grid have an `identity`, and a folder of that name.
        """
        self._store, self._config = store, config
        used = ("encoder", "neighbours", "windows", "symmetry", "frozen_parts")
        settings = {name: asdict(config.slices)[name] for name in used}
        depends_on = [
            MAPS_FORMAT,
            store.identity,
            config.precision,
            settings,
            named_file_sha256(config.slices.weights),
        ]
        self.identity = f"maps_{hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()[:12]}"
        self._folder = folder / self.identity

    @cached_property
    def start(self) -> SliceEncoder:
        """An encoder with the weights that training starts from, in evaluation mode."""
        encoder = SliceEncoder.from_config(self._config.slices)
        load_start_weights(encoder, self._config.slices)
        return encoder.to(device()).eval()

    def series(self, volume_id: str, version: int) -> SliceMaps:
        """The maps of all slices of a series; `version` is `PLAIN` or `MIRRORED`."""
        path = self._folder / f"{plain_name(volume_id)}.safetensors"
        if not path.exists():
            with replacing(path) as partial:
                save_file(self._computed(volume_id), partial)
        tensors = read_arrays(path)
        return SliceMaps(
            torch.from_numpy(tensors["features"][version].astype(np.float32)),
            torch.from_numpy(tensors["maps"][version].astype(np.float32)),
        )

    def compute(self, volume_ids: Sequence[str], progress: Progress = quiet) -> None:
        """Compute what is missing for `volume_ids`, with progress."""
        for volume_id in progress(volume_ids, "frozen parts", total=len(volume_ids)):
            self.series(volume_id, PLAIN)

    @torch.no_grad()
    def _computed(self, volume_id: str) -> dict[str, np.ndarray]:
        """Features (2, Z, P) and maps (2, Z, C, h, w) of a series, float16."""
        hu, slices, where = self._store.hu(volume_id), self._config.slices, device()
        features, maps = [], []
        with autocast(where, self._config.precision):
            for stacks, is_copy in fixed_batches(hu, slices.neighbours, scoring_batch(where)):
                batch = torch.from_numpy(stacks).to(where)
                flags = torch.from_numpy(is_copy).to(where)
                for version in (batch, batch.flip(-1)):
                    images = self.start.network_input(version, flags)
                    lower = network_of(self.start).lower(images, slices.frozen_parts)
                    features.append(lower[0].half().cpu().numpy())
                    maps.append(lower[1].half().cpu().numpy())
        n_slices = len(hu)
        versions = {
            name: np.stack([np.concatenate(parts[version::2])[:n_slices] for version in (0, 1)])
            for name, parts in (("features", features), ("maps", maps))
        }
        # The network's memory has channels last, and safetensors writes memory as it lies.
        return {name: np.ascontiguousarray(array) for name, array in versions.items()}


def network_of(encoder: SliceEncoder) -> EfficientNetLite0:
    """The encoder's network, which has parts."""
    assert isinstance(encoder.backbone, EfficientNetLite0)
    return encoder.backbone


def encode_maps(
    encoder: SliceEncoder, maps: SliceMaps, frozen_parts: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings (N, D) and logits (N, K) of slices from the maps of so many frozen parts."""
    embeddings = network_of(encoder).upper(maps.features, maps.maps, frozen_parts).float()
    return embeddings, encoder.classify(embeddings)


def new_encoder(
    config: Config, maps: FrozenMaps, store: Store, volume_ids: Sequence[str]
) -> SliceEncoder:
    """An encoder as training starts from it: its last layer is a regression on some series."""
    frozen_parts = config.slices.frozen_parts
    encoder = SliceEncoder.from_config(config.slices)
    encoder.backbone.load_state_dict(maps.start.backbone.state_dict())
    with torch.no_grad():
        series = [SliceMaps(*(t.to(device()) for t in maps.series(n, PLAIN))) for n in volume_ids]
        features = [encode_maps(maps.start, one, frozen_parts)[0].cpu().numpy() for one in series]
    target = np.concatenate([store.targets(name) for name in volume_ids])  # (N, K)
    weight, bias = fit_regressions(np.concatenate(features), target, config.slices.regression_c)
    with torch.no_grad():
        encoder.head.weight.copy_(torch.from_numpy(weight))
        encoder.head.bias.copy_(torch.from_numpy(bias))
    for part in network_of(encoder).parts[:frozen_parts]:
        part.requires_grad_(False)
    _fix_normalisations(encoder.backbone)
    return encoder.to(device())


def _fix_normalisations(network: nn.Module) -> None:
    """Put a `FixedBatchNorm2d` in the place of each batch normalisation."""
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            fixed = FixedBatchNorm2d(module.num_features, module.eps, module.momentum)
            fixed.load_state_dict(module.state_dict())
            fixed.requires_grad_(module.weight.requires_grad)
            network.set_submodule(name, fixed.eval())


def lr_factor(name: str, layer_decay: float) -> float:
    """Factor of the learning rate of an encoder's parameter: the last layer has 1, each part of the
    network `layer_decay` times that of what follows it.
    """
    part = re.search(r"backbone\.parts\.(\d+)\.", name)
    return layer_decay ** (N_PARTS - int(part[1])) if part else 1.0


def train_partly_frozen(
    store: Store,
    config: Config,
    fold: int,
    maps: FrozenMaps,
    folder: Path,
    progress: Progress = quiet,
) -> tuple[EncoderEnsemble, TrainingGroups]:
    """Train the encoder of `fold` on single slices of all other folds, as
    `slices.train.train_encoder` does, from the maps of its frozen parts.

    Raises:
        DataError: no labelled slice is left to train on.
    """
    volume_ids, settings, where = training_volumes(store, config, fold), config.slices, device()
    bleeds = store.bleeds(volume_ids)
    if not bleeds:
        raise DataError(NO_LABELS)
    seed = derive(config.seed, "encoder", fold)
    training_groups, _ = split_validation(
        bleeds, settings.validation_fraction, stream(config.seed, "encoder inner", fold)
    )
    is_training = {name: store.groups[name] in training_groups for name in volume_ids}
    training = _LabelledSlices(store, maps, [name for name in volume_ids if is_training[name]])
    validation = _LabelledSlices(store, maps, [n for n in volume_ids if not is_training[n]])

    torch.manual_seed(derive(seed, "init"))
    encoder = new_encoder(config, maps, store, training.volume_ids)

    def batches(epoch: int, first: int) -> Iterator[tuple[SliceMaps, torch.Tensor]]:
        rng = stream(seed, "order", epoch)
        order, versions = rng.permutation(len(training)), rng.integers(0, 2, len(training))
        for start in range(first * settings.batch_size, len(order), settings.batch_size):
            chosen = order[start : start + settings.batch_size]
            yield training.batch(chosen, versions[chosen])

    def loss(model: nn.Module, batch: tuple[SliceMaps, torch.Tensor]) -> torch.Tensor:
        assert isinstance(model, SliceEncoder)
        with autocast(where, config.precision):
            _, logits = encode_maps(model, batch[0], settings.frozen_parts)
        return masked_log_loss(logits, batch[1])

    @torch.no_grad()
    def validation_losses(model: nn.Module) -> np.ndarray:
        assert isinstance(model, SliceEncoder)
        everything = np.arange(len(validation))
        slices, target = validation.batch(everything, np.full(len(validation), PLAIN))
        with autocast(where, config.precision):
            _, logits = encode_maps(model, slices, settings.frozen_parts)
        return group_losses(logits, target, validation.group)

    schedule = Schedule.of(settings, len(training), settings.batch_size)
    task = Task(
        encoder, batches, loss, validation_losses, seed,
        lr_factor=lambda name: lr_factor(name, settings.layer_decay),
    )  # fmt: skip
    fit(task, schedule, folder, f"encoder {fold}", progress)
    ensemble = EncoderEnsemble([encoder]).to(where).eval()
    return ensemble, TrainingGroups.of(store.groups[name] for name in volume_ids)


class _LabelledSlices:
    """The labelled slices of some series, in both versions, in memory."""

    def __init__(self, store: Store, maps: FrozenMaps, volume_ids: list[str]) -> None:
        self.volume_ids = volume_ids
        target = np.concatenate([store.targets(name) for name in volume_ids])  # (N', K)
        is_labelled = ~np.isnan(target).all(axis=1)
        groups = [store.groups[name] for name in volume_ids for _ in store.targets(name)]
        self.group = np.array(groups)[is_labelled]
        self._target = torch.from_numpy(target[is_labelled]).to(device())
        self._versions = [
            SliceMaps(
                *(
                    torch.cat(parts)[torch.from_numpy(is_labelled)].to(device())
                    for parts in zip(*(maps.series(n, version) for n in volume_ids), strict=True)
                )
            )
            for version in (PLAIN, MIRRORED)
        ]

    def __len__(self) -> int:
        return len(self._target)

    def batch(self, chosen: np.ndarray, version: np.ndarray) -> tuple[SliceMaps, torch.Tensor]:
        """Maps and labels (B, K) of the slices `chosen` (B,), each in its `version` (B,)."""
        index, is_mirrored = torch.from_numpy(chosen), torch.from_numpy(version == MIRRORED)
        plain, mirrored = self._versions

        def pick(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            mask = is_mirrored.to(a.device).view(-1, *[1] * (a.ndim - 1))
            return torch.where(mask, b[index], a[index])

        slices = SliceMaps(*(pick(a, b) for a, b in zip(plain, mirrored, strict=True)))
        return slices, self._target[index]
