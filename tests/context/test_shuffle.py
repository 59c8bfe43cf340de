"""Shuffling takes away the order of slices, and nothing else."""

from dataclasses import replace

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from ich3d.config.schema import ContextConfig
from ich3d.context.bigru import ContextEnsemble, ContextModel
from ich3d.context.dataset import SeriesBatch
from ich3d.context.shuffle import random_order, shuffled_logits
from tests.helpers.embedded import (
    EMBEDDING_WIDTH,
    batch_of,
    context_model,
    logits_of,
    random_embedded,
)

N_SLICES, CENTRE = 12, 6


def batch() -> SeriesBatch:
    return batch_of(random_embedded(N_SLICES))


def shuffled(
    model: ContextModel | ContextEnsemble,
    series: SeriesBatch,
    order: torch.Tensor,
    differences_too: bool = False,
) -> torch.Tensor:
    """The logits (B, T, K) of a batch whose slices are read in `order`."""
    return shuffled_logits(
        model,
        series.embeddings,
        series.logits,
        series.z_mm,
        series.lengths,
        series.brain_cm2,
        order,
        differences_too,
    )


def order_of(n_slices: int = N_SLICES, seed: int = 1) -> torch.Tensor:
    return random_order(torch.tensor([n_slices]), np.random.default_rng(seed))


@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_each_series_is_permuted_and_padding_stays(lengths: list[int], seed: int) -> None:
    order = random_order(torch.tensor(lengths), np.random.default_rng(seed))
    for row, length in zip(order.tolist(), lengths, strict=True):
        assert sorted(row[:length]) == list(range(length))
        assert row[length:] == list(range(length, max(lengths)))


@torch.no_grad()
def test_the_natural_order_changes_nothing() -> None:
    natural = torch.arange(N_SLICES)[None]
    model = context_model(reads="both")
    for differences_too in (False, True):
        logits = shuffled(model, batch(), natural, differences_too)[0]
        np.testing.assert_allclose(logits, logits_of(model, batch())[0], atol=1e-6)


@torch.no_grad()
def test_another_order_changes_scores_and_each_slice_keeps_its_row() -> None:
    model, order = context_model(), order_of()
    scores = shuffled(model, batch(), order)[0].numpy()
    assert np.abs(scores - logits_of(model, batch())[0]).max() > 1e-4

    fresh = context_model()
    torch.nn.init.zeros_(fresh.correction_head.weight)  # an untrained model corrects nothing
    unchanged = shuffled(fresh, batch(), order)
    torch.testing.assert_close(unchanged, batch().logits)


def test_a_slice_moves_with_its_differences_to_its_true_neighbours() -> None:
    """A model of one direction reads the slices before it in the new order, and those below."""
    model, order = context_model(direction="forward", geometry=False), order_of()

    @torch.no_grad()
    def centre(logits: torch.Tensor) -> np.ndarray:
        changed = replace(batch(), logits=logits)
        return shuffled(model, changed, order)[0, CENTRE].numpy()

    before = centre(batch().logits)
    moving = set()
    for index in range(N_SLICES):
        logits = batch().logits.clone()
        logits[0, index] += 2.0
        if np.abs(centre(logits) - before).max() > 1e-6:
            moving.add(index)

    in_order = order[0].tolist()
    read = set(in_order[: in_order.index(CENTRE) + 1])
    below = {index - 1 for index in read} & set(range(N_SLICES))
    assert moving == read | below


@torch.no_grad()
def test_with_differences_too_slices_are_read_as_if_scanned_in_that_order() -> None:
    model, order = context_model(reads="both"), order_of()
    scores = shuffled(model, batch(), order, differences_too=True)[0]

    permuted = replace(
        batch(), embeddings=batch().embeddings[:, order[0]], logits=batch().logits[:, order[0]]
    )
    as_scanned = logits_of(model, permuted)[0]
    np.testing.assert_allclose(scores[order[0]], as_scanned, atol=1e-6)


@torch.no_grad()
def test_padding_leaves_a_shuffled_series_alone() -> None:
    short, long = random_embedded(5, 0), random_embedded(12, 1)
    model, both = context_model(), batch_of(short, long)
    order = random_order(both.lengths, np.random.default_rng(3))
    together = shuffled(model, both, order)[0, :5]
    alone = shuffled(model, batch_of(short), order[:1, :5])[0]
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


@torch.no_grad()
def test_an_ensemble_is_shuffled_alike() -> None:
    ensemble = ContextEnsemble([context_model(), context_model()])
    assert ContextEnsemble.from_config(ContextConfig(), EMBEDDING_WIDTH).config == ContextConfig()
    order = order_of()
    torch.testing.assert_close(
        shuffled(ensemble, batch(), order), shuffled(context_model(), batch(), order)
    )
