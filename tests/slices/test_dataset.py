"""Slices with their neighbours: nothing wraps, copies are flagged, unlabelled slices are never
a target.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ich3d.config.root import Config
from ich3d.core.workspace import Workspace
from ich3d.prepare.store import Store
from ich3d.slices.dataset import SliceDataset, in_batches, neighbour_stack

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def store(finished_run: Config) -> Store:
    return Store(Workspace(Path(finished_run.workspace)).store)


def numbered(count: int) -> np.ndarray:
    """A series whose slice i is all i."""
    return np.arange(count, dtype=np.int16)[:, None, None] * np.ones((1, 2, 2), dtype=np.int16)


def test_neighbours_are_in_order_around_the_slice() -> None:
    drawn, is_copy = neighbour_stack(numbered(9), 4, 2)
    assert drawn[:, 0, 0].tolist() == [2, 3, 4, 5, 6]
    assert not is_copy.any()


def test_edges_are_repeated_and_flagged() -> None:
    drawn, is_copy = neighbour_stack(numbered(9), 0, 2)
    assert drawn[:, 0, 0].tolist() == [0, 0, 0, 1, 2]
    assert is_copy.tolist() == [True, True, False, False, False]
    drawn, is_copy = neighbour_stack(numbered(9), 8, 2)
    assert drawn[:, 0, 0].tolist() == [6, 7, 8, 8, 8]
    assert is_copy.tolist() == [False, False, False, True, True]


@given(count=st.integers(1, 12), neighbours=st.integers(0, 4), data=st.data())
def test_no_index_wraps_to_the_other_end(count: int, neighbours: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, count - 1))
    drawn, is_copy = neighbour_stack(numbered(count), index, neighbours)
    found = drawn[:, 0, 0].tolist()
    wanted = range(index - neighbours, index + neighbours + 1)
    assert found == [min(max(i, 0), count - 1) for i in wanted]
    assert is_copy.tolist() == [not 0 <= i < count for i in wanted]
    assert found[neighbours] == index


@pytest.mark.parametrize("neighbours", [0, 1, 3])
def test_training_draws_what_serving_draws(store: Store, neighbours: int) -> None:
    name = store.volume_ids[0]
    slices = SliceDataset(store, [name], neighbours)
    hu = store.hu(name)
    (batch,) = slices.batches([np.arange(len(slices))], CPU)
    for row, (_, index) in enumerate(slices.slice_indices):
        drawn, is_copy = neighbour_stack(hu, int(index), neighbours)
        np.testing.assert_array_equal(batch.hu[row].numpy(), drawn)
        np.testing.assert_array_equal(batch.is_copy[row].numpy(), is_copy)
        np.testing.assert_array_equal(batch.target[row].numpy(), store.targets(name)[index])


def test_unlabelled_slices_are_never_drawn(store: Store) -> None:
    labelled = int((~store.table["any"].isna()).sum())
    assert 0 < labelled < len(store.table)
    slices = SliceDataset(store, neighbours=0)
    assert len(slices) == labelled
    assert not np.isnan(slices.targets()).any()


def test_batches_hold_every_place_once_in_the_given_order(store: Store) -> None:
    slices = SliceDataset(store, neighbours=0)
    order = np.random.default_rng(0).permutation(len(slices))
    batches = list(slices.batches(in_batches(order, 7), CPU))
    assert [len(batch.hu) for batch in batches[:-1]] == [7] * (len(batches) - 1)
    drawn = np.concatenate([batch.target.numpy() for batch in batches])
    np.testing.assert_array_equal(drawn, slices.targets()[order])
