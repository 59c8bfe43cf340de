"""The prepared store: one compressed file a series, a chunk a slice, and one table of slices.

Each file holds its own keys, positions and hashes, so an interrupted preparation goes on where it
stopped; `slices.csv` and `meta.json` are written last and make the store whole.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import pandas as pd

from ich3d.config.root import Config
from ich3d.config.schema import PrepareConfig
from ich3d.core.errors import DataError
from ich3d.core.labels import LABELS
from ich3d.core.seeds import stream
from ich3d.core.types import PreparedSeries, SliceKey
from ich3d.core.workspace import read_csv, read_json, replacing, write_csv, write_json
from ich3d.prepare.folds import subsample_groups

FORMAT = 2
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


def preprocessing_sha256(config: PrepareConfig) -> str:
    """What a model must find unchanged in the data it is given: the grid and this store's format."""
    text = json.dumps(
        {"format": FORMAT, "pixel_mm": config.pixel_mm, "matrix": config.matrix}, sort_keys=True
    )
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class StoredSeries:
    """What the file of one series tells beside its pixels; lists run over slices, inferior first.
    `files` is a digest of the DICOM files it was made of."""

    volume_id: str
    series_uid: str
    study_uid: str
    patient_id: str
    preprocessing: str
    files: str
    z_mm: list[float]
    keys: list[SliceKey]
    hashes: list[str]
    codes: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    def rows(self) -> pd.DataFrame:
        """One row a slice, without group, fold and labels."""
        return pd.DataFrame(
            {
                "volume_id": self.volume_id,
                "series_uid": self.series_uid,
                "study_uid": self.study_uid,
                "patient_id": self.patient_id,
                "slice_index": range(len(self.keys)),
                "z_mm": self.z_mm,
                "sop_uid": [key.sop_uid for key in self.keys],
                "frame": pd.array([key.frame for key in self.keys], dtype="Int64"),
                "path": [key.path for key in self.keys],
                "hash": self.hashes,
                "codes": self.codes,
            }
        )


def plain_name(uid: str) -> str:
    """`uid` as a file name, without a suffix: itself where it is a plain one, else its hash."""
    return (
        uid
        if re.fullmatch(r"[\w-][\w.-]{0,120}", uid)
        else hashlib.sha256(uid.encode()).hexdigest()
    )


def series_file(folder: Path, volume_id: str) -> Path:
    """The file of one series. A volume_id that is no plain file name is replaced by its hash."""
    return folder / f"{plain_name(volume_id)}.b2nd"


def write_series(folder: Path, stored: StoredSeries, hu: np.ndarray) -> None:
    """Write `hu` int16 (Z, H, W) and its facts as one file, whole or not at all."""
    cparams = {
        "codec": blosc2.Codec.ZSTD,
        "clevel": 5,
        "filters": [blosc2.Filter.BITSHUFFLE],
        "nthreads": 1,
    }
    with replacing(series_file(folder, stored.volume_id)) as partial:
        array = blosc2.asarray(
            hu, chunks=(1, *hu.shape[1:]), urlpath=str(partial), mode="w", cparams=cparams
        )
        array.schunk.vlmeta["ich3d"] = json.dumps(stored.__dict__)
    _open.cache_clear()  # a file of this name may have been open


def read_stored(folder: Path, volume_id: str) -> StoredSeries | None:
    """What the file of a series tells, or None where there is none yet."""
    path = series_file(folder, volume_id)
    if not path.exists():
        return None
    facts = json.loads(_open(path).schunk.vlmeta["ich3d"])
    return StoredSeries(**{**facts, "keys": [SliceKey(*key) for key in facts["keys"]]})


@lru_cache(maxsize=512)
def _open(path: Path) -> Any:
    return blosc2.open(str(path), mode="r")


