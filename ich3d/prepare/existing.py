"""What a workspace holds already: data that another configuration would replace."""

import io
from collections.abc import Sequence
from typing import Any, Final

import pandas as pd

from ich3d.config.load import as_dict
from ich3d.config.root import Config
from ich3d.core.outputs import claim, flat, refusal
from ich3d.core.workspace import Workspace, read_json, write_table

PREPARE: Final = "ich3d prepare"
_STORE: Final = ("store/meta.json",)


def claim_store(config: Config, workspace: Workspace, overwrite: bool) -> None:
    """Record the source and the grid of a store, before anything of it is written.

    Raises:
        DataError: the workspace holds a store with others, and `overwrite` is not set.
    """
    tree = as_dict(config)
    work = {"source.kind": config.source.kind} | {
        f"prepare.{key}": tree["prepare"][key] for key in ("pixel_mm", "matrix")
    }
    if config.source.kind == "phantom":
        work |= flat({"seed": config.seed, "phantom": tree["phantom"]})
    meta = workspace.store / "meta.json"
    known = _grid(read_json(meta)) if meta.exists() else None
    if claim(workspace.root, PREPARE, work, _STORE, overwrite, known):
        meta.unlink()  # what is there is no complete store of either kind from now on


def claim_series(workspace: Workspace, volume_ids: Sequence[str], overwrite: bool) -> None:
    """Record the series of a store. DataError where it holds others, as in `claim_store`."""
    claim(workspace.root, PREPARE, {"series": list(volume_ids)}, _STORE, overwrite)


def require_same_slices(workspace: Workspace, slices: pd.DataFrame) -> None:
    """Raise DataError where a run was trained on another table of slices than this one."""
    path = workspace.store / "slices.csv"
    if not path.exists() or not any(workspace.root.glob("*/fold*/done.json")):
        return
    text = io.StringIO()
    write_table(slices, text)
    if text.getvalue().encode(errors="backslashreplace") != path.read_bytes():
        raise refusal(
            workspace.root, "a run that was trained on other slices, labels, seed or folds"
        )


def _grid(meta: dict[str, Any]) -> dict[str, Any]:
    """What is known of a store that was prepared before there was a record."""
    return {f"prepare.{key}": meta[key] for key in ("pixel_mm", "matrix") if key in meta}
