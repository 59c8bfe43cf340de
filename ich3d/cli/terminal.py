"""TODO."""

import logging
import sys
from collections.abc import Mapping
from io import TextIOWrapper
from typing import Any


def as_text(tree: Mapping[str, Any], indent: str = "") -> str:
    """A plain tree as lines `name: value`, what lies below a name indented; a dash for what is None."""
    lines = []
    for name, value in tree.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}{name}:", as_text(value, indent + "  ")]
        else:
            shown = ", ".join(map(_plain, value)) if isinstance(value, list) else _plain(value)
            lines.append(f"{indent}{name}: {shown}")
    return "\n".join(lines)


def _plain(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def escape_unencodable() -> None:
    """Let characters that the terminal's encoding does not have be printed as their escapes."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def log_to_stderr(verbose: int = 0) -> None:
    """Log lines of ich3d to stderr: notes by default, details with `verbose`."""
    logger = logging.getLogger("ich3d")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
