"""The prepared store, which all training reads: one compressed file a series, and tables.

    <folder>/
      <volume_id>.b2nd   HU int16 (Z, H, W), a chunk a slice, with the series' metadata (blosc2)
      slices.csv         a row a slice: keys, position, patient group, fold and labels
      meta.json          the grid, and what the training set is like

A file needs no other file to be read, so an interrupted preparation continues where it stopped.
`slices.csv` and `meta.json` are written last and make the store complete.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from copy import copy
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from ich3d.config.root import Config
from ich3d.config.schema import PrepareConfig
from ich3d.core.arguments import as_path
from ich3d.core.errors import DataError, suggestion
from ich3d.core.issues import join
from ich3d.core.labels import LABELS
from ich3d.core.seeds import stream
from ich3d.core.types import PreparedSeries, SeriesMetadata
from ich3d.core.workspace import read_csv, read_json, replacing, write_csv, write_json
from ich3d.prepare.folds import subsample_groups
from ich3d.prepare.metadata_json import metadata_from_json, metadata_to_json

OPEN_STORE: Final = "; open a prepared store with ich3d.prepare.store.Store(folder)"
"""End of a message about what is no store."""

FORMAT = 2
"""Version of the store. Raised when a series is prepared or stored in another way."""

_TEXT = (
    "volume_id",
    "series_uid",
    "study_uid",
    "patient_id",
    "group_id",
    "sop_uid",
    "path",
    "hash",
    "codes",
)
"""The columns of `slices.csv` that are text."""


def preprocessing_sha256(config: PrepareConfig) -> str:
    """Hash of the grid and the store format: a model accepts only data prepared with the same."""
    text = json.dumps(
        {"format": FORMAT, "pixel_mm": config.pixel_mm, "matrix": config.matrix}, sort_keys=True
    )
    return hashlib.sha256(text.encode()).hexdigest()


def plain_name(uid: str) -> str:
    """`uid` as a file name without suffix: unchanged where that is safe, else its sha256."""
    if re.fullmatch(r"[\w-][\w.-]{0,120}", uid):
        return uid
    return hashlib.sha256(uid.encode()).hexdigest()


def series_file(folder: Path, volume_id: str) -> Path:
    """The file of one series; its name is `plain_name` of the volume_id."""
    return folder / f"{plain_name(volume_id)}.b2nd"


def write_series(folder: Path, series: PreparedSeries) -> None:
    """Write one series to the store in `folder`, atomically."""
    import blosc2  # takes a while to load, and a prediction needs no store

    cparams = {
        "codec": blosc2.Codec.ZSTD,
        "clevel": 5,
        "filters": [blosc2.Filter.BITSHUFFLE],
        "nthreads": 1,
    }
    with replacing(series_file(folder, series.volume_id)) as partial:
        array = blosc2.asarray(
            series.hu,
            chunks=(1, *series.hu.shape[1:]),
            urlpath=str(partial),
            mode="w",
            cparams=cparams,
        )
        array.schunk.vlmeta["ich3d"] = json.dumps(metadata_to_json(series))

    _open.cache_clear()  # this process may have an older file of this name open


def read_metadata(folder: Path, volume_id: str) -> SeriesMetadata | None:
    """The metadata of a stored series; None where it has no file, or one of an earlier version."""
    path = series_file(folder, volume_id)
    tree = json.loads(_open(path).schunk.vlmeta["ich3d"]) if path.exists() else None
    if tree is None or "hu_features" not in tree:  # new in version 0.3
        return None
    return metadata_from_json(tree)


def slice_rows(series: SeriesMetadata) -> pd.DataFrame:
    """The rows of one series in the store's `slices.csv`, without group, fold and labels."""
    return pd.DataFrame(
        {
            "volume_id": series.volume_id,
            "series_uid": series.series_uid,
            "study_uid": series.study_uid,
            "patient_id": series.patient_id,
            "slice_index": range(len(series)),
            "z_mm": series.z_mm,
            "sop_uid": [key.sop_uid for key in series.keys],
            "frame": pd.array([key.frame for key in series.keys], dtype="Int64"),
            "path": [key.path for key in series.keys],
            "hash": list(series.slice_hashes),
            "codes": join(issue.code for issue in series.issues),
        }
    )


