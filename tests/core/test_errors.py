"""Error messages end with what is allowed."""

import pytest

from ich3d.core.errors import (
    ConfigError,
    DataError,
    Ich3dError,
    LeakageError,
    ModelError,
    UserError,
    suggestion,
)


def test_the_closest_name_is_suggested() -> None:
    assert suggestion("brian", ["bone", "brain"]) == "; did you mean 'brain'?"
    assert suggestion("liver", ["bone", "brain"], ": check it") == ": check it"


def test_all_names_are_listed_where_none_is_close() -> None:
    assert suggestion("liver", ["brain", "bone"]) == "; known are bone, brain"


@pytest.mark.parametrize("error", [ConfigError, DataError, ModelError])
def test_mistakes_of_the_user_share_a_class(error: type[Exception]) -> None:
    assert issubclass(error, UserError)


def test_leakage_is_no_mistake_of_the_user() -> None:
    assert issubclass(LeakageError, Ich3dError)
    assert not issubclass(LeakageError, UserError)
