"""A stacker is trained on whole series and on the same slices in series that are cut."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ich3d.config.root import Config
from ich3d.core.metrics import sigmoid
from ich3d.core.types import SliceEmbeddings, SliceScores, TrainingGroups
from ich3d.crossfit.stack_rows import (
    LONGEST_RUN,
    ScoredPart,
    build_stack_rows,
    cut_runs,
    random_runs,
    stack_features,
)
from ich3d.prepare.store import Store
from tests.helpers.embedded import random_embedded
from tests.helpers.runs import store_of

NOBODY = TrainingGroups.of(())
REACH_MM = 10.0


@pytest.fixture
def store(finished_run: Config) -> Store:
    return store_of(finished_run)


def embedded_of(store: Store, names: Sequence[str]) -> dict[str, SliceEmbeddings]:
    return {name: random_embedded(len(store.z_mm(name)), seed) for seed, name in enumerate(names)}


def scores_of(embedded: dict[str, SliceEmbeddings], stage: str) -> dict[str, SliceScores]:
    return {
        name: SliceScores(name, stage, sigmoid(series.logits), NOBODY)
        for name, series in embedded.items()
    }


@given(st.integers(1, 100), st.integers(0, 100))
def test_runs_are_the_series_without_gap_or_overlap(n_slices: int, seed: int) -> None:
    runs = list(random_runs(n_slices, np.random.default_rng(seed)))
    indices = [index for run in runs for index in range(n_slices)[run]]
    assert indices == list(range(n_slices))
    assert all(1 <= run.stop - run.start <= LONGEST_RUN for run in runs)


@given(st.integers(1, 100), st.integers(1, 120))
def test_cut_runs_are_equally_long_but_for_the_last(n_slices: int, length: int) -> None:
    runs = cut_runs(n_slices, length)
    indices = [index for run in runs for index in range(n_slices)[run]]
    assert indices == list(range(n_slices))
    assert all(run.stop - run.start == length for run in runs[:-1])
    assert 1 <= runs[-1].stop - runs[-1].start <= length
    assert cut_runs(n_slices, None) == [slice(0, n_slices)]


def test_without_a_scorer_of_runs_there_are_whole_series_alone(store: Store) -> None:
    names = store.volume_ids[:2]
    embedded = embedded_of(store, names)
    before = scores_of(embedded, "context")
    rng = np.random.default_rng(0)
    rows = build_stack_rows(store, names, embedded, before, REACH_MM, None, rng)
    assert len(rows.features) == sum(len(store.z_mm(name)) for name in names)
    first = len(store.z_mm(names[0]))
    z_mm = store.z_mm(names[0])
    whole = ScoredPart(embedded[names[0]], "context", before[names[0]].prob, z_mm)
    expected = stack_features([whole], REACH_MM)
    assert rows.features[:first].equals(expected)
    np.testing.assert_array_equal(rows.target[:first], store.targets(names[0]))
    assert set(rows.group[:first]) == {store.groups[names[0]]}
    assert set(rows.fold[:first]) == {store.folds[names[0]]}


@pytest.mark.parametrize("stage", ["encoder", "context"])
def test_every_slice_is_there_twice_once_in_a_cut_series(store: Store, stage: str) -> None:
    names = store.volume_ids[:2]
    embedded = embedded_of(store, names)
    asked: list[tuple[str, slice]] = []

    def score_run(name: str, run: slice) -> np.ndarray:
        asked.append((name, run))
        return np.full((run.stop - run.start, 6), 0.25)

    before = scores_of(embedded, stage)
    rng = np.random.default_rng(0)
    rows = build_stack_rows(store, names, embedded, before, REACH_MM, score_run, rng)
    n_slices = sum(len(store.z_mm(name)) for name in names)
    assert len(rows.features) == len(rows.target) == len(rows.group) == 2 * n_slices
    assert [name for name, _ in asked] == sorted((name for name, _ in asked), key=names.index)

    # The rows of the first run, after the whole series: its neighbours end where it does.
    name, run = asked[0]
    start = len(store.z_mm(name))
    of_run = rows.features.iloc[start : start + run.stop]
    assert np.isnan(of_run["encoder.any.above_5mm"].iloc[-1])
    assert of_run["n_slices"].iloc[0] == run.stop
    assert (rows.start_prob[start : start + run.stop] == 0.25).all()
    np.testing.assert_array_equal(
        rows.target[start : start + run.stop], store.targets(name)[: run.stop]
    )
    np.testing.assert_allclose(
        of_run["encoder.any.own"], embedded[name].logits[: run.stop, -1], atol=1e-3
    )
