"""The context model reads a series as a whole and nothing else: no padding, no batch-mate."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ich3d.config.schema import ContextConfig
from ich3d.context.bigru import ContextModel
from ich3d.context.dataset import ContextInput, collate, context_input
from ich3d.context.geometry import geometry
from ich3d.context.train import require_held_out, score_context
from ich3d.core.errors import LeakageError
from ich3d.core.metrics import sigmoid
from ich3d.core.types import SliceEmbeddings, TrainingGroups

WIDTH = 12
POSITIONS = st.lists(st.floats(0.5, 20), min_size=1, max_size=30).map(
    lambda gaps: np.cumsum(gaps) - 40
)


def embedded(count: int, seed: int = 0) -> SliceEmbeddings:
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(count, WIDTH)).astype(np.float32)
    logits = rng.normal(size=(count, 6)).astype(np.float32)
    return SliceEmbeddings(
        str(seed), embeddings, logits, "encoder fold 0", TrainingGroups.of(["p1"])
    )


def one_series(count: int, seed: int = 0) -> ContextInput:
    return context_input(embedded(count, seed), 5.0 * np.arange(count))


@pytest.fixture(scope="module", params=[(1, True), (2, False)], ids=["embeddings", "logits"])
def model(request: pytest.FixtureRequest) -> ContextModel:
    """A model whose correction is not zero, as one that has learnt something."""
    torch.manual_seed(0)
    layers, embeddings = request.param
    made = ContextModel(
        ContextConfig(hidden_size=8, num_layers=layers, embeddings=embeddings), WIDTH
    ).eval()
    torch.nn.init.normal_(made.correction_head.weight)
    return made


def logits_of(model: ContextModel, series: list[ContextInput]) -> list[np.ndarray]:
    """Logits of each series, all in one batch."""
    nothing = [np.full((len(one), 6), np.nan, dtype=np.float32) for one in series]
    with torch.no_grad():
        out = model(collate(series, nothing)).numpy()
    return [row[: len(one)] for row, one in zip(out, series, strict=True)]


@settings(max_examples=20, deadline=None)
@given(counts=st.lists(st.integers(1, 40), min_size=2, max_size=5))
def test_padding_and_batch_mates_change_nothing(model: ContextModel, counts: list[int]) -> None:
    series = [one_series(count, seed) for seed, count in enumerate(counts)]
    together = logits_of(model, series)
    for one, found in zip(series, together, strict=True):
        (alone,) = logits_of(model, [one])
        np.testing.assert_allclose(found, alone, rtol=0, atol=1e-5)
    for found, turned in zip(together, logits_of(model, series[::-1])[::-1], strict=True):
        np.testing.assert_allclose(found, turned, rtol=0, atol=1e-5)


def test_what_stands_in_the_padding_is_never_read(model: ContextModel) -> None:
    series = [one_series(9, 0), one_series(3, 1)]
    batch = collate(series, [np.full((len(one), 6), np.nan, dtype=np.float32) for one in series])
    dirty = replace(batch, embeddings=batch.embeddings.clone(), logits=batch.logits.clone())
    dirty.embeddings[1, 3:], dirty.logits[1, 3:] = 1e3, -1e3
    with torch.no_grad():
        clean_out, dirty_out = model(batch), model(dirty)
    torch.testing.assert_close(clean_out[1, :3], dirty_out[1, :3], rtol=0, atol=1e-5)
    torch.testing.assert_close(clean_out[0], dirty_out[0], rtol=0, atol=1e-5)


def test_a_far_slice_is_part_of_the_context(model: ContextModel) -> None:
    """So that the tests above cannot pass by reading nothing."""
    plain = one_series(8)
    changed = replace(plain, embeddings=plain.embeddings.copy(), logits=plain.logits.copy())
    changed.embeddings[0] *= -1
    changed.logits[0] *= -1
    before, after = logits_of(model, [plain])[0], logits_of(model, [changed])[0]
    assert np.abs(before[5:] - after[5:]).max() > 1e-5


def test_it_starts_as_the_encoders_own_logits() -> None:
    fresh = ContextModel(ContextConfig(hidden_size=8), WIDTH).eval()
    series = one_series(7)
    np.testing.assert_array_equal(logits_of(fresh, [series])[0], series.logits)
    np.testing.assert_allclose(score_context(fresh, series), sigmoid(series.logits), atol=1e-7)


def test_scores_are_probabilities_of_the_logits(model: ContextModel) -> None:
    series = one_series(5)
    scores = score_context(model, series)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, sigmoid(logits_of(model, [series])[0]), atol=1e-6)


def test_targets_are_nan_beyond_a_series() -> None:
    series = [one_series(2), one_series(4)]
    batch = collate(series, [np.zeros((2, 6)), np.ones((4, 6))])
    assert batch.target.isnan().all(dim=2).tolist() == [[False, False, True, True], [False] * 4]
    assert batch.lengths.tolist() == [2, 4]


def test_geometry_by_hand() -> None:
    found = geometry(np.array([-10.0, -5.0, 2.5]))
    expected = [
        [0.0, 1.0, 0.125, 0.0, 0.0],
        [1.0, 1.5, 0.075, 0.05, 0.5],
        [1.5, 0.0, 0.0, 0.125, 1.0],
    ]
    np.testing.assert_allclose(found, expected, atol=1e-7)


def test_the_geometry_of_one_slice_is_all_zero() -> None:
    assert geometry(np.array([37.0])).tolist() == [[0.0] * 5]


@given(z_mm=POSITIONS, shift=st.floats(-500, 500))
def test_geometry_knows_only_distances(z_mm: np.ndarray, shift: float) -> None:
    np.testing.assert_allclose(geometry(z_mm), geometry(z_mm + shift), atol=1e-5)


@given(z_mm=POSITIONS)
def test_reversing_a_series_exchanges_below_and_above(z_mm: np.ndarray) -> None:
    below, above, from_top, from_bottom, index = geometry(z_mm)[::-1].T
    expected = np.stack([above, below, from_bottom, from_top, 1 - index], axis=1)
    if len(z_mm) == 1:
        expected[:, 4] = 0
    np.testing.assert_allclose(geometry(-z_mm[::-1]), expected, atol=1e-6)


def test_a_maker_that_saw_the_patient_is_refused() -> None:
    series = embedded(3)
    require_held_out("p2", series.encoder_id, series.training_groups)
    with pytest.raises(LeakageError, match="encoder fold 0 was fitted on group p1"):
        require_held_out("p1", series.encoder_id, series.training_groups)
