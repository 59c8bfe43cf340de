"""A look-alike is blood's image in one slice, and its neighbours give it away."""

import numpy as np
import pytest

from ich3d.config.schema import PhantomConfig
from ich3d.core.seeds import stream
from ich3d.phantom.bleeds import lattice
from ich3d.phantom.head import Head, draw_head
from ich3d.phantom.lookalikes import Calcification, Kind, Lookalike, PartialVolume, draw_lookalikes
from ich3d.phantom.scanner import Exposure, Geometry, draw_geometry, draw_optics, expose
from ich3d.phantom.tissues import BLEEDS, THROMBUS

CONFIG = PhantomConfig(matrix=96)


def scene(seed: int) -> tuple[Head, Geometry, tuple[Lookalike, ...]]:
    rng = stream(seed, "test lookalikes")
    head = draw_head(rng)
    geometry = draw_geometry(CONFIG, head, rng)
    return head, geometry, draw_lookalikes(head, lattice(head), geometry.slabs(head), 1.0, rng)


def exposed(seed: int) -> tuple[tuple[Lookalike, ...], Exposure, Exposure]:
    """The look-alikes of a head, its exposure with them, and without."""
    head, geometry, lookalikes = scene(seed)
    optics = draw_optics(CONFIG, stream(seed, "test optics"))
    return (
        lookalikes,
        expose(head, lookalikes, geometry, optics),
        expose(head, (), geometry, optics),
    )


@pytest.mark.parametrize("seed", range(3))
def test_extent_along_z_is_the_kinds_own(seed: int) -> None:
    lookalikes, exposure, _ = exposed(seed)
    for lookalike, area in zip(lookalikes, exposure.area_mm2, strict=True):
        shown = np.flatnonzero(area > 0)
        if lookalike.name in (Kind.CALCIFICATION, Kind.PARTIAL_VOLUME):
            assert len(shown) <= 1
        elif lookalike.name is Kind.STREAK:
            assert len(shown) <= 2
        else:
            assert len(shown) >= 3
    assert sum(area.max() >= 10 for area in exposure.area_mm2) >= len(lookalikes) - 2


@pytest.mark.parametrize("seed", range(3))
def test_a_calcification_changes_one_slice_and_leaves_its_neighbours_alone(seed: int) -> None:
    head, geometry, lookalikes = scene(seed)
    optics = draw_optics(CONFIG, stream(seed, "test optics"))
    one = next(found for found in lookalikes if isinstance(found, Calcification))
    changed = expose(head, (one,), geometry, optics).hu - expose(head, (), geometry, optics).hu
    slices = np.flatnonzero(np.abs(changed).max(axis=(1, 2)) > 1)
    assert len(slices) == 1
    assert changed[slices[0]].max() > 10


@pytest.mark.parametrize("seed", range(3))
def test_bone_stands_under_a_partial_volume(seed: int) -> None:
    head, geometry, lookalikes = scene(seed)
    optics = draw_optics(CONFIG, stream(seed, "test optics"))
    one = next(found for found in lookalikes if isinstance(found, PartialVolume))
    exposure = expose(head, (one,), geometry, optics)
    shown = int(np.argmax(exposure.area_mm2[0]))
    middle = next(
        i for i, slab in enumerate(geometry.slabs(head)) if slab.offset_mm == one.slab.offset_mm
    )
    assert shown == middle
    added = exposure.hu - expose(head, (), geometry, optics).hu
    bump = added[middle] > 10
    assert bump.any()
    assert exposure.hu[middle - 1][bump].max() > 200
    assert np.median(exposure.hu[middle][bump]) < 90 + optics.rim_hu + optics.offset_hu
    assert np.abs(added[middle + 1 :]).max() == 0


@pytest.mark.parametrize("seed", range(6))
def test_hu_are_those_of_blood(seed: int) -> None:
    _, _, lookalikes = scene(seed)
    assert {found.name for found in lookalikes} == set(Kind)
    for found in lookalikes:
        if isinstance(found, Calcification):
            blood = BLEEDS[found.like.subtype]
            assert blood.low <= found.like.hu <= blood.high
        elif isinstance(found, PartialVolume):
            assert 50 <= found.hu <= 90
    assert 50 <= THROMBUS.low < THROMBUS.high <= 90


def test_no_chance_no_lookalike() -> None:
    rng = stream(0, "none")
    head = draw_head(rng)
    geometry = draw_geometry(CONFIG, head, rng)
    assert draw_lookalikes(head, lattice(head), geometry.slabs(head), 0.0, rng) == ()
