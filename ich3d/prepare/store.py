"""The prepared store, which all training reads: one compressed file a series, and tables.

    <folder>/
      <volume_id>.b2nd   HU int16 (Z, H, W), a chunk a slice, with the series' metadata (blosc2)
      slices.csv         a row a slice: keys, position, patient group, fold and labels
      meta.json          the grid, and what the training set is like

A file needs no other file to be read, so an interrupted preparation continues where it stopped.
`slices.csv` and `meta.json` are written last and make the store complete.

A file holds a checksum of its metadata and of the pixels of each slice, and `meta.json` the hash of
`slices.csv`: the codec does not notice a changed byte. What is read is checked.
"""

import hashlib
import json
import logging
import re
import zlib
from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from ich3d.config.root import Config
from ich3d.config.schema import PrepareConfig
from ich3d.core.errors import DataError, suggestion
from ich3d.core.issues import join
from ich3d.core.labels import LABELS
from ich3d.core.path_arguments import as_path
from ich3d.core.seeds import stream
from ich3d.core.types import PreparedSeries, SeriesMetadata
from ich3d.core.workspace import file_sha256, read_csv, read_json, replacing, write_csv, write_json
from ich3d.prepare.folds import subsample_groups
from ich3d.prepare.hu_features import coarsening
from ich3d.prepare.metadata_json import metadata_from_json, metadata_to_json
from ich3d.prepare.series_fingerprint import (
    SeriesFingerprint,
    fingerprint_from_json,
    fingerprint_to_json,
)

log = logging.getLogger(__name__)

OPEN_STORE: Final = "; open a prepared store with ich3d.prepare.store.Store(folder)"
"""End of a message about what is no store."""

FORMAT = 2
"""Version of the store. Raised when a series is prepared or stored in another way."""

_METADATA: Final = "ich3d"
_CHECKSUM: Final = "crc32"
"""Names of what a series' file holds beside its pixels: its metadata, and their checksum."""

_PIXELS: Final = "pixels_crc32"
"""The key of the metadata that holds a checksum of each slice."""

_FINGERPRINT: Final = "fingerprint"
"""What else a file holds, for the fingerprint of the data set alone."""

_SLICES: Final = "slices_sha256"
"""The key of `meta.json` that holds the hash of `slices.csv`."""

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
    facts = {"format": FORMAT, "pixel_mm": config.pixel_mm, "matrix": config.matrix}
    step = coarsening(config.pixel_mm)
    if step > 1:  # new in version 0.3; elsewhere the hash is as it was
        facts["features_step"] = step
    text = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def plain_name(uid: str) -> str:
    """`uid` as a file name without suffix: unchanged where that is safe, else its sha256."""
    if re.fullmatch(r"[\w-][\w.-]{0,120}", uid):
        return uid
    return hashlib.sha256(uid.encode()).hexdigest()


def series_file(folder: Path, volume_id: str) -> Path:
    """The file of one series; its name is `plain_name` of the volume_id."""
    return folder / f"{plain_name(volume_id)}.b2nd"


def write_series(
    folder: Path, series: PreparedSeries, fingerprint: SeriesFingerprint | None = None
) -> None:
    """Write one series to the store in `folder`, atomically, with its part of the fingerprint."""
    array = compressed(series.hu)
    tree = metadata_to_json(series)
    text = json.dumps({**tree, _PIXELS: [_checksum(hu) for hu in series.hu]})
    array.schunk.vlmeta[_METADATA] = text
    array.schunk.vlmeta[_CHECKSUM] = zlib.crc32(text.encode())
    if fingerprint is not None:
        array.schunk.vlmeta[_FINGERPRINT] = _signed(fingerprint_to_json(fingerprint))

    # Not by the library itself, which does not say why a file cannot be written.
    with replacing(series_file(folder, series.volume_id)) as partial:
        partial.write_bytes(array.to_cframe())

    _open.cache_clear()  # this process may have an older file of this name open


def compressed(hu: np.ndarray) -> Any:
    """HU (Z, H, W) as a `blosc2.NDArray` with a chunk a slice.

    Higher levels take much longer and save little; with bits shuffled instead of bytes, CT-ICH
    takes more room.
    """
    blosc2 = _blosc2()
    cparams = {
        "codec": blosc2.Codec.ZSTD,
        "clevel": 1,
        "filters": [blosc2.Filter.SHUFFLE],
        "nthreads": 1,
    }
    return blosc2.asarray(hu, chunks=(1, *hu.shape[1:]), cparams=cparams, contiguous=True)


def read_metadata(folder: Path, volume_id: str) -> SeriesMetadata | None:
    """The metadata of a stored series; None where it has no file, or one of an earlier version.

    DataError where the file is damaged.
    """
    path = series_file(folder, volume_id)
    if not path.exists():
        return None
    tree = _open(path).tree
    if "hu_features" not in tree:  # new in version 0.3
        return None
    return metadata_from_json(tree)


