"""The checks that all sections share: bounds are included, and messages say what is allowed."""

import math
from dataclasses import dataclass

import pytest

from ich3d.config.validation import require, require_numbers, require_one_of
from ich3d.core.errors import ConfigError


@dataclass(frozen=True)
class Section:
    share: float
    count: int


def test_a_condition_that_does_not_hold_names_key_rule_and_value() -> None:
    require(True, "a.b", "positive", 1)
    with pytest.raises(ConfigError, match=r"^a\.b must be positive, got -1$"):
        require(False, "a.b", "positive", -1)


def test_a_choice_lists_what_is_allowed() -> None:
    require_one_of(("x", "y"), "a.b", "y")
    with pytest.raises(ConfigError, match=r"^a\.b must be one of x, y, got 'z'$"):
        require_one_of(("x", "y"), "a.b", "z")


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_numbers_on_the_bounds_are_allowed(share: float) -> None:
    section = Section(share, 1)
    require_numbers("a", section, share=(0, 1), count=(1, math.inf))
    assert section.share == share


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (Section(1.5, 1), r"^a\.share must be within 0\.\.1, got 1\.5$"),
        (Section(math.nan, 1), r"^a\.share must be within 0\.\.1, got nan$"),
        (Section(0.5, 0), r"^a\.count must be at least 1, got 0$"),
    ],
)
def test_numbers_outside_the_bounds_are_named(section: Section, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        require_numbers("a", section, share=(0, 1), count=(1, math.inf))
