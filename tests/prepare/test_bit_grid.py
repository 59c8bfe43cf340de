"""Binary images as integers: what scipy says, to the pixel."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from ich3d.prepare.bit_grid import BitGrid, at_least
from tests.helpers.slow_intracranial import disk, slow_directions

sizes = st.integers(1, 40)
shares = st.sampled_from([0.02, 0.3, 0.7, 0.97])
radii = st.floats(0.5, 7.0)
seeds = st.integers(0, 10_000)


def random_image(height: int, width: int, share: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((height, width)) < share


@given(sizes, sizes, shares, seeds, st.integers(0, 9))
def test_an_image_comes_back(height: int, width: int, share: float, seed: int, margin: int) -> None:
    image = random_image(height, width, share, seed)
    grid = BitGrid(height, width, margin)
    np.testing.assert_array_equal(grid.unpack(grid.pack(image)), image)


@given(sizes, sizes, shares, seeds, radii)
def test_morphology_with_a_disk_is_that_of_scipy(
    height: int, width: int, share: float, seed: int, radius_px: float
) -> None:
    image = random_image(height, width, share, seed)
    grid = BitGrid(height, width, margin=int(radius_px))
    packed, element = grid.pack(image), disk(radius_px)
    np.testing.assert_array_equal(
        grid.unpack(grid.dilated(packed, radius_px)), ndimage.binary_dilation(image, element)
    )
    np.testing.assert_array_equal(
        grid.unpack(grid.eroded(packed, radius_px)), ndimage.binary_erosion(image, element)
    )
    np.testing.assert_array_equal(
        grid.unpack(grid.opened(packed, radius_px)), ndimage.binary_opening(image, element)
    )


@given(sizes, sizes, st.sampled_from([0.02, 0.1, 0.5]), seeds, st.integers(0, 3))
def test_an_image_is_seen_from_as_many_directions_as_a_walk_finds(
    height: int, width: int, share: float, seed: int, margin: int
) -> None:
    image = random_image(height, width, share, seed)
    grid = BitGrid(height, width, margin)
    shadows = [grid.unpack(shadow) for shadow in grid.shadows(grid.pack(image))]
    np.testing.assert_array_equal(np.sum(shadows, axis=0), slow_directions(image))


@pytest.mark.parametrize("count", range(1, 9))
def test_pixels_in_at_least_so_many_images(count: int) -> None:
    images = [random_image(9, 13, 0.5, seed) for seed in range(8)]
    grid = BitGrid(9, 13, margin=2)
    found = at_least(count, [grid.pack(image) for image in images], grid)
    np.testing.assert_array_equal(grid.unpack(found), np.sum(images, axis=0) >= count)
