"""The noise-free brain: HU as drawn, fluid by atrophy, and compartments where anatomy has them."""

from dataclasses import replace

import numpy as np
import pytest

from ich3d.core.seeds import stream
from ich3d.phantom.bleeds import coarse_brain
from ich3d.phantom.head import draw_head
from tests.helpers.phantom import head_and_brain

SEEDS = range(4)


@pytest.mark.parametrize("seed", SEEDS)
def test_fluid_and_white_matter_have_the_hu_drawn_for_them(seed: int) -> None:
    head, brain = head_and_brain(seed)
    fluid = brain.hu[brain.ventricle == 1]
    deep_inside = (brain.depth_mm > 24) & (brain.points.z > 28)
    is_white = deep_inside & (brain.parenchyma == 1) & (brain.above_tentorium_mm > 5)
    assert np.median(fluid) == pytest.approx(head.hu["csf"], abs=0.5)
    assert np.median(brain.hu[is_white]) == pytest.approx(head.hu["white"], abs=1.5)


def test_more_atrophy_means_more_fluid() -> None:
    head = draw_head(stream(3, "test head"))
    tight, medium, wide = (
        float(coarse_brain(replace(head, atrophy=atrophy)).csf.sum()) for atrophy in (0.1, 0.5, 0.9)
    )
    assert tight < medium < wide


@pytest.mark.parametrize("seed", SEEDS)
def test_fractions_of_fluid_and_tissue_add_up_to_one(seed: int) -> None:
    _, brain = head_and_brain(seed)
    for fraction in (brain.csf, brain.ventricle, brain.parenchyma):
        assert 0 <= fraction.min() <= fraction.max() <= 1
    total = brain.csf + brain.ventricle + brain.parenchyma
    one_fluid = (brain.csf == 0) | (brain.ventricle == 0)
    assert total[one_fluid] == pytest.approx(1, abs=1e-5)
    assert one_fluid.mean() > 0.95


@pytest.mark.parametrize("seed", SEEDS)
def test_the_cerebellum_lies_behind_and_below(seed: int) -> None:
    _, brain = head_and_brain(seed)
    below = brain.above_tentorium_mm < 0
    assert 0.05 < below.mean() < 0.35
    assert brain.points.y[below].min() > 0
    assert brain.points.z[below].max() < 30
