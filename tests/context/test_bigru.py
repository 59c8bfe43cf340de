"""The context model reads what it may of a series: no padding, no other series, no far slice."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ich3d.config.schema import READS, ContextConfig
from ich3d.context.bigru import ContextEnsemble, ContextModel
from ich3d.context.dataset import SeriesBatch
from ich3d.core.errors import ConfigError, DataError
from ich3d.core.types import SliceEmbeddings
from tests.helpers.embedded import (
    EMBEDDING_WIDTH,
    batch_of,
    context_model,
    logits_of,
    random_embedded,
)

N_SLICES, CENTRE = 12, 6


@pytest.fixture(scope="module", params=[(1, "embeddings"), (2, "logits"), (1, "both")])
def model(request: pytest.FixtureRequest) -> ContextModel:
    num_layers, reads = request.param
    return context_model(num_layers=num_layers, reads=reads)


@settings(max_examples=20)
@given(counts=st.lists(st.integers(1, 40), min_size=2, max_size=5))
def test_padding_and_other_series_change_nothing(model: ContextModel, counts: list[int]) -> None:
    series = [random_embedded(count, seed) for seed, count in enumerate(counts)]
    together = logits_of(model, batch_of(*series))
    reversed_batch = logits_of(model, batch_of(*series[::-1]))[::-1]
    for one, in_batch, in_reversed in zip(series, together, reversed_batch, strict=True):
        (alone,) = logits_of(model, batch_of(one))
        np.testing.assert_allclose(in_batch, alone, rtol=0, atol=1e-5)
        np.testing.assert_allclose(in_batch, in_reversed, rtol=0, atol=1e-5)


@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("reads", ["both", "embeddings"])
def test_values_in_the_padding_are_never_read(window: int | None, reads: str) -> None:
    model = context_model(reads=reads, window=window)
    batch = batch_of(random_embedded(9, 0), random_embedded(3, 1))
    dirty = replace(
        batch,
        embeddings=batch.embeddings.clone(),
        logits=batch.logits.clone(),
        z_mm=batch.z_mm.clone(),
        brain_cm2=batch.brain_cm2.clone(),
    )
    dirty.embeddings[1, 3:], dirty.logits[1, 3:], dirty.z_mm[1, 3:] = 1e3, -1e3, 77.0
    dirty.brain_cm2[1, 3:] = 500.0
    for clean, other in zip(logits_of(model, batch), logits_of(model, dirty), strict=True):
        np.testing.assert_allclose(clean, other, rtol=0, atol=1e-5)


def test_an_untrained_model_returns_the_encoders_logits() -> None:
    series = random_embedded(7)
    for reads in ("logits", "both"):
        untrained = ContextModel(EMBEDDING_WIDTH, reads=reads).eval()
        (logits,) = logits_of(untrained, batch_of(series))
        np.testing.assert_array_equal(logits, series.logits)


def test_embeddings_alone_need_no_logits_but_the_area_of_brain() -> None:
    model, series = context_model(reads="embeddings"), random_embedded(7)
    batch = batch_of(series)
    other_logits = replace(batch, logits=-batch.logits)
    np.testing.assert_array_equal(logits_of(model, batch)[0], logits_of(model, other_logits)[0])
    other_area = replace(batch, brain_cm2=batch.brain_cm2 / 10)
    assert np.abs(logits_of(model, batch)[0] - logits_of(model, other_area)[0]).max() > 1e-3
    with pytest.raises(DataError, match="brain_cm2 must be given"):
        model(batch.embeddings, batch.logits, batch.z_mm, batch.lengths)


def test_embeddings_are_scaled_as_those_of_the_training_slices() -> None:
    """So their unit and offset do not matter."""
    series = random_embedded(9)
    scaled = replace(series, embeddings=series.embeddings * 8 + 5)
    results = []
    for one in (series, scaled):
        model = context_model(reads="embeddings")
        model.set_embedding_scale([torch.from_numpy(one.embeddings)])
        results.append(logits_of(model, batch_of(one))[0])
    np.testing.assert_allclose(results[0], results[1], atol=0.02)


def slices_that_move_the_centre(model: ContextModel, batch: SeriesBatch) -> list[int]:
    """The slices whose logits change those of the centre slice of the batch's only series."""
    before = logits_of(model, batch)[0][CENTRE]
    found = []
    for index in range(int(batch.lengths[0])):
        changed = replace(batch, logits=batch.logits.clone(), embeddings=batch.embeddings.clone())
        changed.logits[0, index] += 2.0
        changed.embeddings[0, index] += 2.0
        after = logits_of(model, changed)[0][CENTRE]
        if np.abs(after - before).max() > 1e-6:
            found.append(index)
    return found


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        ({}, range(N_SLICES)),
        ({"direction": "forward"}, range(CENTRE + 1)),
        ({"direction": "backward"}, range(CENTRE, N_SLICES)),
        ({"window": 2}, range(CENTRE - 2, CENTRE + 3)),
        ({"window": 0}, [CENTRE]),
        ({"window_mm": 10.0}, range(CENTRE - 2, CENTRE + 3)),
        ({"window_mm": 4.0}, [CENTRE]),
        ({"window": 3, "direction": "forward"}, range(CENTRE - 3, CENTRE + 1)),
    ],
)
@pytest.mark.parametrize("reads", ["embeddings", "logits"])
def test_a_slice_reads_as_far_as_it_may_and_no_further(
    reads: str, keywords: dict[str, Any], expected: range
) -> None:
    batch, model = batch_of(random_embedded(N_SLICES)), context_model(reads=reads, **keywords)
    assert slices_that_move_the_centre(model, batch) == list(expected)


