"""Plurals, and text from files made safe to print."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ich3d.core.text import pluralize, printable


@pytest.mark.parametrize(("n", "text"), [(0, "0 files"), (1, "1 file"), (2, "2 files")])
def test_one_is_singular(n: int, text: str) -> None:
    assert pluralize(n, "file") == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b/ü.dcm", "a b/ü.dcm"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x1b[31m\x00", "\\x1b[31m\\x00"),
        ("\udcff", "\\udcff"),  # a byte of a file name that is not UTF-8
        ("\u202ecod", "\\u202ecod"),  # right-to-left override
    ],
)
def test_control_characters_are_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(st.characters(codec=None)))
def test_any_text_becomes_one_printable_line(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(printable(text)) == printable(text)
    printable(text).encode()
