"""Volume, HU and oedema of bleeds."""

import numpy as np
import pytest

from ich3d.core.labels import SUBTYPES
from ich3d.core.seeds import stream
from ich3d.phantom.bleed_shapes import layer_shape
from ich3d.phantom.bleeds import draw_bleed, grow
from ich3d.phantom.tissues import BLEEDS, VOLUMES_ML
from tests.helpers.phantom import head_and_brain, random_bleed

SEEDS = range(4)


@pytest.mark.parametrize("subtype", SUBTYPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_hu_and_volume_lie_in_the_cited_ranges(subtype: str, seed: int) -> None:
    head, brain, bleed = random_bleed(subtype, seed)
    measured_ml = float(bleed.fraction(brain).sum()) * head.volume_scale * 27 / 1000
    assert measured_ml == pytest.approx(bleed.volume_ml, rel=0.3, abs=0.5)

    names = ("deep", "lobar") if subtype == "intraparenchymal" else (subtype,)
    assert bleed.volume_ml <= max(VOLUMES_ML[name].high for name in names) * 1.1

    assert BLEEDS[subtype].low <= bleed.hu <= BLEEDS[subtype].high
    image = brain.hu.copy()
    painted = bleed.paint(brain, image)
    assert np.median(image[painted > 0.95]) == pytest.approx(bleed.hu, abs=3)


@pytest.mark.parametrize("seed", SEEDS)
def test_oedema_surrounds_an_intraparenchymal_bleed(seed: int) -> None:
    _, brain, bleed = random_bleed("intraparenchymal", seed)
    blood = bleed.fraction(brain) > 0.5
    swollen = bleed.oedema(brain) > 0.5
    assert np.all(swollen[blood])
    assert swollen.sum() > blood.sum()


def test_a_bleed_stays_below_the_largest_volume_asked_for() -> None:
    head, brain = head_and_brain(0)
    bleed = draw_bleed(head, brain, "subdural", stream(0, "small"), largest_ml=3)
    assert 0 < bleed.volume_ml < 3.1


def test_a_bleed_stops_where_its_region_is_nearly_full() -> None:
    head, brain = head_and_brain(0)
    ventricles_ml = float(brain.ventricle.sum()) * head.volume_scale * 27 / 1000
    _, volume_ml = grow(head, brain, layer_shape(0.0), 10_000)
    assert volume_ml == pytest.approx(0.9 * ventricles_ml, rel=0.02)
