"""What lies inside the skull: of drawn heads, whose areas are known, and of phantoms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ich3d.prepare.intracranial import intracranial_mask, smoothed
from tests.helpers.drawn_head import AIR_HU, BONE_HU, SCALP_HU, drawn_slice, plane, with_noise
from tests.helpers.slow_intracranial import slow_mask, slow_smoothed

PIXEL_MM = 1.2
WHERE = plane(pixel_mm=PIXEL_MM)


def inside_cm2(hu: np.ndarray, pixel_mm: float = PIXEL_MM) -> float:
    """The area inside the skull of one noisy slice."""
    mask = intracranial_mask(with_noise(hu), pixel_mm)
    return float(mask.sum() * pixel_mm**2 / 100)


def disc_cm2(radius_mm: float) -> float:
    return float(np.pi * radius_mm**2 / 100)


@pytest.mark.parametrize(("matrix", "pixel_mm"), [(96, 2.3), (192, 1.2), (256, 0.9)])
@pytest.mark.parametrize("brain_mm", [25.0, 45.0, 70.0])
def test_the_inside_of_a_drawn_skull_is_found(
    matrix: int, pixel_mm: float, brain_mm: float
) -> None:
    """Near the vertex, of a child, of an adult. Pixels beside bone are left out."""
    hu = drawn_slice(plane(matrix, pixel_mm), brain_mm)
    found = inside_cm2(hu, pixel_mm)
    assert disc_cm2(brain_mm - 2 * pixel_mm) <= found <= disc_cm2(brain_mm + 0.5 * pixel_mm)


def test_a_skull_with_a_third_removed_still_counts() -> None:
    hu = drawn_slice(WHERE)
    angle = np.arctan2(WHERE.y_mm, WHERE.x_mm)
    hu[(np.abs(angle) < np.pi / 3) & (hu == BONE_HU)] = SCALP_HU
    assert inside_cm2(hu) > 0.5 * disc_cm2(65)


def test_blood_that_fills_half_the_skull_still_counts() -> None:
    hu = drawn_slice(WHERE)
    hu[WHERE.disc(65) & (WHERE.x_mm > 0)] = 85
    assert inside_cm2(hu) > 0.9 * disc_cm2(65)


def test_a_child_with_a_thin_skull_counts() -> None:
    hu = drawn_slice(WHERE, brain_mm=50, skull_mm=2.4, bone_hu=350)
    assert inside_cm2(hu) > 0.9 * disc_cm2(50)


def test_slices_without_brain_have_no_inside() -> None:
    """Air; a table; the scalp above the vertex; the bone of the vertex."""
    air = np.full(WHERE.y_mm.shape, AIR_HU, dtype=np.int16)
    table = np.where(np.abs(WHERE.y_mm - 80) < 8, 200, air).astype(np.int16)
    scalp = np.where(WHERE.disc(40), SCALP_HU, air).astype(np.int16)
    vertex = np.where(WHERE.disc(25), BONE_HU, scalp).astype(np.int16)
    for hu in (air, table, scalp, vertex):
        assert inside_cm2(hu) == 0.0


def test_hands_and_a_table_beside_the_head_do_not_count() -> None:
    alone = drawn_slice(WHERE)
    beside = alone.copy()
    for y_mm in (-60.0, -20.0, 20.0):
        finger = WHERE.disc(9, y_mm, 100)
        beside[finger] = 40
        beside[WHERE.disc(4, y_mm, 100)] = BONE_HU
    beside[np.abs(WHERE.y_mm - 105) < 4] = 300
    assert inside_cm2(beside) == pytest.approx(inside_cm2(alone), rel=0.02)


@given(st.integers(0, 100))
def test_mirror_images_have_mirrored_insides(seed: int) -> None:
    """In an even matrix, of which every second pixel is looked at for the body: off by one row."""
    where = plane(96, 2.4)
    hu = with_noise(drawn_slice(where), seed=seed)
    mask, mirrored = intracranial_mask(hu, 2.4), intracranial_mask(hu[:, ::-1], 2.4)
    assert (mask != mirrored[:, ::-1]).mean() < 1e-3


@settings(max_examples=20)
@given(
    st.sampled_from([(64, 3.6), (97, 2.3), (160, 1.2), (190, 0.7)]),
    st.floats(15, 75),
    st.floats(0, 12),
    st.floats(-60, 60),
    st.integers(0, 100),
)
def test_the_fast_way_finds_the_same_pixels(
    grid: tuple[int, float], brain_mm: float, skull_mm: float, gap_mm: float, seed: int
) -> None:
    """With skulls of any thickness, a gap on one side, and a hand beside the head."""
    matrix, pixel_mm = grid
    where = plane(matrix, pixel_mm)
    hu = drawn_slice(where, brain_mm, skull_mm)
    hu[(where.x_mm > 0) & (np.abs(where.y_mm - gap_mm) < 15) & (hu == BONE_HU)] = SCALP_HU
    hu[where.disc(12, x_mm=95)] = SCALP_HU
    hu = with_noise(hu, sd_hu=seed, seed=seed)
    np.testing.assert_array_equal(intracranial_mask(hu, pixel_mm), slow_mask(hu, pixel_mm))
    assert smoothed(hu, pixel_mm).tobytes() == slow_smoothed(hu, pixel_mm).tobytes()