def read_fingerprint(folder: Path, volume_id: str) -> SeriesFingerprint | None:
    """What a stored series adds to the fingerprint of its data set; None where its file is of an
    earlier version. DataError where the file is missing or damaged.
    """
    path = series_file(folder, volume_id)
    file = _open(path)  # the library needs it as long as its metadata are read
    vlmeta = file.array.schunk.vlmeta
    if _FINGERPRINT not in vlmeta:  # new in version 0.3
        return None
    try:
        tree = _verified(vlmeta[_FINGERPRINT])
    except Exception:  # as in `_open`
        raise _damaged(path) from None
    if tree is None:
        raise _damaged(path)
    return fingerprint_from_json(tree)


def require_metadata(folder: Path, volume_id: str) -> SeriesMetadata:
    """The metadata of a stored series. DataError where its file is missing or too old."""
    metadata = read_metadata(folder, volume_id)
    if metadata is None:
        path = series_file(folder, volume_id)
        raise DataError(f"{path} is missing, or of an earlier version: run `ich3d prepare`")
    return metadata


def read_undamaged(folder: Path, volume_id: str) -> SeriesMetadata | None:
    """The metadata of a stored series after a check of its whole file; None where it has to be
    prepared again: it has no file, one of an earlier version, or a damaged one.
    """
    path = series_file(folder, volume_id)
    try:
        metadata = read_metadata(folder, volume_id)
        if metadata is not None:
            _read_hu(path, 0, None)
    except DataError:
        log.warning("%s is damaged, and is prepared again", path)
        return None
    return metadata


def read_slice(folder: Path, volume_id: str, index: int) -> np.ndarray:
    """HU int16 (H, W) of one slice of a stored series. DataError where the file is damaged."""
    return np.asarray(_read_hu(series_file(folder, volume_id), index, index + 1)[0])


