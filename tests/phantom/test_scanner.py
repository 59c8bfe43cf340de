"""Where slices lie, and how the scanner images the head."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ich3d.config.schema import PhantomConfig
from ich3d.core.seeds import stream
from ich3d.phantom.head import Head, draw_head
from ich3d.phantom.scanner import Geometry, Scanner, acquire, add_noise, draw_geometry, draw_scanner

HEAD = draw_head(stream(5, "test scanner"))


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from([1.0, 2.5, 5.0]), st.floats(0, 25))
def test_a_tilted_stack_is_sheared_and_evenly_spaced(
    seed: int, thickness: float, tilt: float
) -> None:
    config = PhantomConfig(thickness_mm=(thickness,), max_tilt_deg=tilt, matrix=64)
    geometry = draw_geometry(config, HEAD, stream(seed, "geometry"))
    assert np.ptp(geometry.position_mm[:, :2], axis=0) == pytest.approx([0, 0])
    along = geometry.position_mm @ geometry.normal
    assert np.diff(along) == pytest.approx(thickness, abs=1e-3)
    steps = np.diff(geometry.position_mm[:, 2])
    assert steps == pytest.approx(thickness / np.cos(np.radians(geometry.tilt_deg)), abs=1e-3)
    assert abs(geometry.tilt_deg) <= tilt
    row, col = np.array(geometry.row_dir), np.array(geometry.col_dir)
    assert row @ col == 0
    assert np.linalg.norm(col) == pytest.approx(1)
    assert geometry.normal[2] > 0
    assert 200 <= geometry.pixel_mm * 64 <= 260


def with_calcified_pineal(head: Head) -> Head:
    return replace(head, calcified_mm=(4.5, 0.0, 0.0), hu={**head.hu, "calcium": 600.0})


@pytest.mark.parametrize("tilt", [-15.0, 0.0, 15.0])
def test_anatomy_appears_where_the_header_says(tilt: float) -> None:
    """The calcified pineal gland lies at the patient coordinates that its pixel has."""
    head = with_calcified_pineal(HEAD)
    flat = draw_geometry(PhantomConfig(matrix=96, max_tilt_deg=0), head, stream(1, "geometry"))

    tilt_rad = np.radians(tilt)
    corner = flat.pixel_mm * (flat.matrix - 1) / 2
    shift = np.array([0, corner * (1 - np.cos(tilt_rad)), -corner * np.sin(tilt_rad)])
    position = np.repeat(flat.position_mm[:1], len(flat.position_mm), axis=0) + shift
    position[:, 2] += np.arange(len(position)) * flat.thickness_mm / np.cos(tilt_rad)
    geometry = Geometry(position, tilt, flat.thickness_mm, flat.pixel_mm, flat.matrix)
    scanner = Scanner(noise_hu=3, blur_mm=0.6, offset_hu=0, rim_hu=3, headrest_mm=105)

    without = replace(head, calcified_mm=(0.0, 0.0, 0.0))
    added = acquire(head, (), geometry, scanner).hu - acquire(without, (), geometry, scanner).hu
    z, row, column = np.unravel_index(int(added.argmax()), added.shape)
    brightest_mm = (
        geometry.position_mm[z]
        + column * geometry.pixel_mm * np.array(geometry.row_dir)
        + row * geometry.pixel_mm * np.array(geometry.col_dir)
    )
    pineal_mm = head.rotation @ (head.scale * (0, 27, 2)) + head.centre_mm
    assert brightest_mm == pytest.approx(pineal_mm, abs=5)


def test_the_image_is_a_head_in_air() -> None:
    geometry = draw_geometry(PhantomConfig(matrix=96), HEAD, stream(2, "geometry"))
    scanner = draw_scanner(PhantomConfig(), stream(2, "optics"))
    hu = acquire(HEAD, (), geometry, scanner).hu
    middle = hu[len(hu) // 2]
    assert middle[0].max() == -1000
    assert middle.max() > 400
    head_mm2 = (middle > -300).sum() * geometry.pixel_mm**2
    assert 15_000 < head_mm2 < 32_000
    assert (hu[-1] > -300).sum() < (middle > -300).sum() / 3


def acquired(config: PhantomConfig) -> np.ndarray:
    """The stack (Z, Y, X) of one head by a scanner of `config`, without noise."""
    geometry = draw_geometry(config, HEAD, stream(2, "geometry"))
    return acquire(HEAD, (), geometry, draw_scanner(config, stream(2, "optics"))).hu


def test_a_table_lies_under_the_head_and_changes_nothing_else() -> None:
    config = PhantomConfig(matrix=128, fov_mm=(310, 310), thickness_mm=(10,), max_tilt_deg=0)
    without, with_table = acquired(config), acquired(replace(config, table=True))
    slices, rows, columns = np.nonzero(np.abs(with_table - without) > 100)
    assert set(slices.tolist()) == set(range(len(without)))
    assert rows.min() > 0.75 * config.matrix
    assert np.ptp(columns) > 0.7 * config.matrix
    assert (with_table[-1] > -300).any(axis=0).mean() > 0.5


def test_a_margin_adds_slices_of_air_beyond_the_vertex() -> None:
    config = PhantomConfig(matrix=64, thickness_mm=(5,), max_tilt_deg=0)
    without, with_margin = acquired(config), acquired(replace(config, margin_mm=30.0))
    assert 5 <= len(with_margin) - len(without) <= 8
    np.testing.assert_allclose(with_margin[: len(without)], without, atol=1e-3)
    head_of_air = with_margin[len(without) + 2 :, 10:40, 20:44]
    assert head_of_air.max() < -900


def test_a_sharper_kernel_has_steeper_edges() -> None:
    config = PhantomConfig(matrix=256, thickness_mm=(20,), max_tilt_deg=0)
    soft, sharp = (acquired(replace(config, blur_mm=(blur_mm, blur_mm))) for blur_mm in (0.85, 0.3))
    assert np.abs(np.diff(sharp, axis=2)).max() > 1.2 * np.abs(np.diff(soft, axis=2)).max()


@pytest.mark.parametrize("thickness", [1.25, 5.0])
def test_noise_grows_with_one_over_the_root_of_thickness(thickness: float) -> None:
    flat = np.full((6, 64, 64), 30, np.float32)
    geometry = Geometry(np.zeros((6, 3)), 0.0, thickness, 2.43, 64)
    scanner = Scanner(noise_hu=4, blur_mm=0.6, offset_hu=0, rim_hu=3, headrest_mm=105)
    noise = add_noise(flat, geometry, scanner, stream(0, "noise")) - flat
    # 64 x 64 pixels of 2.43 mm at 30 HU hold about the reference path of water.
    assert noise.std() == pytest.approx(4 * np.sqrt(5 / thickness), rel=0.15)
    neighbours = np.corrcoef(noise[:, :, :-1].ravel(), noise[:, :, 1:].ravel())[0, 1]
    assert 0.2 < neighbours < 0.8
