"""Each subtype bleeds at its own site and shape: laws on the noiseless head."""

from dataclasses import replace

import numpy as np
import pytest

from ich3d.core.labels import SUBTYPES
from ich3d.core.seeds import stream
from ich3d.phantom.bleeds import Bleed, draw_bleed, epidural_shape, grow, lattice, subdural_shape
from ich3d.phantom.brain import Brain, brain_at
from ich3d.phantom.fields import Points
from ich3d.phantom.head import Head, draw_head, scalp_distance, shell
from ich3d.phantom.tissues import BLEEDS, TISSUES, VOLUMES_ML

SEEDS = range(4)


def head_and_lattice(seed: int) -> tuple[Head, Brain]:
    head = draw_head(stream(seed, "test head"))
    return head, lattice(head)


def drawn(subtype: str, seed: int) -> tuple[Head, Brain, Bleed]:
    head, coarse = head_and_lattice(seed)
    return head, coarse, draw_bleed(head, coarse, subtype, stream(seed, "test bleed", subtype))


def depth_at(p: Points) -> np.ndarray:
    return shell(p, scalp_distance(p)).cavity


def convex_share(head: Head, coarse: Brain, bleed: Bleed) -> float:
    """Share of the midpoints between two points of blood that are blood (or bone) themselves."""
    blood = np.flatnonzero(bleed.share(coarse) > 0.5)
    pairs = stream(0, "pairs").choice(blood, (2, 400))
    middle = Points(*((c[pairs[0]] + c[pairs[1]]) / 2 for c in coarse.p))
    depth = depth_at(middle)
    inside = depth > 0
    share = bleed.share(brain_at(head, middle.where(inside), depth[inside]))
    return float(np.mean(share > 0.4))


def extra_axial(head: Head, coarse: Brain, subtype: str, volume_ml: float) -> Bleed:
    site = (56.0, 5.0, 25.0)
    shape = epidural_shape(site, 0.016) if subtype == "epidural" else subdural_shape(site, 65)
    size, volume = grow(head, coarse, shape, volume_ml)
    return Bleed(subtype, shape, size, volume, 65.0, 0.0, 18.0)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_epidural_is_a_lens_and_a_subdural_of_its_volume_a_crescent(seed: int) -> None:
    head, coarse = head_and_lattice(seed)
    lens, crescent = (extra_axial(head, coarse, name, 25) for name in ("epidural", "subdural"))
    assert convex_share(head, coarse, lens) > 0.95
    assert convex_share(head, coarse, crescent) < 0.9
    assert crescent.size_mm < lens.size_mm


@pytest.mark.parametrize("subtype", ["epidural", "subdural"])
@pytest.mark.parametrize("seed", SEEDS)
def test_an_extra_axial_bleed_touches_skull_or_falx_on_one_side_over_the_tentorium(
    subtype: str, seed: int
) -> None:
    _, coarse, bleed = drawn(subtype, seed)
    blood = bleed.share(coarse) > 0.5
    dura = np.minimum(coarse.depth, np.abs(coarse.p.x))[blood]
    assert dura.min() < 2.5
    assert len(np.unique(np.sign(coarse.p.x[blood & (np.abs(coarse.p.x) > 1)]))) == 1
    assert coarse.above[blood].min() > -1
    if subtype == "subdural":
        assert dura.max() < 25


@pytest.mark.parametrize("seed", SEEDS)
def test_an_intraparenchymal_bleed_lies_under_the_brains_surface_and_outside_the_ventricles(
    seed: int,
) -> None:
    _, coarse, bleed = drawn("intraparenchymal", seed)
    blood = bleed.share(coarse) > 0.5
    assert blood.any()
    assert coarse.depth[blood].min() > coarse.gap_mm
    assert coarse.ventricle[blood].max() <= 0.5
    swollen = bleed.oedema(coarse) > 0.5
    assert np.all(swollen[blood])
    assert swollen.sum() > blood.sum()


@pytest.mark.parametrize("seed", SEEDS)
def test_an_intraventricular_bleed_layers_at_the_back_of_the_ventricles(seed: int) -> None:
    _, coarse, bleed = drawn("intraventricular", seed)
    share = bleed.share(coarse)
    assert np.all(share <= coarse.ventricle + 1e-6)
    free = (coarse.ventricle > 0.5) & (share < 0.1)
    assert coarse.p.y[share > 0.5].mean() > coarse.p.y[free].mean() + 10


@pytest.mark.parametrize("seed", SEEDS)
def test_a_subarachnoid_bleed_fills_only_sulci_and_cisterns(seed: int) -> None:
    _, coarse, bleed = drawn("subarachnoid", seed)
    share = bleed.share(coarse)
    assert share.max() > 0.5
    assert np.all(share <= coarse.csf + 1e-6)
    assert coarse.depth[share > 0.6].min() > coarse.gap_mm - 0.5


@pytest.mark.parametrize("subtype", SUBTYPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_hu_and_volume_lie_in_the_cited_ranges(subtype: str, seed: int) -> None:
    head, coarse, bleed = drawn(subtype, seed)
    measured_ml = float(bleed.share(coarse).sum()) * head.mm3 * 27 / 1000
    assert measured_ml == pytest.approx(bleed.volume_ml, rel=0.3, abs=0.5)
    ranges = [VOLUMES_ML[name] for name in ("deep", "lobar", subtype) if name in VOLUMES_ML]
    if subtype != "intraparenchymal":
        ranges = ranges[-1:]
    assert bleed.volume_ml <= max(r.high for r in ranges) * 1.1
    assert BLEEDS[subtype].low <= bleed.hu <= BLEEDS[subtype].high
    image = coarse.hu.copy()
    painted = bleed.paint(coarse, image)
    assert np.median(image[painted > 0.95]) == pytest.approx(bleed.hu, abs=3)


def test_every_range_rises_and_names_its_source() -> None:
    for hu in (*TISSUES.values(), *BLEEDS.values()):
        assert hu.low < hu.high
        assert hu.source
    for name, hu in BLEEDS.items():
        assert 50 <= hu.low < hu.high <= 90, name
    for volume in VOLUMES_ML.values():
        assert volume.low < volume.median < volume.high
        assert volume.source


@pytest.mark.parametrize("seed", SEEDS)
def test_tissue_measures_what_was_drawn_for_it(seed: int) -> None:
    head, coarse = head_and_lattice(seed)
    fluid = coarse.hu[coarse.ventricle == 1]
    deep_white = coarse.hu[
        (coarse.depth > 24) & (coarse.p.z > 28) & (coarse.parenchyma == 1) & (coarse.above > 5)
    ]
    assert np.median(fluid) == pytest.approx(head.hu["csf"], abs=0.5)
    assert np.median(deep_white) == pytest.approx(head.hu["white"], abs=1.5)


def test_more_atrophy_means_more_fluid() -> None:
    head = draw_head(stream(3, "test head"))
    fluid = [float(lattice(replace(head, atrophy=a)).csf.sum()) for a in (0.1, 0.5, 0.9)]
    assert fluid[0] < fluid[1] < fluid[2]
