"""A look-alike is an image of blood in one slice, and the neighbouring slices give it away."""

import numpy as np
import pytest

from ich3d.config.schema import PhantomConfig
from ich3d.core.seeds import stream
from ich3d.phantom.bleeds import coarse_brain
from ich3d.phantom.head import Head, draw_head
from ich3d.phantom.lookalikes import (
    Calcification,
    Lookalike,
    LookalikeKind,
    PartialVolume,
    draw_lookalikes,
)
from ich3d.phantom.scanner import (
    Geometry,
    Scanner,
    acquire,
    draw_geometry,
    draw_scanner,
)
from ich3d.phantom.tissues import BLEEDS, THROMBUS

CONFIG = PhantomConfig(matrix=96)


def scene(seed: int) -> tuple[Head, Geometry, tuple[Lookalike, ...]]:
    """A head, its slices, and look-alikes of all kinds."""
    rng = stream(seed, "test lookalikes")
    head = draw_head(rng)
    geometry = draw_geometry(CONFIG, head, rng)
    slabs = geometry.slabs(head)
    return head, geometry, draw_lookalikes(head, coarse_brain(head), slabs, 1.0, rng)


def scanner_of(seed: int) -> Scanner:
    return draw_scanner(CONFIG, stream(seed, "test optics"))


@pytest.mark.parametrize("seed", range(3))
def test_each_kind_extends_over_its_number_of_slices(seed: int) -> None:
    head, geometry, lookalikes = scene(seed)
    acquisition = acquire(head, lookalikes, geometry, scanner_of(seed))
    for lookalike, area in zip(lookalikes, acquisition.area_mm2, strict=True):
        n_slices = np.count_nonzero(area > 0)
        if lookalike.name in (LookalikeKind.CALCIFICATION, LookalikeKind.PARTIAL_VOLUME):
            assert n_slices <= 1
        elif lookalike.name is LookalikeKind.STREAK:
            assert n_slices <= 2
        else:
            assert n_slices >= 3
    visible = sum(area.max() >= 10 for area in acquisition.area_mm2)
    assert visible >= len(lookalikes) - 2


@pytest.mark.parametrize("seed", range(3))
def test_a_calcification_changes_one_slice_and_no_neighbour(seed: int) -> None:
    head, geometry, lookalikes = scene(seed)
    calcification = next(mimic for mimic in lookalikes if isinstance(mimic, Calcification))
    with_it = acquire(head, (calcification,), geometry, scanner_of(seed)).hu
    added = with_it - acquire(head, (), geometry, scanner_of(seed)).hu
    slices = np.flatnonzero(np.abs(added).max(axis=(1, 2)) > 1)
    assert len(slices) == 1
    assert added[slices[0]].max() > 10


@pytest.mark.parametrize("seed", range(3))
def test_the_slice_below_a_partial_volume_shows_bone(seed: int) -> None:
    head, geometry, lookalikes = scene(seed)
    scanner = scanner_of(seed)
    bump = next(mimic for mimic in lookalikes if isinstance(mimic, PartialVolume))
    acquisition = acquire(head, (bump,), geometry, scanner)
    added = acquisition.hu - acquire(head, (), geometry, scanner).hu

    offsets = [slab.offset_mm for slab in geometry.slabs(head)]
    top = offsets.index(bump.slab.offset_mm)
    assert int(np.argmax(acquisition.area_mm2[0])) == top
    changed = added[top] > 10
    assert changed.any()
    assert acquisition.hu[top - 1][changed].max() > 200
    assert np.median(acquisition.hu[top][changed]) < 90 + scanner.rim_hu + scanner.offset_hu
    assert np.abs(added[top + 1 :]).max() == 0


@pytest.mark.parametrize("seed", range(6))
def test_lookalikes_have_the_hu_of_blood(seed: int) -> None:
    _, _, lookalikes = scene(seed)
    assert {mimic.name for mimic in lookalikes} == set(LookalikeKind)
    for mimic in lookalikes:
        if isinstance(mimic, Calcification):
            blood = BLEEDS[mimic.bleed.subtype]
            assert blood.low <= mimic.bleed.hu <= blood.high
        elif isinstance(mimic, PartialVolume):
            assert 50 <= mimic.hu <= 90
    assert 50 <= THROMBUS.low < THROMBUS.high <= 90


def test_with_a_chance_of_zero_there_are_no_lookalikes() -> None:
    rng = stream(0, "none")
    head = draw_head(rng)
    geometry = draw_geometry(CONFIG, head, rng)
    assert draw_lookalikes(head, coarse_brain(head), geometry.slabs(head), 0.0, rng) == ()
