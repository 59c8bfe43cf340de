"""By default studies bleed as often as RSNA's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ich3d.core.errors import ConfigError
from ich3d.core.labels import SUBTYPES
from ich3d.core.seeds import stream
from ich3d.phantom.prevalence import (
    BLEEDING_STUDIES,
    COVERAGE,
    SLICE_PREVALENCE,
    STUDY_PREVALENCE,
    draw_subtypes,
)

N = 20_000


def within(count: int, chance: float, sigmas: float = 4) -> bool:
    return bool(abs(count - N * chance) < sigmas * np.sqrt(N * chance * (1 - chance)))


def test_default_draws_meet_rsna_within_binomial_bounds() -> None:
    rng = stream(0, "prevalence")
    draws = [draw_subtypes({}, rng) for _ in range(N)]
    assert within(sum(map(bool, draws)), BLEEDING_STUDIES)
    for name in SUBTYPES:
        assert within(sum(name in d for d in draws), STUDY_PREVALENCE[name]), name
        expected_slices = STUDY_PREVALENCE[name] * COVERAGE[name]
        assert expected_slices == pytest.approx(SLICE_PREVALENCE[name])
    together = sum("intraventricular" in d and "intraparenchymal" in d for d in draws)
    alone = STUDY_PREVALENCE["intraventricular"] * STUDY_PREVALENCE["intraparenchymal"]
    assert together > 1.2 * N * alone


def test_an_override_holds_and_the_rest_keep_their_chance() -> None:
    rng = stream(1, "prevalence")
    draws = [draw_subtypes({"epidural": 0.25}, rng) for _ in range(N)]
    assert within(sum("epidural" in d for d in draws), 0.25)
    assert within(sum("subdural" in d for d in draws), STUDY_PREVALENCE["subdural"])


@given(st.sets(st.sampled_from(SUBTYPES)), st.integers(0, 1000))
def test_chances_of_zero_and_one_are_certain(present: set[str], seed: int) -> None:
    chances = {name: float(name in present) for name in SUBTYPES}
    assert set(draw_subtypes(chances, stream(seed, "certain"))) == present


def test_a_wrong_override_is_named() -> None:
    with pytest.raises(ConfigError, match="did you mean 'epidural'"):
        draw_subtypes({"epidurl": 0.2}, stream(0, "x"))
    with pytest.raises(ConfigError, match=r"within 0\.\.1"):
        draw_subtypes({"epidural": 1.5}, stream(0, "x"))
