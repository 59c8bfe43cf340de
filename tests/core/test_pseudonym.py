"""Pseudonyms of patients."""

from ich3d.core.pseudonym import pseudonym


def test_a_pseudonym_is_stable_and_does_not_show_the_name() -> None:
    assert pseudonym("Jane Doe") == pseudonym("Jane Doe") != pseudonym("John Doe")
    assert "Doe" not in pseudonym("Jane Doe")


def test_a_pseudonym_is_its_own() -> None:
    assert pseudonym(pseudonym("Jane Doe")) == pseudonym("Jane Doe")
