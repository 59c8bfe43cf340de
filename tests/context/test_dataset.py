"""Series of different lengths become one batch, and a DataLoader takes them."""

from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from ich3d.config.root import Config
from ich3d.context.dataset import (
    SeriesBatch,
    SeriesDataset,
    collate,
    random_run,
    series_sample,
)
from ich3d.core.workspace import Workspace
from ich3d.model.folder import Model
from ich3d.prepare.store import Store
from tests.helpers.embedded import random_embedded


def test_a_batch_is_padded_with_zeros_and_unknown_labels() -> None:
    short = series_sample(random_embedded(2, 0), np.array([0.0, 5.0]), np.zeros((2, 6), np.float32))
    long = series_sample(random_embedded(4, 1), np.arange(4.0), np.ones((4, 6), np.float32))
    batch = collate([short, long])
    assert batch.lengths.tolist() == [2, 4]
    assert batch.target.isnan().all(dim=2).tolist() == [[False, False, True, True], [False] * 4]
    assert not batch.embeddings[0, 2:].any()
    assert not batch.logits[0, 2:].any()
    assert batch.z_mm.tolist() == [[0.0, 5.0, 0.0, 0.0], [0.0, 1.0, 2.0, 3.0]]


def test_a_sample_without_labels_has_unknown_ones() -> None:
    sample = series_sample(random_embedded(3), np.arange(3.0))
    assert sample.target.shape == (3, 6)
    assert sample.target.isnan().all()


def test_a_data_loader_takes_the_series_of_a_store(finished_run: Config, model: Model) -> None:
    store = Store(Workspace(Path(finished_run.workspace)).store)
    encoder = model.fold_models[0].encoder
    series = SeriesDataset.from_encoder(store, encoder, store.volume_ids[:3])
    assert len(series) == 3

    loader = DataLoader(series, batch_size=2, collate_fn=SeriesDataset.collate)
    batches = list(loader)
    assert [len(batch.lengths) for batch in batches] == [2, 1]
    first: SeriesBatch = batches[0]
    assert first.embeddings.shape[2] == encoder.embedding_width
    for row, name in enumerate(series.volume_ids[:2]):
        count = int(first.lengths[row])
        np.testing.assert_array_equal(first.z_mm[row, :count], store.z_mm(name))
        np.testing.assert_array_equal(first.target[row, :count], store.targets(name))
    assert torch.isfinite(first.logits).all()


def test_a_random_run_has_any_length_and_lies_within_the_series() -> None:
    rng = np.random.default_rng(0)
    runs = [random_run(5, 1.0, rng) for _ in range(500)]
    assert {(run.start, run.stop) for run in runs} == {
        (start, stop) for start in range(5) for stop in range(start + 1, 6)
    }
    assert random_run(5, 0.0, rng) == slice(0, 5)
