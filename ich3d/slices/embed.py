"""What an encoder says of whole series, and the file that keeps it."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from ich3d.config.root import Config
from ich3d.core.types import SliceEmbeddings, TrainingGroups
from ich3d.core.workspace import replacing
from ich3d.slices.dataset import stack
from ich3d.slices.encoder import EncoderEnsemble, SliceEncoder
from ich3d.training.device import autocast


@torch.no_grad()
def embed(
    encoder: SliceEncoder | EncoderEnsemble, hu: np.ndarray, config: Config
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors float32 (Z, D) and logits float32 (Z, K) of one series, HU int16 (Z, H, W).

    Batches have one fixed shape, the last one filled up, so that a slice's score does not depend on
    how many slices keep it company.
    """
    where = next(encoder.parameters()).device
    embeddings, logits = [], []
    with autocast(where, config.precision):
        for drawn, is_copy in batches(hu, encoder.slices // 2, config.slices.batch_size):
            slices, copies = torch.from_numpy(drawn).to(where), torch.from_numpy(is_copy).to(where)
            vector, logit = encoder(slices, copies)
            if config.slices.tta_flip:
                mirrored = encoder(slices.flip(-1), copies)
                vector, logit = (vector + mirrored[0]) / 2, (logit + mirrored[1]) / 2
            embeddings.append(vector.cpu().numpy())
            logits.append(logit.cpu().numpy())
    return np.concatenate(embeddings)[: len(hu)], np.concatenate(logits)[: len(hu)]


def batches(hu: np.ndarray, neighbours: int, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The slices of HU (Z, H, W) between their neighbours, (size, S, H, W), and which of these are copies,
    (size, S). The last batch is filled up with the last slice."""
    for start in range(0, len(hu), size):
        places = np.arange(start, start + size).clip(max=len(hu) - 1)
        drawn = [stack(hu, int(i), neighbours) for i in places]
        yield np.stack([slices for slices, _ in drawn]), np.stack([copies for _, copies in drawn])


def save_embeddings(path: Path, embedded: Iterable[SliceEmbeddings]) -> None:
    """All series that one encoder embedded, as one safetensors file with its maker in the metadata."""
    items = list(embedded)
    tensors = {}
    for item in items:
        tensors[f"{item.volume_id}/embeddings"] = np.ascontiguousarray(item.embeddings)
        tensors[f"{item.volume_id}/logits"] = np.ascontiguousarray(item.logits)
    maker = {
        "encoder_id": items[0].encoder_id if items else "",
        "training_groups": json.dumps(sorted(items[0].training_groups.groups) if items else []),
        "volume_ids": json.dumps([item.volume_id for item in items]),
    }
    with replacing(path) as partial:
        save_file(tensors, partial, metadata=maker)


def load_embeddings(path: Path) -> Iterator[SliceEmbeddings]:
    """The series that `save_embeddings` wrote, in its order."""
    with safe_open(path, framework="numpy") as file:
        maker = file.metadata()
        of_0_1 = "fit_patients" in maker  # version 0.1 called both by other names
        groups, name = ("fit_patients", "vectors") if of_0_1 else ("training_groups", "embeddings")
        training_groups = TrainingGroups.of(json.loads(maker[groups]))
        for volume_id in json.loads(maker["volume_ids"]):
            yield SliceEmbeddings(
                volume_id=volume_id,
                embeddings=file.get_tensor(f"{volume_id}/{name}"),
                logits=file.get_tensor(f"{volume_id}/logits"),
                encoder_id=maker["encoder_id"],
                training_groups=training_groups,
            )
