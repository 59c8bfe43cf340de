"""Ranges from the literature."""

import numpy as np

from ich3d.core.labels import SUBTYPES
from ich3d.core.seeds import stream
from ich3d.phantom.tissues import BLEEDS, TISSUES, VOLUMES_ML, draw_tissues


def test_every_range_ascends_and_names_its_source() -> None:
    for hu in (*TISSUES.values(), *BLEEDS.values()):
        assert hu.low < hu.high
        assert hu.source
    for volume in VOLUMES_ML.values():
        assert volume.low < volume.median < volume.high
        assert volume.source


def test_blood_of_each_subtype_measures_50_to_90_hu() -> None:
    assert set(BLEEDS) == set(SUBTYPES)
    for name, hu in BLEEDS.items():
        assert 50 <= hu.low < hu.high <= 90, name


def test_drawn_tissues_lie_in_their_ranges() -> None:
    drawn = draw_tissues(stream(0, "tissues"))
    assert list(drawn) == list(TISSUES)
    assert all(TISSUES[name].low <= hu <= TISSUES[name].high for name, hu in drawn.items())


def test_volumes_lie_in_their_range_around_the_median() -> None:
    rng = stream(0, "volumes")
    for name, volume in VOLUMES_ML.items():
        drawn = np.array([volume.draw(rng) for _ in range(500)])
        assert volume.low <= drawn.min() < drawn.max() <= volume.high, name
        assert 0.75 < np.median(drawn) / volume.median < 1.3, name
