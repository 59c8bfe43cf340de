"""Encoders whose network stays as it was loaded: only the last layer is trained.

The network sees no label, so one network serves all folds, and the embeddings of all of them lie in
one space. Every slice goes through it once. The last layer is one logistic regression a label,
which few patients can decide, and which needs no epochs and no validation patients.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as torch_save_file
from sklearn.linear_model import LogisticRegression

from ich3d.config.root import Config
from ich3d.config.schema import SlicesConfig
from ich3d.core.errors import ModelError
from ich3d.core.progress import Progress, quiet
from ich3d.core.seeds import derive
from ich3d.core.types import SliceEmbeddings, TrainingGroups
from ich3d.core.workspace import named_file_sha256, read_arrays, replacing
from ich3d.prepare.hu_features import silenced_logits
from ich3d.prepare.store import Store, plain_name
from ich3d.slices.augment import augment_series
from ich3d.slices.embed import embed
from ich3d.slices.encoder import EncoderEnsemble, SliceEncoder, frozen_encoder
from ich3d.training.device import device
from ich3d.training.weights import FIRST_MEMBER, load_weights, read_tensors

MIN_SD: Final = 1e-2
"""Features vary by at least this much when they are scaled: some channels never fire on heads."""

MAX_ITERATIONS: Final = 200
"""Of L-BFGS. The regressions are strongly penalised and converge in a few dozen."""

COPIES_SHARE: Final = 0.25
"""What the augmented copies of a slice weigh in training, the slice itself the rest."""

_EMBEDDINGS: Final = "embeddings"
_NETWORK: Final = f"{FIRST_MEMBER}backbone."


class FrozenEmbeddings:
    """The embeddings of a store's series by a frozen network, computed once and kept in a folder.

    They depend on no fold and no label. A series that is asked for again, in this run or the next,
    is read from its file.
    """

    def __init__(self, store: Store, config: Config, folder: Path) -> None:
        """Embeddings of `store` by the network of `config.slices`, kept below `folder`; those of
        augmented copies depend on `config.seed` too.

        Each network, input and grid has an `identity`, and a folder of that name.
        """
        self._store, self._config = store, config
        used = ("encoder", "neighbours", "windows", "symmetry", "tta_flip")
        settings = {name: asdict(config.slices)[name] for name in used}
        weights = named_file_sha256(config.slices.weights)
        depends_on = [store.identity, config.precision, settings, weights]
        self.identity = hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()[:12]
        self._folder = folder / self.identity

    @cached_property
    def encoder(self) -> SliceEncoder:
        """The encoder of the network, on this machine's device."""
        return frozen_encoder(self._config.slices).to(device())

    def __getitem__(self, volume_id: str) -> np.ndarray:
        """The embeddings float32 (Z, D) of one series."""
        path = self._path(volume_id)
        if not path.exists():
            self._embed(path, self._store.hu(volume_id))
        return np.asarray(read_arrays(path)[_EMBEDDINGS])

    def copies(self, volume_id: str) -> list[np.ndarray]:
        """The embeddings float32 (Z, D) of `slices.augmented` copies of one series."""
        copies = []
        for number in range(self._config.slices.augmented):
            path = self._path(volume_id, number)
            if not path.exists():
                seed = derive(self._config.seed, "augment", volume_id, number)
                generator = torch.Generator().manual_seed(seed)
                self._embed(path, augment_series(self._store.hu(volume_id), generator))
            copies.append(np.asarray(read_arrays(path)[_EMBEDDINGS]))
        return copies

    def compute(self, volume_ids: Sequence[str], progress: Progress = quiet) -> None:
        """Embed those of `volume_ids`, and copies of them, that are missing, with progress."""
        numbers = [None, *range(self._config.slices.augmented)]
        missing = [
            volume_id
            for volume_id in volume_ids
            if not all(self._path(volume_id, number).exists() for number in numbers)
        ]
        for volume_id in progress(missing, "embed", total=len(missing)) if missing else ():
            self[volume_id]
            self.copies(volume_id)

    def _embed(self, path: Path, hu: np.ndarray) -> None:
        """Write the embeddings of HU int16 (Z, H, W) to `path`."""
        embeddings, _ = embed(self.encoder, hu, self._config)
        with replacing(path) as partial:
            save_file({_EMBEDDINGS: embeddings}, partial)

    def _path(self, volume_id: str, copy: int | None = None) -> Path:
        """The file of one series, or of an augmented copy of it."""
        name = f"{plain_name(volume_id)}.safetensors"
        if copy is None:
            return self._folder / name
        return self._folder / f"augmented_{self._config.seed}_{copy}" / name


