"""Embedded series of random numbers, for tests of what reads them."""

from typing import Any

import numpy as np
import torch

from ich3d.context.bigru import ContextEnsemble, ContextModel
from ich3d.context.dataset import SeriesBatch, collate, series_sample
from ich3d.core.types import SliceEmbeddings, TrainingGroups
from tests.helpers.hu_features import brain_features

EMBEDDING_WIDTH = 12


def random_embedded(n_slices: int, seed: int = 0) -> SliceEmbeddings:
    """A series of `n_slices` random embeddings (Z, 12) and logits (Z, 6)."""
    rng = np.random.default_rng(seed)
    return SliceEmbeddings(
        volume_id=str(seed),
        embeddings=rng.normal(size=(n_slices, EMBEDDING_WIDTH)).astype(np.float32),
        logits=rng.normal(size=(n_slices, 6)).astype(np.float32),
        hu_features=brain_features(n_slices, seed),
        encoder_id="encoder fold 0",
        training_groups=TrainingGroups.of(["p1"]),
    )


def batch_of(*series: SliceEmbeddings, step_mm: float = 5.0) -> SeriesBatch:
    """The series as one batch, with evenly spaced slices."""
    return collate([series_sample(one, step_mm * np.arange(len(one))) for one in series])


def context_model(**settings: Any) -> ContextModel:
    """A context model whose correction is not zero, as if it were trained; it reads logits."""
    torch.manual_seed(0)
    model = ContextModel(EMBEDDING_WIDTH, hidden_size=8, **{"reads": "logits", **settings}).eval()
    torch.nn.init.normal_(model.correction_head.weight)
    return model


@torch.no_grad()
def logits_of(model: ContextModel | ContextEnsemble, batch: SeriesBatch) -> list[np.ndarray]:
    """The logits (Z, K) of each series of a batch, without the padding."""
    arguments = (batch.embeddings, batch.logits, batch.z_mm, batch.lengths, batch.brain_cm2)
    logits = model(*arguments).numpy()
    return [row[:length] for row, length in zip(logits, batch.lengths.tolist(), strict=True)]
