"""HU from two windows: what one window shows alone, what both show, and where they disagree."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ich3d.sources.ct_ich_hu import agreement, measured_center, nearest_center, rebuilt_hu


def shown(hu: np.ndarray, center: float, width: float) -> np.ndarray:
    """What an 8-bit display of HU keeps."""
    return np.rint(np.clip((hu - center + width / 2) / width, 0, 1) * 255).astype(np.uint8)


def both(hu: np.ndarray, center: float) -> tuple[np.ndarray, np.ndarray]:
    return shown(hu, 40, 120), shown(hu, center, 3200)


@given(st.lists(st.integers(-1000, 2250), min_size=1, max_size=64), st.sampled_from([700.0, 800.0]))
def test_hu_come_back_within_the_step_of_the_window_that_shows_them(
    values: list[int], center: float
) -> None:
    hu = np.array([values])
    rebuilt = rebuilt_hu(*both(hu, center), center)
    assert rebuilt.dtype == np.int16
    fine = (hu > -18) & (hu < 98)
    coarse = (hu > center - 1600 + 40) & ~fine
    assert np.all(np.abs(rebuilt - hu)[fine] <= 1)
    assert np.all(np.abs(rebuilt - hu)[coarse] <= 7)


def test_below_the_bone_window_is_air() -> None:
    hu = np.array([[-1024, -950, -905]])
    assert rebuilt_hu(*both(hu, 700), 700).tolist() == [[-1000, -1000, -1000]]


def test_a_saturated_brain_window_keeps_its_side() -> None:
    brain = np.array([[0, 255]], dtype=np.uint8)
    bone = shown(np.array([[30, 30]]), 700, 3200)
    assert rebuilt_hu(brain, bone, 700).tolist() == [[-20, 100]]


def test_ringing_beside_an_edge_leaves_no_speckle() -> None:
    brain = np.array([[245, 10]], dtype=np.uint8)
    bone = shown(np.array([[800, -400]]), 700, 3200)
    assert np.abs(rebuilt_hu(brain, bone, 700) - [[800, -400]]).max() <= 7


@pytest.mark.parametrize("center", [700.0, 800.0])
def test_the_centre_is_found_from_the_pictures(center: float) -> None:
    hu = np.linspace(-1000, 1500, 64 * 64).reshape(64, 64)
    brain, bone = both(hu, center)
    assert measured_center(brain, bone) == pytest.approx(center, abs=7)
    assert nearest_center(measured_center(brain, bone)) == center


def test_no_centre_where_nothing_is_inside_the_brain_window() -> None:
    assert np.isnan(measured_center(*both(np.full((8, 8), -1000), 700)))


def test_agreement_tells_another_section_and_another_window() -> None:
    rng = np.random.default_rng(0)
    hu = rng.choice([-1000, 0, 35, 60, 900], (64, 64))
    other = rng.choice([-1000, 0, 35, 60, 900], (64, 64))
    brain, bone = both(hu, 700)
    assert agreement(brain, bone, 700) == 1
    assert agreement(brain, bone, 760) < 0.5
    assert agreement(brain, shown(other, 700, 3200), 700) < 0.8
    assert agreement(*both(np.full((8, 8), -1000), 700), 700) == 0
