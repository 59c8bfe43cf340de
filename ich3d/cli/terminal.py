"""What the command line prints: log lines and errors to stderr, results as text to stdout.

On a terminal errors are red and warnings yellow, unless the environment variable NO_COLOR is set.
"""

import logging
import os
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


_RED: Final = "31"
_YELLOW: Final = "33"

log = logging.getLogger(__name__)


def print_error(message: str) -> None:
    """Print one line `ich3d: message` to stderr; control characters appear as escapes."""
    print(as_error(printable(f"ich3d: {message}")), file=sys.stderr)


def print_warning(message: str) -> None:
    """As `print_error`, for what does not keep a command from its work."""
    _print_in_yellow(f"ich3d: {message}")


def print_notice(message: str) -> None:
    """As `print_error`, for what nobody has to act on; `--quiet` leaves it out."""
    log.info("%s", printable(f"ich3d: {message}"))


def print_rejected(rejected: Iterable["Rejected"]) -> None:
    """Print one line for each rejected file or series to stderr: its name and what is wrong.

    No line is printed twice.
    """
    for sentence in dict.fromkeys(rejection.sentence for rejection in rejected):
        _print_in_yellow(sentence)


def print_nothing_found(what: str, paths: Iterable[Path], left_out: Sequence["LeftOut"]) -> None:
    """Say on stderr that there is no `what` below `paths`, and what the first files are instead."""
    for entry in left_out[:MAX_LEFT_OUT]:
        _print_in_yellow(entry.detail)
    if len(left_out) > MAX_LEFT_OUT:
        _print_in_yellow(f"and {len(left_out) - MAX_LEFT_OUT} more like these")
    places = list(map(str, paths))
    look = f"`ich3d inspect {places[0]}` shows what is there"
    print_error(f"no {what} was found in {', '.join(places)}: {look}")


def print_not_hu(left_out: Iterable["LeftOut"]) -> None:
    """Print one line to stderr about the files that are left out because they are not in HU."""
    from ich3d.dicom.inspection import not_hu_summary

    summary = not_hu_summary(left_out)
    if summary:
        print_warning(summary)


def print_incomplete(outcome: "Outcome", out: Path) -> None:
    """Say on stderr, in a line each, what an output lacks, and which scores say little."""
    if outcome.of_known_patients:
        print_warning(
            f"{outcome.of_known_patients} of {outcome.scored} series are of patients that the "
            "model was trained on: it scores new patients less well"
        )
    for output, refused in outcome.refused.items():
        first = printable(refused[0].sentence)
        which = f"{output}: {len(refused)} of {outcome.scored} series, such as {first}"
        print_warning(f"{which}; all are in {out / 'incomplete.csv'}")
    if outcome.at_base_rate:
        slices = pluralize(outcome.at_base_rate, "slice")
        print_warning(f"submission.csv has only the base rate of {slices} without a score")


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


def as_error(text: str) -> str:
    """`text` in the colour of errors, where stderr shows colours."""
    return _coloured(text, _RED)


def log_to_stderr(verbose: bool = False, quiet: bool = False) -> None:
    """Send the package's log to stderr: level INFO, DEBUG if `verbose`, WARNING if `quiet`."""
    logger = logging.getLogger("ich3d")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(_Formatter("%(message)s"))
        logger.addHandler(handler)
    level = logging.WARNING if quiet else logging.INFO
    logger.setLevel(logging.DEBUG if verbose else level)


class _Formatter(logging.Formatter):
    """Log lines; warnings in their colour."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return _coloured(text, _YELLOW) if record.levelno >= logging.WARNING else text


def _print_in_yellow(text: str) -> None:
    print(_coloured(printable(text), _YELLOW), file=sys.stderr)


def _coloured(text: str, colour: str) -> str:
    """`text` in one of the eight colours of every terminal (ECMA-48, SGR)."""
    return f"\x1b[{colour}m{text}\x1b[0m" if _shows_colours() else text


def _shows_colours() -> bool:
    """Whether stderr is a terminal with colours, and the user has not switched them off."""
    is_plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return sys.stderr.isatty() and not is_plain


def _value_as_text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
