"""The in-plane resampling: no grid, no stretch, air outside."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ich3d.config.schema import PrepareConfig
from ich3d.prepare.head import AIR_HU, ReorientedVolume, _resample, _weights, crop_head

SPACING = st.floats(0.2, 2.0)
PIXEL = st.floats(0.2, 5.0)


@given(SPACING, PIXEL)
def test_a_constant_image_stays_constant_inside_the_field_of_view(
    spacing: float, pixel: float
) -> None:
    n = 64
    size = max(1, int((n * spacing - 2 * max(spacing, pixel)) / pixel))
    start = max(spacing, pixel)
    weights = _weights(n, spacing, size, pixel, start)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)


@given(st.floats(0.5, 2.0), st.floats(0.2, 1.0))
def test_finer_pixels_interpolate_linearly(spacing: float, share: float) -> None:
    n, pixel = 20, spacing * share
    size = int((n - 2) * spacing / pixel)
    weights = _weights(n, spacing, size, pixel, spacing)
    centers = spacing + (np.arange(size) + 0.5) * pixel
    ramp = (np.arange(n) + 0.5) * spacing
    np.testing.assert_allclose(weights @ ramp, centers, rtol=1e-4)


def test_what_lies_outside_the_image_is_air() -> None:
    hu = np.full((1, 10, 10), 40, dtype=np.int16)
    weights = _weights(10, 1.0, 4, 1.0, -2.0)
    assert _resample(hu, weights, weights)[0].tolist() == [
        [AIR_HU] * 4,
        [AIR_HU] * 4,
        [AIR_HU, AIR_HU, 40, 40],
        [AIR_HU, AIR_HU, 40, 40],
    ]


def test_a_head_keeps_its_hu_and_its_size_in_millimetres() -> None:
    y, x = np.mgrid[:300, :300] * 0.7
    inside = np.hypot(y - 100, x - 120) < 70
    hu = np.where(inside, 35, -1000).astype(np.int16)[None].repeat(3, axis=0)
    volume = ReorientedVolume(hu, np.arange(3) * 5.0, (), (0.7, 0.7))
    cropped = crop_head(volume, PrepareConfig(pixel_mm=1.3, matrix=160))
    assert cropped is not None
    assert np.isclose((cropped[1] > -300).sum() * 1.3**2, inside.sum() * 0.7**2, rtol=0.02)
    assert cropped[1, 70:90, 70:90].tolist() == np.full((20, 20), 35).tolist()