def train_frozen(
    store: Store, config: Config, embeddings: FrozenEmbeddings, volume_ids: Sequence[str]
) -> EncoderEnsemble:
    """The frozen network with a last layer that was trained on some series.

    Args:
        store: the prepared store, for labels.
        config: section `slices` is used.
        embeddings: the embeddings of the store's series.
        volume_ids: the series to train on.
    """
    # A slice and its copies together weigh as much as one slice.
    own = np.concatenate([embeddings[name] for name in volume_ids])  # (N, D)
    copies = [
        np.concatenate(of_number)
        for of_number in zip(*(embeddings.copies(name) for name in volume_ids), strict=True)
    ]
    shares = [1 - COPIES_SHARE, *[COPIES_SHARE / len(copies)] * len(copies)] if copies else [1.0]
    features = np.concatenate([own, *copies])  # (N', D)
    target = np.concatenate([store.targets(name) for name in volume_ids])  # (N, K)
    target = np.tile(target, (len(shares), 1))  # (N', K)
    sample_weight = np.repeat(shares, len(own))
    weight, bias = fit_regressions(features, target, config.slices.regression_c, sample_weight)

    encoder = SliceEncoder.from_config(config.slices, embeddings.encoder)
    ensemble = EncoderEnsemble([encoder])
    with torch.no_grad():
        encoder.head.weight.copy_(torch.from_numpy(weight))
        encoder.head.bias.copy_(torch.from_numpy(bias))
        mean_logits = features.mean(axis=0) @ weight.T + bias  # (K,)
        ensemble.mean_validation_logits.copy_(torch.from_numpy(mean_logits))
    return ensemble.to(device()).eval()


def mean_head(encoders: Sequence[EncoderEnsemble]) -> EncoderEnsemble:
    """An encoder on the frozen network that `encoders` share, with the mean of their last layers.

    The layers are linear, so its logits are the means of theirs.
    """
    ensemble = EncoderEnsemble.from_config(encoders[0].config, _single_member(encoders[0]))
    head = _single_member(ensemble).head
    heads = [_single_member(encoder).head for encoder in encoders]
    baselines = [encoder.mean_validation_logits for encoder in encoders]
    with torch.no_grad():
        head.weight.copy_(torch.stack([each.weight for each in heads]).mean(dim=0))
        head.bias.copy_(torch.stack([each.bias for each in heads]).mean(dim=0))
        ensemble.mean_validation_logits.copy_(torch.stack(baselines).mean(dim=0))
    return ensemble.to(device()).eval()