def test_embeddings_are_read_where_they_are_asked_for() -> None:
    plain = random_embedded(5)
    other = replace(plain, embeddings=-plain.embeddings)
    without, with_embeddings = context_model(), context_model(reads="both")
    np.testing.assert_array_equal(
        logits_of(without, batch_of(plain))[0], logits_of(without, batch_of(other))[0]
    )
    difference = (
        logits_of(with_embeddings, batch_of(plain))[0]
        - logits_of(with_embeddings, batch_of(other))[0]
    )
    assert np.abs(difference).max() > 1e-4


def test_without_geometry_positions_are_not_read() -> None:
    series = random_embedded(N_SLICES)
    near, far = batch_of(series, step_mm=2.5), batch_of(series, step_mm=7.5)
    blind, seeing = context_model(geometry=False), context_model()
    np.testing.assert_array_equal(logits_of(blind, near)[0], logits_of(blind, far)[0])
    assert np.abs(logits_of(seeing, near)[0] - logits_of(seeing, far)[0]).max() > 1e-4


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("reads", ["embeddings", "logits"])
def test_a_window_as_wide_as_the_series_is_the_series(num_layers: int, reads: str) -> None:
    """Logits and gradients are equal, for series of different lengths in one batch."""
    batch = batch_of(random_embedded(12, 0), random_embedded(7, 1))
    results = []
    for window in (12, None):
        keywords = {"window": window, "num_layers": num_layers, "reads": reads}
        model = context_model(dropout=0.0, **keywords).train()
        logits = model(batch.embeddings, batch.logits, batch.z_mm, batch.lengths, batch.brain_cm2)
        (logits[0].sum() + logits[1, :7].sum()).backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        results.append([logits[0].detach(), logits[1, :7].detach(), *gradients])
    for windowed, whole in zip(*results, strict=True):
        torch.testing.assert_close(windowed, whole, atol=1e-5, rtol=1e-4)


def test_a_window_is_read_as_a_short_series_but_at_its_place_in_the_whole() -> None:
    """Without geometry, a window gives what its slices alone would give."""
    series = random_embedded(N_SLICES)
    model = context_model(window=2, geometry=False)
    (whole,) = logits_of(model, batch_of(series))
    near = slice(CENTRE - 2, CENTRE + 3)
    part = replace(
        series,
        embeddings=series.embeddings[near],
        logits=series.logits[near],
        hu_features=series.hu_features[near],
    )
    (alone,) = logits_of(context_model(geometry=False), batch_of(part))
    np.testing.assert_allclose(whole[CENTRE], alone[2], atol=1e-5)


def test_features_join_what_is_read_of_a_slice() -> None:
    batch = batch_of(random_embedded(6))
    model = context_model(num_features=2)
    arguments = (batch.embeddings, batch.logits, batch.z_mm, batch.lengths)
    with torch.no_grad():
        zero = model(*arguments, features=torch.zeros(1, 6, 2))
        one = model(*arguments, features=torch.ones(1, 6, 2))
    assert (zero - one).abs().max() > 1e-4
    with pytest.raises(DataError, match="features must be given: the model reads 2"):
        model(*arguments)
    with pytest.raises(DataError, match="features must be left out"):
        context_model()(*arguments, features=torch.zeros(1, 6, 2))


@pytest.mark.parametrize(("reads", "encoder_share"), [("embeddings", 0.5), ("both", 0.0)])
def test_an_ensemble_is_the_mean_of_its_members_and_of_the_encoder_where_they_do_not_read_it(
    reads: str, encoder_share: float
) -> None:
    config = ContextConfig(ensemble_size=2, reads=reads)
    ensemble = ContextEnsemble.from_config(config, EMBEDDING_WIDTH).eval()
    for seed, member in enumerate(ensemble.members):
        torch.manual_seed(seed)
        assert isinstance(member, ContextModel)
        torch.nn.init.normal_(member.correction_head.weight)
    embedded = random_embedded(5)
    batch = batch_of(embedded)
    (together,) = logits_of(ensemble, batch)
    members = [
        logits_of(member, batch)[0]
        for member in ensemble.members
        if isinstance(member, ContextModel)
    ]
    assert np.abs(members[0] - members[1]).max() > 1e-3
    expected = (1 - encoder_share) * np.mean(members, axis=0) + encoder_share * embedded.logits
    np.testing.assert_allclose(together, expected, atol=1e-6)


def test_keywords_are_checked_as_configuration_keys_are() -> None:
    with pytest.raises(ConfigError, match=r"context\.direction must be one of"):
        ContextModel(EMBEDDING_WIDTH, direction="sideways")


def test_from_config_builds_what_the_keywords_build() -> None:
    config = ContextConfig(reads="both", hidden_size=4, num_layers=2, geometry=False, window=3)
    model = ContextModel.from_config(config, EMBEDDING_WIDTH)
    assert replace(model.config, ensemble_size=config.ensemble_size) == config


def test_a_series_of_one_slice_has_logits() -> None:
    series: SliceEmbeddings = random_embedded(1)
    models = [context_model(window=window, reads=reads) for window in (None, 1) for reads in READS]
    for model in (*models, context_model(window_mm=5.0)):
        (logits,) = logits_of(model, batch_of(series))
        assert logits.shape == (1, 6)
        assert np.isfinite(logits).all()
