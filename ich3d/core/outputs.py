"""What a command may write to: one rule for every output that is there already.

The same work goes on, or is done again with the same result. Other work asks for `--overwrite` or
another folder. So that the two can be told apart, `made_from.json` in an output folder records by
command what its outputs were made from.
"""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ich3d.core.errors import DataError
from ich3d.core.workspace import read_json, write_json

RECORD: Final = "made_from.json"
"""The file of an output folder that records what its outputs were made from, by command."""

Work = Mapping[str, Any]
"""What a command makes its outputs from: names, and values that JSON can hold. A list may grow: a
folder to which series were added is the same work, and more.
"""


def require_folder(folder: Path) -> None:
    """Raise DataError unless `folder` is a folder that can be written to, or can be made one."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise DataError(f"{existing} is a file where a folder is needed: name another folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise DataError(
            f"{existing} cannot be written to: change its permissions, or name another folder"
        )


def claim(
    folder: Path,
    command: str,
    work: Work,
    outputs: Sequence[str],
    overwrite: bool = False,
    known: Work | None = None,
) -> bool:
    """Record that `command` makes its outputs in `folder` from `work`; call it before they are
    written.

    Args:
        folder: the output folder.
        command: what the outputs were made by, such as `ich3d predict`.
        work: what they are made from. Values that are recorded under other names stay.
        outputs: patterns of the command's files and folders in `folder`.
        overwrite: whether outputs of other work may be replaced.
        known: what the outputs in a folder without a record were made from, where it is known.

    Returns:
        Whether `folder` holds outputs of other work, which are to be replaced.

    Raises:
        DataError: it holds outputs of other work, and `overwrite` is not set.
    """
    records: dict[str, Any] = {}
    if (folder / RECORD).exists():
        records = read_json(folder / RECORD)
    recorded = records.get(command, known)
    difference = None
    if any(existing(folder, outputs)):
        difference = "something that is not recorded" if recorded is None else None
        difference = difference or _difference(recorded or {}, work)
    if difference is not None and not overwrite:
        raise refusal(folder, f"what `{command}` made from {difference}")

    current = {**(recorded or {}), **work}
    if records.get(command) != current:
        write_json(folder / RECORD, {**records, command: current})
    return difference is not None


def record(folder: Path, command: str, work: Work) -> None:
    """Record what the finished outputs of `command` were made from."""
    records = read_json(folder / RECORD) if (folder / RECORD).exists() else {}
    write_json(folder / RECORD, {**records, command: dict(work)})


def refusal(path: Path, what: str) -> DataError:
    """The error about a path that holds other work."""
    return DataError(f"{path} holds {what}: add --overwrite to replace it, or name another folder")


def existing(folder: Path, outputs: Sequence[str]) -> Iterator[Path]:
    """The files and folders in `folder` that match a pattern of `outputs` and are not empty."""
    for pattern in outputs:
        for path in folder.glob(pattern):
            if any(path.iterdir()) if path.is_dir() else path.stat().st_size:
                yield path


def remove(folder: Path, outputs: Sequence[str]) -> None:
    """Remove what a command wrote to `folder`: a page of another study must not stay beside."""
    for path in list(existing(folder, outputs)):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with keys such as `slices.encoder`.

    >>> flat({"seed": 0, "slices": {"epochs": 3}})
    {'seed': 0, 'slices.epochs': 3}
    """
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        is_tree = isinstance(value, Mapping) and value
        leaves |= flat(value, f"{prefix}{key}.") if is_tree else {f"{prefix}{key}": value}
    return leaves


def _difference(recorded: Mapping[str, Any], work: Work) -> str | None:
    """What of `work` is not as it was recorded, in words; None where nothing is."""
    for name, value in work.items():
        if name not in recorded:
            continue
        before = recorded[name]
        if isinstance(value, list) and isinstance(before, list):
            given = set(value)
            lacking = [entry for entry in before if entry not in given]
            if lacking:
                return f"other {name}, such as {lacking[0]}"
        elif value != before:
            return f"another {name}"
    return None
