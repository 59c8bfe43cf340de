"""Copies of a finished run that tests may change."""

import shutil
from dataclasses import replace
from pathlib import Path

from ich3d.config.root import Config
from ich3d.core.labels import LABELS
from ich3d.core.workspace import Workspace, read_csv, read_json
from ich3d.prepare.store import Store


def workspace_of(config: Config) -> Workspace:
    return Workspace(Path(config.workspace))


def store_of(config: Config) -> Store:
    """The prepared store of a run."""
    return Store(workspace_of(config).store)


def copy_run(config: Config, folder: Path) -> Config:
    """Copy a whole run to `folder`; returns the configuration of the copy."""
    shutil.copytree(config.workspace, folder)
    return replace(config, workspace=str(folder))


def copy_source(config: Config, folder: Path) -> Config:
    """The same run before it began: a copy of its studies alone, in another run folder."""
    shutil.copytree(Path(config.workspace) / "source", folder / "source")
    return replace(config, workspace=str(folder))


def with_inverted_labels(config: Config, fold: int, folder: Path) -> Store:
    """A copy of the run's store in `folder`, with every label of `fold` inverted."""
    shutil.copytree(workspace_of(config).store, folder)
    table = read_csv(folder / "slices.csv")
    is_in_fold = table["fold"] == fold
    table.loc[is_in_fold, list(LABELS)] = 1 - table.loc[is_in_fold, list(LABELS)]
    return Store.finish(folder, table, read_json(folder / "meta.json"))
