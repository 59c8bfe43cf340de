"""Real label sequences: a table of labels and positions of whole series, without images."""

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from ich3d.config.root import Config
from ich3d.core.errors import DataError
from ich3d.core.labels import ANY, LABELS, SUBTYPES
from ich3d.core.seeds import stream
from ich3d.prepare.folds import assign_folds
from ich3d.prepare.store import Store

FILE: Final = "series.csv.gz"
COLUMNS: Final = ("series", "patient", "z_mm", *LABELS)


class SequenceStore(Store):
    """A store of labels and positions alone, in memory."""

    def __init__(self, folder: Path, table: pd.DataFrame) -> None:
        """The store of `table`, which was read from `folder`.

        `table` has a row a slice, inferior to superior in each volume: `volume_id`, `sop_uid`,
        `slice_index`, `z_mm`, `group_id`, `fold` and labels.
        """
        self.folder, self.table = folder, table

    @cached_property
    def _sha256(self) -> str:
        return hashlib.sha256(self.table.to_csv(index=False).encode()).hexdigest()

    @property
    def identity(self) -> list[str]:
        return [self._sha256]


def read_sequences(config: Config) -> SequenceStore:
    """The label sequences that `source.path` names, in folds of patients.

    Of slices at one position the first is kept. Where `simulation.bleeding_share` is set, series
    that bleed are left out by chance until they have that share.

    Raises:
        DataError: there is no such table, or it lacks a column or holds other values.
    """
    if config.source.path is None:
        raise DataError(
            "source.path is not set: name the folder of series.csv.gz, the table of label sequences"
        )
    path = Path(config.source.path)
    table = _read(path / FILE if path.is_dir() else path)
    rng = stream(config.seed, "sequences")
    series = _chosen(table, config.simulation.bleeding_share, rng)
    table = table[table["series"].isin(series)]

    names = {number: f"{number:06d}" for number in series}
    table = pd.DataFrame(
        {
            "volume_id": table["series"].map(names),
            "group_id": table["patient"].astype(str),
            "slice_index": table.groupby("series").cumcount(),
            "z_mm": table["z_mm"].astype(float),
            **{label: table[label].astype(np.float32) for label in LABELS},
        }
    )
    table["sop_uid"] = table["volume_id"] + "." + table["slice_index"].astype(str)
    return SequenceStore(path, table.assign(fold=_folds(table, config)).reset_index(drop=True))


def _read(path: Path) -> pd.DataFrame:
    """The checked table, slices inferior to superior and each position once."""
    try:
        table = pd.read_csv(path)
    except FileNotFoundError:
        raise DataError(f"there is no table of label sequences {path}") from None
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} is no table of label sequences: {error}") from None
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise DataError(
            f"{path} lacks the column {missing[0]}: a table of label sequences has the columns "
            f"{', '.join(COLUMNS)}, a row a slice"
        )
    values = table[[*LABELS]].to_numpy()
    if not np.isin(values, (0, 1)).all() or not pd.api.types.is_numeric_dtype(table["z_mm"]):
        raise DataError(f"{path}: labels must be 0 or 1, and z_mm a number")
    if not (table[list(SUBTYPES)].max(axis=1) == table[ANY]).all():
        raise DataError(f"{path}: any must be 1 in the slices that have a subtype, and there alone")
    table = table.sort_values(["series", "z_mm"], kind="stable")
    return table.drop_duplicates(["series", "z_mm"])


def _chosen(table: pd.DataFrame, share: float | None, rng: np.random.Generator) -> list[int]:
    """The series to take, sorted."""
    bleeds = table.groupby("series")[ANY].max() > 0
    with_bleed, without = bleeds.index[bleeds], bleeds.index[~bleeds]
    if share is None:
        return sorted(bleeds.index)
    count = min(len(with_bleed), round(len(without) * share / (1 - share)))
    return sorted([*without, *rng.choice(with_bleed, count, replace=False)])


def _folds(table: pd.DataFrame, config: Config) -> pd.Series:
    """The fold of each slice; patients stay together."""
    occurring = table.groupby("group_id")[list(LABELS)].max()
    bleeds = dict(zip(occurring.index, occurring.to_numpy(float), strict=True))
    if len(bleeds) < config.prepare.folds:
        raise DataError(f"{len(bleeds)} patients are too few for {config.prepare.folds} folds")
    fold_of = assign_folds(bleeds, config.prepare.folds, stream(config.seed, "folds"))
    return table["group_id"].map(fold_of)
