"""What an encoder says of whole series, and the file that keeps it."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from ich3d.core.config import Config
from ich3d.core.types import FitPatients, SliceEmbeddings
from ich3d.core.workspace import replacing
from ich3d.learn import autocast
from ich3d.slices.dataset import stack
from ich3d.slices.encoder import EncoderEnsemble, SliceEncoder


@torch.no_grad()
def embed(
    encoder: SliceEncoder | EncoderEnsemble, hu: np.ndarray, config: Config
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors float32 (Z, D) and logits float32 (Z, K) of one series, HU int16 (Z, H, W).

    Batches have one fixed shape, the last one filled up, so that a slice's score does not depend on
    how many slices keep it company.
    """
    batch_size = config.slices.batch_size
    where = next(encoder.parameters()).device
    neighbours = encoder.slices // 2
    vectors, logits = [], []
    with autocast(where, config.precision):
        for start in range(0, len(hu), batch_size):
            places = np.arange(start, start + batch_size).clip(max=len(hu) - 1)
            drawn = [stack(hu, int(i), neighbours) for i in places]
            slices = torch.from_numpy(np.stack([s for s, _ in drawn])).to(where)
            copies = torch.from_numpy(np.stack([c for _, c in drawn])).to(where)
            vector, logit = encoder(slices, copies)
            if config.slices.mirror_at_test:
                mirrored = encoder(slices.flip(-1), copies)
                vector, logit = (vector + mirrored[0]) / 2, (logit + mirrored[1]) / 2
            real = min(batch_size, len(hu) - start)
            vectors.append(vector[:real].cpu().numpy())
            logits.append(logit[:real].cpu().numpy())
    return np.concatenate(vectors), np.concatenate(logits)


def save_embeddings(path: Path, embedded: Iterable[SliceEmbeddings]) -> None:
    """All series that one encoder embedded, as one safetensors file with its maker in the metadata."""
    items = list(embedded)
    tensors = {}
    for item in items:
        tensors[f"{item.volume_id}/vectors"] = np.ascontiguousarray(item.vectors)
        tensors[f"{item.volume_id}/logits"] = np.ascontiguousarray(item.logits)
    maker = {
        "encoder_id": items[0].encoder_id if items else "",
        "fit_patients": json.dumps(sorted(items[0].fit_patients.groups) if items else []),
        "volume_ids": json.dumps([item.volume_id for item in items]),
    }
    with replacing(path) as partial:
        save_file(tensors, partial, metadata=maker)


def load_embeddings(path: Path) -> Iterator[SliceEmbeddings]:
    """The series that `save_embeddings` wrote, in its order."""
    with safe_open(path, framework="numpy") as file:
        maker = file.metadata()
        fit_patients = FitPatients.of(json.loads(maker["fit_patients"]))
        for volume_id in json.loads(maker["volume_ids"]):
            yield SliceEmbeddings(
                volume_id=volume_id,
                vectors=file.get_tensor(f"{volume_id}/vectors"),
                logits=file.get_tensor(f"{volume_id}/logits"),
                encoder_id=maker["encoder_id"],
                fit_patients=fit_patients,
            )
