"""The geometry of padded batches is that of each series, in units of about one."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from ich3d.context.geometry import GAP_UNIT_MM, POSITION_UNIT_MM, geometry_features
from ich3d.core.slice_geometry import slice_geometry

POSITIONS = st.lists(st.floats(0.5, 20), min_size=1, max_size=30).map(
    lambda gaps: np.cumsum(gaps) - 40
)


def features_of(z_mm: np.ndarray) -> np.ndarray:
    """The features (Z, 5) of one series by itself."""
    features = geometry_features(torch.tensor(z_mm)[None], torch.tensor([len(z_mm)]))
    assert features.dtype == torch.float32
    return features[0].numpy()


def test_geometry_by_hand() -> None:
    expected = [
        [0.0, 1.0, 0.125, 0.0, 0.0],
        [1.0, 1.5, 0.075, 0.05, 0.5],
        [1.5, 0.0, 0.0, 0.125, 1.0],
    ]
    np.testing.assert_allclose(features_of(np.array([-10.0, -5.0, 2.5])), expected, atol=1e-7)


def test_a_single_slice_has_no_geometry() -> None:
    assert features_of(np.array([37.0])).tolist() == [[0.0] * 5]


@given(z_mm=POSITIONS)
def test_it_is_the_geometry_of_tables_in_other_units(z_mm: np.ndarray) -> None:
    geometry = slice_geometry(z_mm)
    expected = np.stack(
        [
            np.nan_to_num(geometry.gap_below_mm) / GAP_UNIT_MM,
            np.nan_to_num(geometry.gap_above_mm) / GAP_UNIT_MM,
            geometry.from_top_mm / POSITION_UNIT_MM,
            geometry.from_bottom_mm / POSITION_UNIT_MM,
            geometry.relative_index,
        ],
        axis=1,
    )
    np.testing.assert_allclose(features_of(z_mm), expected, atol=1e-6)


@given(z_mm=POSITIONS, other=POSITIONS)
def test_padding_and_other_series_change_nothing(z_mm: np.ndarray, other: np.ndarray) -> None:
    longest = max(len(z_mm), len(other))
    padded = np.full((2, longest), 123.0)
    padded[0, : len(z_mm)], padded[1, : len(other)] = z_mm, other
    lengths = torch.tensor([len(z_mm), len(other)])
    features = geometry_features(torch.tensor(padded), lengths).numpy()
    np.testing.assert_array_equal(features[0, : len(z_mm)], features_of(z_mm))
    assert not features[0, len(z_mm) :].any()


@given(z_mm=POSITIONS, shift=st.floats(-500, 500))
def test_only_distances_matter(z_mm: np.ndarray, shift: float) -> None:
    np.testing.assert_allclose(features_of(z_mm), features_of(z_mm + shift), atol=1e-5)


@given(z_mm=POSITIONS)
def test_reversing_a_series_exchanges_below_and_above(z_mm: np.ndarray) -> None:
    below, above, from_top, from_bottom, index = features_of(z_mm)[::-1].T
    expected = np.stack([above, below, from_bottom, from_top, 1 - index], axis=1)
    if len(z_mm) == 1:
        expected[:, 4] = 0
    np.testing.assert_allclose(features_of(-z_mm[::-1]), expected, atol=1e-6)
