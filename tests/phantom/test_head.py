"""The head around the brain: its frame, and its bone and air."""

import numpy as np
import pytest

from ich3d.core.hounsfield import OPEN_AIR_HU
from ich3d.core.seeds import stream
from ich3d.phantom.fields import Points
from ich3d.phantom.head import (
    CAVITY_MM,
    Head,
    base_height,
    draw_head,
    paint_outside,
    scalp_distance,
    surfaces_at,
)
from tests.helpers.phantom import head_and_brain

SEEDS = range(4)


def outside_hu(head: Head, *rows: tuple[float, float, float]) -> np.ndarray:
    """HU at head coordinates outside the cavity."""
    p = Points(*np.array(rows, np.float32).T)
    return paint_outside(head, p, surfaces_at(p, scalp_distance(p)))


@pytest.mark.parametrize("seed", SEEDS)
def test_head_coordinates_undo_scale_rotation_and_shift(seed: int) -> None:
    head, _ = head_and_brain(seed)
    wanted = np.array([[0, 0, 0], [10, -20, 30], [-40, 5, -6]], float)
    patient_mm = (wanted * head.scale) @ head.rotation.T + head.centre_mm
    x, y, z = patient_mm.T.astype(np.float32)
    assert pytest.approx(wanted, abs=1e-3) == np.array(head.to_head(x, y, z)).T
    assert head.volume_scale == pytest.approx(np.prod(head.scale))


def test_two_seeds_give_two_heads_and_one_seed_one() -> None:
    first, again, other = (draw_head(stream(seed, "head")) for seed in (0, 0, 1))
    assert first.hu == again.hu
    assert np.array_equal(first.folds.grid, again.folds.grid)
    assert first.hu != other.hu


@pytest.mark.parametrize("seed", SEEDS)
def test_there_is_bone_around_the_cavity_and_air_around_the_head(seed: int) -> None:
    head, _ = head_and_brain(seed)
    vertex = CAVITY_MM[2]
    bone, air = outside_hu(head, (0, 0, vertex + 1), (0, 0, vertex + 60))
    assert bone > 300
    assert air == pytest.approx(OPEN_AIR_HU)


def test_the_skull_base_descends_from_front_to_back() -> None:
    beside_midline = [(35, y, 0) for y in (-60, -20, 50)]
    anterior, middle, posterior = base_height(Points(*np.array(beside_midline, np.float32).T))
    assert anterior > middle > posterior
