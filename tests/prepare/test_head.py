"""The head is found, centred and put on the model's grid; HU and millimetres stay what they were."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ich3d.config.schema import PrepareConfig
from ich3d.core.types import SliceKey
from ich3d.prepare.head import AIR_HU, ReorientedVolume, brain_cm2, crop_head, head_center_mm

RADIUS_MM = 70.0


def disc_volume(
    pixel_mm: float = 1.5,
    shift_mm: tuple[float, float] = (0.0, 0.0),
    hu: int = 40,
    radius_mm: float = RADIUS_MM,
    n: int = 3,
    field_mm: float = 250.0,
) -> ReorientedVolume:
    """Uniform discs of `hu` in air, `shift_mm` (rows, columns) from the middle of the field of view."""
    size = round(field_mm / pixel_mm)
    side = (np.arange(size) + 0.5) * pixel_mm - size * pixel_mm / 2
    inside = np.hypot(side[:, None] - shift_mm[0], side[None] - shift_mm[1]) < radius_mm
    image = np.where(inside, hu, -1000).astype(np.int16)
    keys = tuple(SliceKey(str(i), None, str(i)) for i in range(n))
    return ReorientedVolume(np.stack([image] * n), 5.0 * np.arange(n), keys, (pixel_mm, pixel_mm))


@settings(max_examples=20, deadline=None)
@given(
    source_mm=st.sampled_from([0.45, 0.8, 1.2, 2.0]),
    pixel_mm=st.sampled_from([1.0, 1.2, 2.2, 3.0]),
    hu=st.integers(-100, 1500),
)
def test_crop_keeps_hu_and_millimetres(source_mm: float, pixel_mm: float, hu: int) -> None:
    matrix = round(200 / pixel_mm)
    cropped = crop_head(
        disc_volume(source_mm, hu=hu, n=1), PrepareConfig(pixel_mm=pixel_mm, matrix=matrix)
    )
    assert cropped is not None
    assert cropped.shape == (1, matrix, matrix)
    assert cropped.dtype == np.int16
    side = (np.arange(matrix) + 0.5 - matrix / 2) * pixel_mm
    radius = np.hypot(side[:, None], side[None])
    margin = pixel_mm + source_mm + 2.0  # the head is looked for on a 2 mm grid
    assert np.all(np.abs(cropped[0][radius < RADIUS_MM - margin] - hu) <= 1)
    assert np.all(np.abs(cropped[0][radius > RADIUS_MM + margin] + 1000) <= 1)
    area_mm2 = (cropped[0] > (hu - 1000) / 2).sum() * pixel_mm**2
    assert area_mm2 == pytest.approx(np.pi * RADIUS_MM**2, rel=0.03)


@settings(max_examples=20, deadline=None)
@given(down=st.floats(-35, 35), right=st.floats(-35, 35))
def test_the_centre_follows_the_head(down: float, right: float) -> None:
    found = head_center_mm(disc_volume(shift_mm=(down, right)))
    assert found is not None
    middle = round(250 / 1.5) * 1.5 / 2
    np.testing.assert_allclose(found, (middle + down, middle + right), atol=2.0)


def test_the_table_moves_the_centre_by_nothing() -> None:
    plain = disc_volume()
    hu = plain.hu.copy()
    hu[:, 140:143, 10:160] = 200  # a plate of 4.5 mm, wider than the head, below it
    with_table = ReorientedVolume(hu, plain.z_mm, plain.keys, plain.spacing_mm)
    assert head_center_mm(with_table) == head_center_mm(plain)


def test_a_small_neck_section_moves_the_centre_by_nothing() -> None:
    """The centre comes from the larger sections: shoulders and chin of a low slice do not drag it away."""
    plain = disc_volume(n=5)
    hu = plain.hu.copy()
    hu[0] = disc_volume(shift_mm=(30.0, 0.0), radius_mm=40.0, n=1).hu[0]
    with_neck = ReorientedVolume(hu, plain.z_mm, plain.keys, plain.spacing_mm)
    assert head_center_mm(with_neck) == head_center_mm(plain)


@pytest.mark.parametrize(
    "volume",
    [disc_volume(hu=-1000), disc_volume(radius_mm=20.0), disc_volume(hu=-700)],
    ids=["air", "a finger", "foam"],
)
def test_no_head_is_none(volume: ReorientedVolume) -> None:
    assert crop_head(volume, PrepareConfig()) is None


def test_a_newborns_head_is_a_head() -> None:
    assert crop_head(disc_volume(radius_mm=45.0), PrepareConfig()) is not None


def test_outside_the_image_is_air() -> None:
    """The grid reaches beyond a small field of view; what lies there is air and nothing else."""
    cropped = crop_head(disc_volume(field_mm=150.0, n=1), PrepareConfig(pixel_mm=2.0, matrix=128))
    assert cropped is not None
    outside = np.abs((np.arange(128) + 0.5 - 64) * 2.0) > 75.0 + 4.0
    assert np.all(cropped[0][outside] == AIR_HU)
    assert np.all(cropped[0][:, outside] == AIR_HU)


def test_brain_area_counts_voxels_of_brain() -> None:
    volume = disc_volume(pixel_mm=1.0)
    assert brain_cm2(volume) == pytest.approx([np.pi * (RADIUS_MM / 10) ** 2] * 3, rel=0.01)
    assert brain_cm2(disc_volume(hu=900)) == pytest.approx([0.0] * 3)


def test_each_slice_is_resampled_alone() -> None:
    """A slice's pixels depend on no other slice, once the centre is known."""
    plain = disc_volume(n=3)
    hu = plain.hu.copy()
    hu[2] += np.where(hu[2] > 0, 20, 0).astype(np.int16)
    changed = ReorientedVolume(hu, plain.z_mm, plain.keys, plain.spacing_mm)
    one, two = crop_head(plain, PrepareConfig()), crop_head(changed, PrepareConfig())
    assert one is not None
    assert two is not None
    np.testing.assert_array_equal(one[:2], two[:2])
    assert not np.array_equal(one[2], two[2])
