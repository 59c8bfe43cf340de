"""The embeddings of whole series by one encoder, and the file that keeps them."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ich3d.config.root import Config
from ich3d.core.errors import DataError
from ich3d.core.types import SliceEmbeddings, TrainingGroups
from ich3d.core.workspace import replacing
from ich3d.slices.dataset import fixed_batches, scoring_batch
from ich3d.slices.encoder import EncoderEnsemble, FoldBatchEncoder, SliceEncoder
from ich3d.training.device import autocast


@torch.no_grad()
def embed(
    encoder: SliceEncoder | EncoderEnsemble, hu: np.ndarray, config: Config
) -> tuple[np.ndarray, np.ndarray]:
    """Embed every slice of one series on the encoder's device.

    Args:
        encoder: the encoder, in evaluation mode.
        hu: int16 (Z, H, W) on the encoder's grid, slices inferior to superior.
        config: `precision` and `slices.tta_flip` are used.

    Returns:
        Embeddings float32 (Z, D) and logits float32 (Z, K).
    """
    where = next(encoder.parameters()).device
    network = FoldBatchEncoder([encoder], config.slices.tta_flip).eval()
    embeddings, logits = [], []
    with autocast(where, config.precision):
        for stacks, is_copy in fixed_batches(hu, encoder.neighbours, scoring_batch(where)):
            batch = torch.from_numpy(stacks).to(where), torch.from_numpy(is_copy).to(where)
            batch_embeddings, batch_logits = network(*batch)
            embeddings.append(batch_embeddings.cpu().numpy())
            logits.append(batch_logits.cpu().numpy())

    # The last batch was filled up with copies.
    return np.concatenate(embeddings)[: len(hu)], np.concatenate(logits)[: len(hu)]


def save_embeddings(path: Path, embedded: Iterable[SliceEmbeddings]) -> None:
    """Write all series that one encoder embedded as one safetensors file, the encoder in its
    metadata.
    """
    series = list(embedded)
    tensors = {}
    for one_series in series:
        tensors[f"{one_series.volume_id}/embeddings"] = np.ascontiguousarray(one_series.embeddings)
        tensors[f"{one_series.volume_id}/logits"] = np.ascontiguousarray(one_series.logits)
        tensors[f"{one_series.volume_id}/hu_features"] = one_series.hu_features

    groups = sorted(series[0].training_groups.groups) if series else []
    metadata = {
        "encoder_id": series[0].encoder_id if series else "",
        "training_groups": json.dumps(groups),
        "volume_ids": json.dumps([one_series.volume_id for one_series in series]),
    }
    with replacing(path) as partial:
        save_file(tensors, partial, metadata=metadata)


_ARRAYS: Final = ("embeddings", "logits", "hu_features")
"""What is kept of each series, under `<volume_id>/<name>`."""


class StoredEmbeddings(Mapping[str, SliceEmbeddings]):
    """The series that `save_embeddings` wrote, by volume_id, each read when it is asked for."""

    def __init__(self, path: Path) -> None:
        """Open the file. DataError where it is missing or damaged."""
        try:
            file: Any = safe_open(path, framework="numpy")
        except (SafetensorError, OSError):
            raise DataError(f"{path} is missing or damaged") from None
        self._file, metadata = file, file.metadata()
        self._encoder_id = metadata["encoder_id"]
        self._training_groups = TrainingGroups.of(json.loads(metadata["training_groups"]))
        # A dictionary keeps the order, and finds a name at once.
        self._volume_ids = dict.fromkeys(json.loads(metadata["volume_ids"]))

    def __getitem__(self, volume_id: str) -> SliceEmbeddings:
        if volume_id not in self._volume_ids:
            raise KeyError(volume_id)
        arrays = {name: self._file.get_tensor(f"{volume_id}/{name}") for name in _ARRAYS}
        return SliceEmbeddings(
            volume_id=volume_id,
            encoder_id=self._encoder_id,
            training_groups=self._training_groups,
            **arrays,
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._volume_ids)

    def __len__(self) -> int:
        return len(self._volume_ids)


def load_embeddings(path: Path) -> Iterator[SliceEmbeddings]:
    """The series that `save_embeddings` wrote, in its order. DataError where it is damaged."""
    yield from StoredEmbeddings(path).values()