class Store:
    """A whole store, opened for reading."""

    def __init__(self, folder: Path) -> None:
        if not (folder / "meta.json").exists():
            raise DataError(f"{folder} is no prepared store: run `ich3d prepare` first")
        self.folder = folder
        self.meta: dict[str, Any] = read_json(folder / "meta.json")
        self.table = read_csv(folder / "slices.csv", text=_TEXT)
        self._rows = {str(name): rows for name, rows in self.table.groupby("volume_id", sort=True)}

    @property
    def identity(self) -> list[str]:
        """Hashes of what it holds and of how that was prepared."""
        held = hashlib.sha256((self.folder / "slices.csv").read_bytes()).hexdigest()
        return [held, str(self.meta["preprocessing_sha256"])]

    @classmethod
    def finish(cls, folder: Path, table: pd.DataFrame, meta: dict[str, Any]) -> "Store":
        """Make the store whole: the table of slices and what it was made with."""
        write_csv(folder / "slices.csv", table)
        write_json(folder / "meta.json", meta)
        return cls(folder)

    def without(self, fold: int) -> "Store":
        """The same store less one fold."""
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
        return list(self._rows)

    @cached_property
    def groups(self) -> dict[str, str]:
        """Group of each volume."""
        return {name: str(rows["group_id"].iloc[0]) for name, rows in self._rows.items()}

    @cached_property
    def folds(self) -> dict[str, int]:
        """Fold of each volume."""
        return {name: int(rows["fold"].iloc[0]) for name, rows in self._rows.items()}

    def bleeds(self, volume_ids: Iterable[str]) -> dict[str, np.ndarray]:
        """Labels (K,) that occur in each labelled group of these volumes, 0 or 1."""
        found: dict[str, np.ndarray] = {}
        for name in volume_ids:
            targets, group = self.targets(name), self.groups[name]
            if not np.isnan(targets).all():
                found[group] = np.maximum(found.get(group, 0), np.nan_to_num(targets).max(axis=0))
        return found

    def hu(self, volume_id: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """HU int16 (stop - start, H, W) of some slices of one series."""
        return np.asarray(_open(series_file(self.folder, volume_id))[start:stop])

    def targets(self, volume_id: str) -> np.ndarray:
        """Labels float32 (Z, K), NaN where there is none."""
        return self._rows[volume_id][list(LABELS)].to_numpy(np.float32)

    def z_mm(self, volume_id: str) -> np.ndarray:
        """Positions (Z,) in mm."""
        return self._rows[volume_id]["z_mm"].to_numpy(np.float64)

    def series(self, volume_id: str) -> PreparedSeries:
        """One series, whole."""
        rows = self._rows[volume_id]
        first = rows.iloc[0]
        frames = [None if pd.isna(frame) else int(frame) for frame in rows["frame"]]
        return PreparedSeries(
            volume_id=volume_id,
            series_uid=str(first["series_uid"]),
            study_uid=str(first["study_uid"]),
            group_id=str(first["group_id"]),
            fold=int(first["fold"]),
            pixel_mm=float(self.meta["pixel_mm"]),
            hu=self.hu(volume_id),
            z_mm=self.z_mm(volume_id),
            keys=tuple(map(SliceKey, rows["sop_uid"], frames, rows["path"])),
            targets=self.targets(volume_id),
            codes=str(first["codes"]),
        )

    def __iter__(self) -> Iterator[PreparedSeries]:
        return (self.series(volume_id) for volume_id in self.volume_ids)


def training_volumes(store: Store, config: Config, fold: int) -> list[str]:
    """The volumes that models of `fold` are fitted on: all of the other folds, or, where the config's
    controls say so, those of some of their patients, as many from each fold and always the same."""
    outside = [name for name, own in store.folds.items() if own != fold]
    if config.control.patients is None:
        return outside
    others = sorted(set(store.folds.values()) - {fold})
    share = config.control.patients // len(others)
    chosen: set[str] = set()
    for other in others:
        own = [name for name in outside if store.folds[name] == other]
        chosen |= set(
            subsample_groups(store.bleeds(own), share, stream(config.seed, "patients", other))
        )
    return [name for name in outside if store.groups[name] in chosen]
