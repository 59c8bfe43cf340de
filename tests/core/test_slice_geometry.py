"""Distances along a series, on positions worked by hand."""

import numpy as np

from ich3d.core.slice_geometry import slice_geometry


def test_distances_of_three_slices() -> None:
    geometry = slice_geometry(np.array([-5.0, 0.0, 2.5]))
    np.testing.assert_array_equal(geometry.gap_below_mm, [np.nan, 5.0, 2.5])
    np.testing.assert_array_equal(geometry.gap_above_mm, [5.0, 2.5, np.nan])
    np.testing.assert_array_equal(geometry.from_top_mm, [7.5, 2.5, 0.0])
    np.testing.assert_array_equal(geometry.from_bottom_mm, [0.0, 5.0, 7.5])
    np.testing.assert_array_equal(geometry.relative_index, [0.0, 0.5, 1.0])
    assert geometry.largest_gap_mm == 5.0


def test_a_single_slice_has_no_gaps() -> None:
    geometry = slice_geometry(np.array([3.0]))
    assert np.isnan(geometry.gap_below_mm).all()
    assert np.isnan(geometry.gap_above_mm).all()
    assert geometry.from_top_mm.tolist() == geometry.from_bottom_mm.tolist() == [0.0]
    assert geometry.relative_index.tolist() == [0.0]
    assert geometry.largest_gap_mm is None
