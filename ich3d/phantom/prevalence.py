"""Which subtypes of hemorrhage a study shows: by default as often as in RSNA's training set.

RSNA 2019, stage 2 train, counts slices: any 14.4 %, subdural 6.3, intraparenchymal 4.8,
subarachnoid 4.8, intraventricular 3.5, epidural 0.41 %; and 40.8 % of its studies show a bleed.

The phantom needs the probability that a study shows a subtype: the subtype's fraction of all
slices, divided by the fraction of slices that it covers in a study which shows it. That coverage
is measured on the phantom's own bleeds, with volumes from the literature, in 5 mm slices (means of
66 to 78 bleeds).
"""

from collections.abc import Mapping
from functools import cache
from typing import Final

import numpy as np

from ich3d.core.errors import ConfigError, suggestion
from ich3d.core.labels import SUBTYPES

BLEEDING_STUDIES: Final = 0.408
"""Fraction of studies with any bleed."""

SLICE_PREVALENCE: Final = {
    "epidural": 0.0041,
    "intraparenchymal": 0.048,
    "intraventricular": 0.035,
    "subarachnoid": 0.048,
    "subdural": 0.063,
}
"""Fraction of all slices that show each subtype."""

COVERAGE: Final = {
    "epidural": 0.33,
    "intraparenchymal": 0.24,
    "intraventricular": 0.24,
    "subarachnoid": 0.30,
    "subdural": 0.48,
}
"""Fraction of a study's slices that a bleed of each subtype covers."""

STUDY_PREVALENCE: Final = {name: SLICE_PREVALENCE[name] / COVERAGE[name] for name in SUBTYPES}
"""Probability that a study shows each subtype."""


def draw_subtypes(overrides: Mapping[str, float], rng: np.random.Generator) -> tuple[str, ...]:
    """The subtypes that one study shows, drawn at random, in the order of `SUBTYPES`.

    Without `overrides` a study bleeds with probability 0.408. Subtypes of a bleeding study are
    drawn independently, again until there is at least one. Two subtypes thus occur together more
    often than by chance, as they do in patients, where bleeds extend and trauma causes several.
    With `overrides` (probability by subtype) each subtype is drawn independently, with its override
    or its default.

    Raises:
        ConfigError: `overrides` names an unknown subtype or holds a probability outside 0..1.
    """
    _check(overrides)
    if overrides:
        return _draw_each({**STUDY_PREVALENCE, **overrides}, rng)

    if rng.random() >= BLEEDING_STUDIES:
        return ()
    probabilities = _probabilities_before_redraw()
    while True:
        subtypes = _draw_each(probabilities, rng)
        if subtypes:
            return subtypes


def _draw_each(probabilities: Mapping[str, float], rng: np.random.Generator) -> tuple[str, ...]:
    draws = rng.random(len(SUBTYPES))
    return tuple(
        name for name, draw in zip(SUBTYPES, draws, strict=True) if draw < probabilities[name]
    )


@cache
def _probabilities_before_redraw() -> dict[str, float]:
    """Probabilities q by subtype, such that redrawing empty draws gives the prevalence wanted.

    With f, the fraction of bleeding studies that show a subtype, q is the fixed point of
    q = f * (1 - product(1 - q)).
    """
    fraction = np.array([STUDY_PREVALENCE[name] for name in SUBTYPES]) / BLEEDING_STUDIES
    probabilities = fraction.copy()
    for _ in range(200):
        probabilities = fraction * (1 - np.prod(1 - probabilities))
    return dict(zip(SUBTYPES, probabilities.tolist(), strict=True))


def _check(overrides: Mapping[str, float]) -> None:
    for name, probability in overrides.items():
        if name not in SUBTYPES:
            raise ConfigError(
                f"phantom.prevalence.{name} is no subtype{suggestion(name, SUBTYPES)}"
            )
        if not 0 <= probability <= 1:
            raise ConfigError(f"phantom.prevalence.{name} must be within 0..1, got {probability!r}")
