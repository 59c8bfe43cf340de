"""Distances to simple bodies, and smooth noise."""

import numpy as np
import pytest

from ich3d.core.seeds import stream
from ich3d.phantom.fields import (
    Points,
    blend,
    blob,
    capsule,
    draw_noise,
    ellipsoid,
    smooth_step,
    soft_mask,
)


def points(*rows: tuple[float, float, float]) -> Points:
    return Points(*np.array(rows, np.float32).T)


def test_distances_are_zero_on_the_surface_and_positive_inside() -> None:
    p = points((9, 0, 0), (10, 0, 0), (12, 0, 0), (0, 20, 0))
    assert ellipsoid(p, (0, 0, 0), (10, 20, 30)) == pytest.approx([1, 0, -2, 0], abs=0.25)
    assert blob(p, (0, 0, 0), (10, 20, 30)) == pytest.approx([1, 0, -2, 0], abs=1e-5)


def test_a_capsule_tapers_from_its_first_radius_to_its_second() -> None:
    p = points((0, 0, 0), (0, 0, 5), (0, 0, 10), (3, 0, 10), (0, 0, 14))
    distance = capsule(p, (0, 0, 0), (0, 0, 10), (4, 2))
    assert distance == pytest.approx([4, 3, 2, -1, -2], abs=1e-5)


def test_a_soft_mask_is_a_ramp_one_millimetre_wide() -> None:
    distance = np.array([-1, -0.5, 0, 0.25, 0.5, 1], np.float32)
    assert soft_mask(distance) == pytest.approx([0, 0, 0.5, 0.75, 1, 1])


def test_a_smooth_step_rises_from_0_to_1() -> None:
    value = smooth_step(np.array([-20, 0, 20], np.float32))
    assert value == pytest.approx([0, 0.5, 1], abs=1e-6)


def test_blending_moves_an_image_towards_a_value() -> None:
    image = np.array([0, 0, 10], np.float32)
    blend(image, np.array([0, 0.5, 1], np.float32), 40)
    assert image.tolist() == [0, 20, 40]


def test_mirrored_points_are_all_on_the_left() -> None:
    mirrored = points((-3, 1, 2), (4, 5, 6)).mirrored_to_left()
    assert np.array(mirrored).T.tolist() == [[3, 1, 2], [4, 5, 6]]


def test_noise_is_normalised_periodic_and_the_same_on_its_grid() -> None:
    noise = draw_noise(stream(0, "noise"), 3.0)
    assert noise.grid.mean() == pytest.approx(0, abs=0.1)
    assert noise.grid.std() == pytest.approx(1, abs=1e-3)
    on_grid = points((0, 2, 4), (-160, 2, 4), (10, -8, 158))
    assert noise.interpolate(on_grid) == pytest.approx(noise.sample(on_grid), abs=1e-5)
    assert noise.sample(on_grid)[0] == noise.sample(on_grid)[1]
