"""A window ends where its series does, and never reaches into another series or the padding."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ich3d.config.schema import ContextConfig
from ich3d.context.windows import Windows, find_windows


def windows_of(lengths: list[int], config: ContextConfig, step_mm: float = 5.0) -> Windows:
    """The windows of series of these lengths, padded to the longest."""
    index = torch.arange(max(lengths))
    is_slice = index[None] < torch.tensor(lengths)[:, None]
    z_mm = torch.where(is_slice, step_mm * index.double(), torch.zeros(1, dtype=torch.float64))
    return find_windows(is_slice, z_mm, config)


def slices_of(windows: Windows) -> list[tuple[int, int, list[int]]]:
    """Series, centre and real slices of every window."""
    rows = zip(
        windows.series.tolist(),
        windows.centre.tolist(),
        windows.slices.tolist(),
        windows.size.tolist(),
        strict=True,
    )
    return [(series, centre, slices[:size]) for series, centre, slices, size in rows]


def test_windows_by_hand() -> None:
    assert slices_of(windows_of([3, 1], ContextConfig(window=1))) == [
        (0, 0, [0, 1]),
        (0, 1, [0, 1, 2]),
        (0, 2, [1, 2]),
        (1, 0, [0]),
    ]


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    reach=st.integers(0, 5),
    in_mm=st.booleans(),
)
def test_every_slice_has_the_slices_within_reach_of_its_own_series(
    lengths: list[int], reach: int, in_mm: bool
) -> None:
    config = ContextConfig(window_mm=5.0 * reach) if in_mm else ContextConfig(window=reach)
    expected = [
        (series, centre, list(range(max(0, centre - reach), min(length, centre + reach + 1))))
        for series, length in enumerate(lengths)
        for centre in range(length)
    ]
    assert slices_of(windows_of(lengths, config)) == expected


@pytest.mark.parametrize(("step_mm", "n_near"), [(2.5, 9), (5.0, 5), (7.5, 3)])
def test_millimetres_reach_over_more_slices_where_steps_are_small(
    step_mm: float, n_near: int
) -> None:
    windows = windows_of([21], ContextConfig(window_mm=10.0), step_mm)
    assert int(windows.size[10]) == n_near


def test_gathered_rows_come_back_to_their_slices() -> None:
    windows = windows_of([4, 2], ContextConfig(window=1))
    rows = torch.arange(8.0).reshape(2, 4, 1)
    gathered = windows.gather(rows)
    assert gathered.shape == (6, 3, 1)
    own = windows.centre_rows(gathered)[:, 0]
    np.testing.assert_array_equal(own, [0, 1, 2, 3, 4, 5])
