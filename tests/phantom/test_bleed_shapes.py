"""Each subtype bleeds at its own site and in its own shape: laws on the noise-free head."""

import numpy as np
import pytest

from ich3d.core.seeds import stream
from ich3d.phantom.bleed_shapes import epidural_shape, subdural_shape
from ich3d.phantom.bleeds import Bleed, grow
from ich3d.phantom.brain import Brain, brain_at
from ich3d.phantom.fields import Points
from ich3d.phantom.head import Head, scalp_distance, surfaces_at
from tests.helpers.phantom import head_and_brain, random_bleed

SEEDS = range(4)


def depth_at(p: Points) -> np.ndarray:
    return surfaces_at(p, scalp_distance(p)).cavity


def convex_fraction(head: Head, brain: Brain, bleed: Bleed) -> float:
    """Fraction of the midpoints between two points of blood that are blood (or bone) themselves."""
    blood = np.flatnonzero(bleed.fraction(brain) > 0.5)
    pairs = stream(0, "pairs").choice(blood, (2, 400))
    middle = Points(*((c[pairs[0]] + c[pairs[1]]) / 2 for c in brain.points))
    depth = depth_at(middle)
    inside = depth > 0
    fraction = bleed.fraction(brain_at(head, middle.where(inside), depth[inside]))
    return float(np.mean(fraction > 0.4))


def extra_axial_bleed(head: Head, brain: Brain, subtype: str, volume_ml: float) -> Bleed:
    """An epidural or subdural bleed at one fixed site."""
    site = (56.0, 5.0, 25.0)
    shape = epidural_shape(site, 0.016) if subtype == "epidural" else subdural_shape(site, 65)
    size_mm, grown_ml = grow(head, brain, shape, volume_ml)
    return Bleed(subtype, shape, size_mm, grown_ml, 65.0, 0.0, 18.0)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_epidural_is_a_lens_and_a_subdural_of_equal_volume_a_crescent(seed: int) -> None:
    head, brain = head_and_brain(seed)
    lens, crescent = (extra_axial_bleed(head, brain, name, 25) for name in ("epidural", "subdural"))
    assert convex_fraction(head, brain, lens) > 0.95
    assert convex_fraction(head, brain, crescent) < 0.9
    assert crescent.size_mm < lens.size_mm


@pytest.mark.parametrize("subtype", ["epidural", "subdural"])
@pytest.mark.parametrize("seed", SEEDS)
def test_an_extra_axial_bleed_touches_skull_or_falx_on_one_side_above_the_tentorium(
    subtype: str, seed: int
) -> None:
    _, brain, bleed = random_bleed(subtype, seed)
    x = brain.points.x
    blood = bleed.fraction(brain) > 0.5
    from_dura = np.minimum(brain.depth_mm, np.abs(x))[blood]
    assert from_dura.min() < 2.5
    assert len(np.unique(np.sign(x[blood & (np.abs(x) > 1)]))) == 1
    assert brain.above_tentorium_mm[blood].min() > -1
    if subtype == "subdural":
        assert from_dura.max() < 25


@pytest.mark.parametrize("seed", SEEDS)
def test_an_intraparenchymal_bleed_lies_below_the_brain_surface_and_outside_the_ventricles(
    seed: int,
) -> None:
    _, brain, bleed = random_bleed("intraparenchymal", seed)
    blood = bleed.fraction(brain) > 0.5
    assert blood.any()
    assert brain.depth_mm[blood].min() > brain.csf_gap_mm
    assert brain.ventricle[blood].max() <= 0.5


@pytest.mark.parametrize("seed", SEEDS)
def test_an_intraventricular_bleed_layers_at_the_back_of_the_ventricles(seed: int) -> None:
    _, brain, bleed = random_bleed("intraventricular", seed)
    fraction = bleed.fraction(brain)
    assert np.all(fraction <= brain.ventricle + 1e-6)
    free = (brain.ventricle > 0.5) & (fraction < 0.1)
    assert brain.points.y[fraction > 0.5].mean() > brain.points.y[free].mean() + 10


@pytest.mark.parametrize("seed", SEEDS)
def test_a_subarachnoid_bleed_fills_only_sulci_and_cisterns(seed: int) -> None:
    _, brain, bleed = random_bleed("subarachnoid", seed)
    fraction = bleed.fraction(brain)
    assert fraction.max() > 0.5
    assert np.all(fraction <= brain.csf + 1e-6)
    assert brain.depth_mm[fraction > 0.6].min() > brain.csf_gap_mm - 0.5