def fit_regressions(
    features: np.ndarray,
    target: np.ndarray,
    c: float,
    sample_weight: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """One logistic regression a label on features that are scaled to unit variance.

    A label that all its slices share, or that no slice has, gets its rate, kept off 0 and 1 by half
    a slice; then no feature counts.

    Args:
        features: (N, D).
        target: labels (N, K), 0 or 1, NaN where there is none.
        c: scikit-learn's C.
        sample_weight: (N,); None for ones.

    Returns:
        Weights float32 (K, D) and biases (K,) of the logits of `features` as they are.
    """
    sample_weight = np.ones(len(features)) if sample_weight is None else sample_weight
    mean, sd = features.mean(axis=0), features.std(axis=0) + MIN_SD
    scaled = (features - mean) / sd
    fitted = [_fit_label(scaled, label_target, c, sample_weight) for label_target in target.T]
    weight = np.stack([coefficients / sd for coefficients, _ in fitted])  # (K, D)
    bias = np.array([intercept for _, intercept in fitted]) - weight @ mean  # (K,)
    return weight.astype(np.float32), bias.astype(np.float32)


def embed_frozen(
    encoder: EncoderEnsemble,
    encoder_id: str,
    training_groups: TrainingGroups,
    store: Store,
    volume_ids: Sequence[str],
    embeddings: FrozenEmbeddings,
) -> list[SliceEmbeddings]:
    """As `slices.train.embed_volumes`, from the embeddings that the folds share."""
    member = _single_member(encoder)
    weight = member.head.weight.detach().cpu().numpy()  # (K, D)
    bias = member.head.bias.detach().cpu().numpy()
    embedded = []
    for name in volume_ids:
        features = store.hu_features(name)
        logits = embeddings[name] @ weight.T + bias  # (Z, K)
        embedded.append(
            SliceEmbeddings(
                volume_id=name,
                embeddings=embeddings[name],
                logits=silenced_logits(logits, features),
                hu_features=features,
                encoder_id=encoder_id,
                training_groups=training_groups,
            )
        )
    return embedded


def save_network(path: Path, encoder: EncoderEnsemble) -> None:
    """Write the frozen network of an encoder, in half precision."""
    tensors = {
        name.removeprefix(_NETWORK): tensor.detach().cpu().contiguous()
        for name, tensor in encoder.state_dict().items()
        if name.startswith(_NETWORK)
    }
    halves = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }
    with replacing(path) as partial:
        torch_save_file(halves, partial)


def load_network(path: Path, config: SlicesConfig) -> SliceEncoder:
    """An encoder with the network that `save_network` wrote, on the CPU, for others to share.

    Raises:
        ModelError: the file cannot be read, or does not fit `config`.
    """
    encoder = SliceEncoder.from_config(config)
    load_weights(path, encoder.backbone)
    return encoder.eval().requires_grad_(False)


def save_head(path: Path, encoder: EncoderEnsemble) -> None:
    """Write what was trained of an encoder: all but its frozen network."""
    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in encoder.state_dict().items()
        if not name.startswith(_NETWORK)
    }
    with replacing(path) as partial:
        torch_save_file(tensors, partial)


def load_head(path: Path, encoder: EncoderEnsemble) -> None:
    """Put what `save_head` wrote into an encoder. ModelError where it does not fit."""
    result = encoder.load_state_dict(read_tensors(path), strict=False)
    lacking = [name for name in result.missing_keys if not name.startswith(_NETWORK)]
    if lacking or result.unexpected_keys:
        raise ModelError(f"{path} does not fit the model: {[*lacking, *result.unexpected_keys][0]}")


def _single_member(encoder: EncoderEnsemble) -> SliceEncoder:
    """The only network of an encoder, as frozen ones have it."""
    (member,) = encoder.members
    assert isinstance(member, SliceEncoder)
    return member


def _fit_label(
    scaled: np.ndarray, target: np.ndarray, c: float, sample_weight: np.ndarray
) -> tuple[np.ndarray, float]:
    """Coefficients (D,) and intercept of one label's regression on scaled features (N, D)."""
    is_known = ~np.isnan(target)
    y = target[is_known]
    if len(np.unique(y)) == 2:
        regression = LogisticRegression(C=c, max_iter=MAX_ITERATIONS, tol=1e-3)
        regression.fit(scaled[is_known], y, sample_weight[is_known])
        return regression.coef_[0], float(regression.intercept_[0])

    # A label without ground truth counts as absent everywhere.
    n_slices = len(y) or len(target)
    rate = (y.sum() + 0.5) / (n_slices + 1)
    return np.zeros(scaled.shape[1]), float(np.log(rate / (1 - rate)))
