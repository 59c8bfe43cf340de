"""The parts of a context logit add up to it, and lie where a model reads."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ich3d.context.bigru import ContextEnsemble, ContextModel
from ich3d.context.score import score_context
from ich3d.core.labels import label_index
from ich3d.core.metrics import logit
from ich3d.core.types import SliceEmbeddings
from ich3d.explain.integrated_gradients import context_contributions
from tests.helpers.embedded import EMBEDDING_WIDTH, random_embedded
from tests.helpers.networks import random_contexts

ANY = label_index("any")
NO_LOGITS = np.zeros(6, dtype=np.float32)


def random_z_mm(n_slices: int) -> np.ndarray:
    """Positions (Z,) with steps of 1 to 10 mm."""
    return np.cumsum(np.random.default_rng(n_slices).uniform(1, 10, n_slices))


def logit_of(
    model: ContextEnsemble, embedded: SliceEmbeddings, z_mm: np.ndarray, index: int, k: int
) -> float:
    """Logit `k` of slice `index`."""
    return float(logit(score_context(model, embedded, z_mm))[index, k])


@pytest.mark.parametrize("n_slices", [1, 2, 11, 60])
@pytest.mark.parametrize(
    "settings",
    [{}, {"reads": "embeddings"}, {"reads": "both"}, {"window": 2}, {"window_mm": 12.0}],
    ids=["logits", "embeddings", "both", "window", "window in mm"],
)
def test_contributions_add_up_to_the_logit(settings: dict[str, Any], n_slices: int) -> None:
    """Completeness (Sundararajan et al., 2017, proposition 1)."""
    model = random_contexts(EMBEDDING_WIDTH, count=2, **settings)
    embedded, z_mm = random_embedded(n_slices, seed=n_slices), random_z_mm(n_slices)
    baseline_logits = np.linspace(-3, -1, 6).astype(np.float32)
    average = replace(
        embedded,
        embeddings=np.tile(embedded.embeddings.mean(axis=0), (n_slices, 1)),
        logits=np.tile(baseline_logits, (n_slices, 1)),
    )
    for index, k in ((0, 0), (n_slices // 2, ANY), (n_slices - 1, 3)):
        start, *parts = context_contributions(model, embedded, z_mm, baseline_logits, index, k)
        assert len(parts) == n_slices
        assert start == pytest.approx(logit_of(model, average, z_mm, index, k), abs=1e-3)
        total = start + sum(parts)
        assert total == pytest.approx(logit_of(model, embedded, z_mm, index, k), abs=1e-3)


@pytest.mark.parametrize("index", [0, 3, 9])
def test_slices_beyond_the_window_contribute_nothing(index: int) -> None:
    model = random_contexts(EMBEDDING_WIDTH, count=1, window=2)
    embedded, z_mm = random_embedded(10), random_z_mm(10)
    parts = context_contributions(model, embedded, z_mm, NO_LOGITS, index, ANY)[1:]
    is_inside = np.abs(np.arange(10) - index) <= 2
    assert not parts[~is_inside].any()
    assert np.all(np.abs(parts[is_inside]) > 1e-6)


def test_in_an_untrained_model_the_slice_alone_contributes() -> None:
    """It corrects nothing: the logit is that of the encoder."""
    model = ContextModel(EMBEDDING_WIDTH, reads="logits", hidden_size=8)
    untrained = ContextEnsemble([model]).eval()
    embedded, z_mm = random_embedded(7), random_z_mm(7)
    baseline_logits = np.full(6, -2.0, dtype=np.float32)
    start, *parts = context_contributions(untrained, embedded, z_mm, baseline_logits, 4, ANY)
    expected = np.zeros(7)
    expected[4] = embedded.logits[4, ANY] + 2
    assert start == pytest.approx(-2.0)
    np.testing.assert_allclose(parts, expected, atol=1e-6)


@torch.no_grad()
def read_one_difference_only(model: ContextModel, block: int) -> None:
    """Let the model read of each slice one block of its inputs, and nothing of other slices.

    Inputs are the slice's logits (block 0), their differences to the slice below (block 1) and
    above (block 2), and geometry. The GRU forgets what it read before: its update gate is closed
    to the old state, and its new state does not depend on the old one.
    """
    columns = slice(6 * block, 6 * block + 6)
    assert isinstance(model.input_proj, nn.Linear)
    kept = model.input_proj.weight[:, columns].clone()
    model.input_proj.weight.zero_()[:, columns] = kept

    size = model.gru.hidden_size
    update_gate, new_state = slice(size, 2 * size), slice(2 * size, None)  # torch.nn.GRU's order
    for name, parameter in model.gru.named_parameters():
        parameter[update_gate] = -1000.0 if name.startswith("bias") else 0.0
        if name.startswith("weight_hh"):
            parameter.zero_()
        if name.startswith("bias_hh"):
            parameter[new_state] = 0.0


@pytest.mark.parametrize(("block", "neighbour"), [(1, 2), (2, 4)], ids=["below", "above"])
def test_a_model_that_reads_one_neighbour_is_explained_by_it(block: int, neighbour: int) -> None:
    model = random_contexts(EMBEDDING_WIDTH, count=1)
    (member,) = model.members
    assert isinstance(member, ContextModel)
    read_one_difference_only(member, block)

    embedded, z_mm = random_embedded(7), random_z_mm(7)
    parts = context_contributions(model, embedded, z_mm, NO_LOGITS, 3, ANY)[1:]
    np.testing.assert_allclose(np.delete(parts, [3, neighbour]), 0, atol=1e-6)
    assert abs(parts[neighbour]) > 1e-3
