"""HU from two windows: where one saturates, where both show the value, and where they disagree."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ich3d.sources.ct_ich.hu import (
    agreement,
    estimate_center,
    estimate_shift,
    nearest_center,
    rebuild_hu,
)
from tests.helpers.ct_ich import disc_hu, windowed


def both_windows(hu: np.ndarray, center: float) -> tuple[np.ndarray, np.ndarray]:
    """Brain and bone window of `hu`; `center` is that of the bone window."""
    return windowed(hu, 40, 120), windowed(hu, center, 3200)


@given(st.lists(st.integers(-1000, 2250), min_size=1, max_size=64), st.sampled_from([700.0, 800.0]))
def test_hu_are_rebuilt_within_one_grey_level_of_the_window_that_shows_them(
    values: list[int], center: float
) -> None:
    hu = np.array([values])
    rebuilt = rebuild_hu(*both_windows(hu, center), center)
    assert rebuilt.dtype == np.int16
    in_brain_window = (hu > -18) & (hu < 98)
    in_bone_window = (hu > center - 1600 + 40) & ~in_brain_window
    assert np.all(np.abs(rebuilt - hu)[in_brain_window] <= 1)
    assert np.all(np.abs(rebuilt - hu)[in_bone_window] <= 7)


def test_values_below_the_bone_window_are_air() -> None:
    hu = np.array([[-1024, -950, -905]])
    assert rebuild_hu(*both_windows(hu, 700), 700).tolist() == [[-1000, -1000, -1000]]


def test_a_saturated_brain_window_limits_the_value_to_its_side() -> None:
    brain = np.array([[0, 255]], dtype=np.uint8)
    bone = windowed(np.array([[30, 30]]), 700, 3200)
    assert rebuild_hu(brain, bone, 700).tolist() == [[-20, 100]]


def test_ringing_beside_an_edge_leaves_no_speckles() -> None:
    brain = np.array([[245, 10]], dtype=np.uint8)
    bone = windowed(np.array([[800, -400]]), 700, 3200)
    assert np.abs(rebuild_hu(brain, bone, 700) - [[800, -400]]).max() <= 7


@pytest.mark.parametrize("center", [700.0, 800.0])
def test_the_centre_is_estimated_from_both_images(center: float) -> None:
    hu = np.linspace(-1000, 1500, 64 * 64).reshape(64, 64)
    brain, bone = both_windows(hu, center)
    assert estimate_center(brain, bone) == pytest.approx(center, abs=7)
    assert nearest_center(estimate_center(brain, bone)) == center


def test_there_is_no_centre_where_the_whole_brain_window_is_saturated() -> None:
    assert np.isnan(estimate_center(*both_windows(np.full((8, 8), -1000), 700)))


def test_another_slice_or_another_centre_lowers_the_agreement() -> None:
    rng = np.random.default_rng(0)
    hu = rng.choice([-1000, 0, 35, 60, 900], (64, 64))
    other = rng.choice([-1000, 0, 35, 60, 900], (64, 64))
    brain, bone = both_windows(hu, 700)
    assert agreement(brain, bone, 700) == 1
    assert agreement(brain, bone, 760) < 0.5
    assert agreement(brain, windowed(other, 700, 3200), 700) < 0.8
    assert agreement(*both_windows(np.full((8, 8), -1000), 700), 700) == 0


@pytest.mark.parametrize("shift", [0, 2, -3])
def test_the_shift_between_the_windows_numbers_is_estimated(shift: int) -> None:
    brain = {number: windowed(disc_hu(number), 40, 120) for number in range(1, 9)}
    bone = {number + shift: windowed(disc_hu(number), 700, 3200) for number in range(1, 9)}
    assert estimate_shift(brain, bone) == shift


def test_the_shift_is_zero_where_no_shift_fits() -> None:
    brain = {number: windowed(disc_hu(number), 40, 120) for number in range(1, 9)}
    bone = {number + 5: windowed(disc_hu(number), 700, 3200) for number in range(1, 9)}
    assert estimate_shift(brain, bone) == 0
