"""The list of what `make test-fast` leaves out is up to date."""

import pytest

from tests.helpers.markers import FIXTURES, LONG, TESTS, takes_long


@pytest.mark.parametrize("long", LONG)
def test_each_entry_exists(long: str) -> None:
    assert (TESTS / long).exists()


def test_entries_are_sorted_and_unique() -> None:
    assert list(LONG) == sorted(set(LONG))


def test_a_file_in_a_listed_folder_takes_long_and_others_do_not() -> None:
    assert takes_long(TESTS / "ablation" / "test_run.py")
    assert takes_long(TESTS / "slices" / "test_encoder.py")
    assert not takes_long(TESTS / "slices" / "test_dataset.py")


def test_the_fixtures_are_those_of_the_run() -> None:
    conftest = (TESTS / "conftest.py").read_text()
    assert [name for name in FIXTURES if f"\ndef {name}(" not in conftest] == []


def test_a_test_that_needs_a_trained_run_is_marked(request: pytest.FixtureRequest) -> None:
    items = request.session.items
    users = [item for item in items if FIXTURES & set(getattr(item, "fixturenames", ()))]
    assert all(item.get_closest_marker("trains") for item in users)
    assert request.node.get_closest_marker("trains") is None