def require_fingerprint(folder: Path, volume_id: str) -> SeriesFingerprint:
    """What a stored series adds to the fingerprint. DataError where its file is damaged or old."""
    fingerprint = read_fingerprint(folder, volume_id)
    if fingerprint is None:
        raise _damaged(series_file(folder, volume_id))
    return fingerprint


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
        self.meta: dict[str, Any] = _read_meta(folder)
        self.table = read_csv(folder / "slices.csv", text=_TEXT)

    @classmethod
    def finish(cls, folder: Path, table: pd.DataFrame, meta: dict[str, Any]) -> "Store":
        """Complete the store in `folder` with its table of slices and `meta.json`, and open it."""
        write_csv(folder / "slices.csv", table)
        write_json(folder / "meta.json", {**meta, _SLICES: file_sha256(folder / "slices.csv")})
        return cls(folder)

    @property
    def identity(self) -> list[str]:
        """Hashes of `slices.csv` and of the preprocessing: they change where the content does."""
        return [file_sha256(self.folder / "slices.csv"), str(self.meta["preprocessing_sha256"])]

    def without(self, fold: int) -> "Store":
        """The same store without the volumes of `fold`."""
        rest = copy(self)
        rest.table = self.table[self.table["fold"] != fold]
        for cached in ("groups", "folds", "_rows", "_targets", "_z_mm"):
            rest.__dict__.pop(cached, None)
        return rest

    @property
    def volume_ids(self) -> list[str]:
        """The volumes it holds, sorted."""
        return list(self._rows)

    @cached_property
    def groups(self) -> dict[str, str]:
        """Patient group of each volume; patients of one group stay in one fold."""
        groups = self.table["group_id"].to_numpy()
        return {name: str(groups[rows[0]]) for name, rows in self._rows.items()}

    @cached_property
    def folds(self) -> dict[str, int]:
        """Fold of each volume."""
        folds = self.table["fold"].to_numpy()
        return {name: int(folds[rows[0]]) for name, rows in self._rows.items()}

    def hu(self, volume_id: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """HU int16 (stop - start, H, W) of consecutive slices of one volume; only they are read.

        DataError where the file is missing or damaged.
        """
        self._rows_of(volume_id)
        return _read_hu(series_file(self.folder, volume_id), start, stop)

    def targets(self, volume_id: str) -> np.ndarray:
        """Labels float32 (Z, K) of one volume, 0 or 1, NaN where there is no label."""
        targets: np.ndarray = self._targets[self._rows_of(volume_id)]
        return targets

    def z_mm(self, volume_id: str) -> np.ndarray:
        """Slice positions float64 (Z,) of one volume in mm, inferior to superior."""
        z_mm: np.ndarray = self._z_mm[self._rows_of(volume_id)]
        return z_mm

    def hu_features(self, volume_id: str) -> np.ndarray:
        """What HU say of each slice of one volume, float32 (Z, F); see `prepare.hu_features`."""
        return self.metadata(volume_id).hu_features

    def metadata(self, volume_id: str) -> SeriesMetadata:
        """One volume without its pixels. DataError where its file is missing or too old."""
        self._rows_of(volume_id)
        return require_metadata(self.folder, volume_id)

    def series(self, volume_id: str) -> PreparedSeries:
        """One volume with its metadata and all its pixels; DataError as in `metadata`."""
        return PreparedSeries(**vars(self.metadata(volume_id)), hu=self.hu(volume_id))

    @cached_property
    def _rows(self) -> dict[str, np.ndarray]:
        """Where in the table the slices (Z,) of each volume are; volumes are sorted.

        Together with the arrays below, a volume is found without a table of its own: those of
        20,000 volumes take minutes.
        """
        indices = self.table.groupby("volume_id").indices
        return dict(sorted((str(name), np.asarray(rows)) for name, rows in indices.items()))

    @cached_property
    def _targets(self) -> np.ndarray:
        """Labels float32 (N, K) of all slices."""
        return self.table[list(LABELS)].to_numpy(np.float32)

    @cached_property
    def _z_mm(self) -> np.ndarray:
        """Positions float64 (N,) of all slices."""
        return self.table["z_mm"].to_numpy(np.float64)

    def _rows_of(self, volume_id: str) -> np.ndarray:
        """Where in the table the slices of one volume are. DataError where it has none."""
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


@dataclass(frozen=True)
class _OpenFile:
    """An open file of the store: its blosc2 array (Z, H, W) and its metadata as JSON has it."""

    array: Any
    tree: dict[str, Any]


@lru_cache(maxsize=512)
def _open(path: Path) -> _OpenFile:
    """The file at `path`, kept open. DataError where it is missing or damaged."""
    blosc2 = _blosc2()
    if not path.exists():
        raise DataError(f"{path} is missing: run `ich3d prepare`, which writes it again")
    try:
        array = blosc2.open(str(path), mode="r", dparams={"nthreads": 1})
        text = array.schunk.vlmeta[_METADATA]
        # Files of earlier versions have no checksums.
        vlmeta = array.schunk.vlmeta
        is_whole = _CHECKSUM not in vlmeta or vlmeta[_CHECKSUM] == zlib.crc32(text.encode())
        tree = json.loads(text)
    except Exception:  # on damaged bytes the library raises many kinds of exceptions
        raise _damaged(path) from None
    if not is_whole:
        raise _damaged(path)
    return _OpenFile(array, tree)


def _read_hu(path: Path, start: int, stop: int | None) -> np.ndarray:
    """HU int16 (stop - start, H, W) of a file, after a check of these slices."""
    file = _open(path)
    try:
        hu = np.asarray(file.array[start:stop])
    except Exception:  # as in `_open`
        raise _damaged(path) from None
    expected = file.tree.get(_PIXELS)
    if expected is not None and [_checksum(pixels) for pixels in hu] != expected[start:stop]:
        raise _damaged(path)
    return hu


def _signed(tree: dict[str, Any]) -> str:
    """`tree` as JSON after its CRC-32."""
    text = json.dumps(tree)
    return f"{zlib.crc32(text.encode()):08x}{text}"


def _verified(signed: str) -> dict[str, Any] | None:
    """The tree that `_signed` made a text of; None where the text was changed."""
    checksum, text = signed[:8], signed[8:]
    if checksum != f"{zlib.crc32(text.encode()):08x}":
        return None
    tree: dict[str, Any] = json.loads(text)
    return tree


def _checksum(pixels: np.ndarray) -> int:
    """CRC-32 of the pixels int16 (H, W) of one slice, which costs less than unpacking them."""
    return zlib.crc32(np.ascontiguousarray(pixels, dtype="<i2").data)


def _damaged(path: Path) -> DataError:
    _open.cache_clear()  # so that the file is read anew once it is mended
    return DataError(
        f"{path} is damaged or was changed: run `ich3d prepare`, which writes it again"
    )


def _read_meta(folder: Path) -> dict[str, Any]:
    """`meta.json` of a complete store. DataError where it or `slices.csv` is damaged."""
    meta: Any = read_json(folder / "meta.json")
    table = folder / "slices.csv"
    if not isinstance(meta, dict) or "preprocessing_sha256" not in meta:
        raise _damaged(folder / "meta.json")
    if not table.is_file():
        raise DataError(f"{table} is missing: run `ich3d prepare`, which writes it again")
    if _SLICES in meta and file_sha256(table) != meta[_SLICES]:  # earlier versions have no hash
        raise _damaged(table)
    return meta


@cache
def _blosc2() -> Any:
    """The library, which takes a while to load, without threads of its own.

    A process that a DataLoader forks off has no copy of its parent's threads, and would wait for
    them for ever.
    """
    import blosc2

    blosc2.set_nthreads(1)
    return blosc2
