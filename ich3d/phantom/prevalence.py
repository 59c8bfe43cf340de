"""Which subtypes a study bleeds: by default as often as in RSNA's training set.

RSNA 2019, stage 2 train, counts slices: any 14.4 %, subdural 6.3, intraparenchymal 4.8, subarachnoid 4.8,
intraventricular 3.5, epidural 0.41 %; and 40.8 % of its studies bleed. A subtype's chance a study is its
share of slices over the share of slices that it covers in a study which has it. Coverage is what the
phantom's own bleeds, with volumes from the literature, cover in 5 mm slices (means of 66 to 78 bleeds).
"""

from collections.abc import Mapping
from functools import cache
from typing import Final

import numpy as np

from ich3d.core.errors import ConfigError, suggestion
from ich3d.core.labels import SUBTYPES

BLEEDING_STUDIES: Final = 0.408
SLICE_PREVALENCE: Final = {
    "epidural": 0.0041,
    "intraparenchymal": 0.048,
    "intraventricular": 0.035,
    "subarachnoid": 0.048,
    "subdural": 0.063,
}
COVERAGE: Final = {
    "epidural": 0.33,
    "intraparenchymal": 0.24,
    "intraventricular": 0.24,
    "subarachnoid": 0.30,
    "subdural": 0.48,
}
STUDY_PREVALENCE: Final = {name: SLICE_PREVALENCE[name] / COVERAGE[name] for name in SUBTYPES}


def draw_subtypes(overrides: Mapping[str, float], rng: np.random.Generator) -> tuple[str, ...]:
    """The subtypes of one study, in the order of `SUBTYPES`.

    By default a study bleeds with chance 0.408, and then each subtype joins on its own, again until there
    is one: so subtypes come together more often than by chance, as extension and trauma have it. With
    overrides each subtype is drawn for itself, at its override or its default chance. ConfigError names
    an unknown subtype or a chance outside 0..1.
    """
    _check(overrides)
    if overrides:
        return _each({**STUDY_PREVALENCE, **overrides}, rng)
    if rng.random() >= BLEEDING_STUDIES:
        return ()
    chances = _given_bleeding()
    while True:
        subtypes = _each(chances, rng)
        if subtypes:
            return subtypes


def _each(chances: Mapping[str, float], rng: np.random.Generator) -> tuple[str, ...]:
    draws = rng.random(len(SUBTYPES))
    return tuple(name for name, draw in zip(SUBTYPES, draws, strict=True) if draw < chances[name])


@cache
def _given_bleeding() -> dict[str, float]:
    """Chances q that give each subtype its share of bleeding studies when empty draws are repeated:
    the fixed point of q = share * (1 - product(1 - q))."""
    share = np.array([STUDY_PREVALENCE[name] for name in SUBTYPES]) / BLEEDING_STUDIES
    chances = share.copy()
    for _ in range(200):
        chances = share * (1 - np.prod(1 - chances))
    return dict(zip(SUBTYPES, chances.tolist(), strict=True))


def _check(overrides: Mapping[str, float]) -> None:
    for name, chance in overrides.items():
        if name not in SUBTYPES:
            raise ConfigError(
                f"phantom.prevalence.{name} is no subtype{suggestion(name, SUBTYPES)}"
            )
        if not 0 <= chance <= 1:
            raise ConfigError(f"phantom.prevalence.{name} must be within 0..1, got {chance!r}")
