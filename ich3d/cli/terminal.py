"""What the command line prints: log lines and errors to stderr, results as text to stdout."""

import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ich3d.core.text import pluralize, printable

if TYPE_CHECKING:
    from ich3d.core.types import LeftOut, Rejected
    from ich3d.inference.run import Outcome

MAX_LEFT_OUT: Final = 5
"""How many files that are no CT are named where nothing else was found."""


def print_error(message: str) -> None:
    """Print one line `ich3d: message` to stderr; control characters appear as escapes."""
    print(printable(f"ich3d: {message}"), file=sys.stderr)


def print_rejected(rejected: Iterable["Rejected"]) -> None:
    """Print one line for each rejected file or series to stderr: its name and what is wrong.

    No line is printed twice.
    """
    for sentence in dict.fromkeys(rejection.sentence for rejection in rejected):
        print(printable(sentence), file=sys.stderr)


def print_nothing_found(what: str, paths: Iterable[Path], left_out: Sequence["LeftOut"]) -> None:
    """Say on stderr that there is no `what` below `paths`, and what the first files are instead."""
    for entry in left_out[:MAX_LEFT_OUT]:
        print(printable(entry.detail), file=sys.stderr)
    if len(left_out) > MAX_LEFT_OUT:
        print(f"and {len(left_out) - MAX_LEFT_OUT} more like these", file=sys.stderr)
    print_error(f"no {what} was found in {', '.join(map(str, paths))}")


def print_not_hu(left_out: Iterable["LeftOut"]) -> None:
    """Print one line to stderr about the files that are left out because they are not in HU."""
    from ich3d.dicom.inspection import not_hu_summary

    summary = not_hu_summary(left_out)
    if summary:
        print_error(summary)


def print_incomplete(outcome: "Outcome", out: Path) -> None:
    """Say on stderr, in a line each, what an output lacks, and which scores say little."""
    if outcome.of_known_patients:
        print_error(
            f"{outcome.of_known_patients} of {outcome.scored} series are of patients that the "
            "model was trained on: it scores new patients less well"
        )
    for output, refused in outcome.refused.items():
        first = printable(refused[0].sentence)
        which = f"{output}: {len(refused)} of {outcome.scored} series, such as {first}"
        print_error(f"{which}; all are in {out / 'incomplete.csv'}")
    if outcome.at_base_rate:
        slices = pluralize(outcome.at_base_rate, "slice")
        print_error(f"submission.csv has only the base rate of {slices} without a score")


def as_text(tree: Mapping[str, Any], indent: str = "") -> str:
    """A tree of plain data as lines `name: value`.

    Nested mappings are indented by two spaces, lists are joined by commas, floats have four
    significant digits, and None is a dash.

    >>> print(as_text({"cores": 2, "memory": {"free": 1.23456, "swap": None}}))
    cores: 2
    memory:
      free: 1.235
      swap: -
    """
    lines = []
    for name, value in tree.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}{name}:", as_text(value, indent + "  ")]
        elif isinstance(value, list):
            lines.append(f"{indent}{name}: {', '.join(map(_value_as_text, value))}")
        else:
            lines.append(f"{indent}{name}: {_value_as_text(value)}")
    return "\n".join(lines)


def escape_unencodable() -> None:
    """Print characters that the terminal's encoding lacks as escapes, without an error."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def log_to_stderr(verbose: bool = False) -> None:
    """Send the package's log to stderr: level INFO, or DEBUG if `verbose`."""
    logger = logging.getLogger("ich3d")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)


def _value_as_text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