class Store:
    """A complete store, opened for reading.

    Attributes:
        folder: where it lies.
        meta: the content of `meta.json`.
        table: `slices.csv`, a row a slice.
    """

    def __init__(self, folder: Path | str) -> None:
        """Open the store in `folder`. DataError where there is none, or an incomplete one."""
        folder = as_path("folder", folder)
        if not (folder / "meta.json").exists():
            raise DataError(f"{folder} is no prepared store: run `ich3d prepare` first")
        self.folder = folder
        self.meta: dict[str, Any] = read_json(folder / "meta.json")
        self.table = read_csv(folder / "slices.csv", text=_TEXT)
        self._rows = {str(name): rows for name, rows in self.table.groupby("volume_id", sort=True)}

    @classmethod
    def finish(cls, folder: Path, table: pd.DataFrame, meta: dict[str, Any]) -> "Store":
        """Complete the store in `folder` with its table of slices and `meta.json`, and open it."""
        write_csv(folder / "slices.csv", table)
        write_json(folder / "meta.json", meta)
        return cls(folder)

    @property
    def identity(self) -> list[str]:
        """Hashes of `slices.csv` and of the preprocessing: they change where the content does."""
        content = hashlib.sha256((self.folder / "slices.csv").read_bytes()).hexdigest()
        return [content, str(self.meta["preprocessing_sha256"])]

    def without(self, fold: int) -> "Store":
        """The same store without the volumes of `fold`."""
        rest = copy(self)
        rest.table = self.table[self.table["fold"] != fold]
        rest._rows = {
            name: rows for name, rows in self._rows.items() if rows["fold"].iloc[0] != fold
        }

        for cached in ("groups", "folds"):
            rest.__dict__.pop(cached, None)
        return rest

    @property
    def volume_ids(self) -> list[str]:
        """The volumes it holds, sorted."""
        return list(self._rows)

    @cached_property
    def groups(self) -> dict[str, str]:
        """Patient group of each volume; patients of one group stay in one fold."""
        return {name: str(rows["group_id"].iloc[0]) for name, rows in self._rows.items()}

    @cached_property
    def folds(self) -> dict[str, int]:
        """Fold of each volume."""
        return {name: int(rows["fold"].iloc[0]) for name, rows in self._rows.items()}

    def hu(self, volume_id: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """HU int16 (stop - start, H, W) of consecutive slices of one volume; only they are read."""
        self._rows_of(volume_id)
        return np.asarray(_open(series_file(self.folder, volume_id))[start:stop])

    def targets(self, volume_id: str) -> np.ndarray:
        """Labels float32 (Z, K) of one volume, 0 or 1, NaN where there is no label."""
        return self._rows_of(volume_id)[list(LABELS)].to_numpy(np.float32)

    def z_mm(self, volume_id: str) -> np.ndarray:
        """Slice positions float64 (Z,) of one volume in mm, inferior to superior."""
        return self._rows_of(volume_id)["z_mm"].to_numpy(np.float64)

    def hu_features(self, volume_id: str) -> np.ndarray:
        """What HU say of each slice of one volume, float32 (Z, F); see `prepare.hu_features`."""
        return self.metadata(volume_id).hu_features

    def metadata(self, volume_id: str) -> SeriesMetadata:
        """One volume without its pixels. DataError where its file is missing or too old."""
        self._rows_of(volume_id)
        metadata = read_metadata(self.folder, volume_id)
        if metadata is None:
            path = series_file(self.folder, volume_id)
            raise DataError(f"{path} is missing, or of an earlier version: run `ich3d prepare`")
        return metadata

    def series(self, volume_id: str) -> PreparedSeries:
        """One volume with its metadata and all its pixels; DataError as in `metadata`."""
        return PreparedSeries(**vars(self.metadata(volume_id)), hu=self.hu(volume_id))

    def _rows_of(self, volume_id: str) -> pd.DataFrame:
        """The rows of one volume. DataError where the store does not hold it."""
        if volume_id not in self._rows:
            ending = suggestion(str(volume_id), self.volume_ids)
            raise DataError(f"{self.folder} holds no volume {volume_id!r}{ending}")
        return self._rows[volume_id]

    def bleeds(self, volume_ids: Iterable[str]) -> dict[str, np.ndarray]:
        """Labels (K,) that occur in each patient group of these volumes, 0 or 1.

        Groups without any labelled slice are left out.
        """
        occurring: dict[str, np.ndarray] = {}
        for name in volume_ids:
            targets, group = self.targets(name), self.groups[name]
            if np.isnan(targets).all():
                continue
            in_volume = np.nan_to_num(targets).max(axis=0)  # (K,)
            occurring[group] = np.maximum(occurring.get(group, 0), in_volume)
        return occurring


def training_volumes(store: Store, config: Config, fold: int) -> list[str]:
    """The volumes on which the models of `fold` are trained: those of all other folds.

    With `control.patients` they are those of that many patient groups, drawn in equal number from
    each other fold; a larger number keeps the groups of a smaller one.
    """
    outside = [name for name, in_fold in store.folds.items() if in_fold != fold]
    if config.control.patients is None:
        return outside

    other_folds = sorted(set(store.folds.values()) - {fold})
    share = config.control.patients // len(other_folds)
    chosen: set[str] = set()
    for other in other_folds:
        members = [name for name in outside if store.folds[name] == other]
        rng = stream(config.seed, "patients", other)
        chosen |= set(subsample_groups(store.bleeds(members), share, rng))
    return [name for name in outside if store.groups[name] in chosen]


@lru_cache(maxsize=512)
def _open(path: Path) -> Any:
    """The blosc2 array in `path`, kept open."""
    import blosc2

    return blosc2.open(str(path), mode="r")
