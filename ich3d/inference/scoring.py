"""Studies in, six probabilities a slice out: found, read, and scored one series after the other.

While the network scores one series, a thread reads and prepares the next.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from ich3d.config.schema import PrepareConfig
from ich3d.core.errors import DataError, suggestion
from ich3d.core.issues import IssueCode
from ich3d.core.progress import Progress, quiet
from ich3d.core.types import DroppedSlice, FileRef, LeftOut, Rejected, Series, SliceKey
from ich3d.dicom.assembly.grouping import Policy
from ich3d.dicom.geometry import normal
from ich3d.dicom.index import STRICT, Index, index_all
from ich3d.dicom.validate import check_siblings, leave_out_undecodable
from ich3d.model.folder import Model
from ich3d.prepare.build import prepare_series
from ich3d.prepare.store import StoredSeries

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class DroppedRow:
    """A slice that was left out of its series as flawed: why, and what its file tells. `sop_uid` is empty and
    `z_mm`, in the frame of the scored slices', None where it does not."""

    sop_uid: str
    frame: int | None
    z_mm: float | None
    code: IssueCode


@dataclass(frozen=True)
class SeriesPrediction:
    """One scored series: its facts, the file of each of its slices, its pixels on the model's grid, and
    `prob[stage]` float32 (Z, K). Slices run inferior to superior; `unscored` are no part of them."""

    stored: StoredSeries
    files: tuple[FileRef, ...]
    hu: np.ndarray
    prob: dict[str, np.ndarray]
    out_of_range: tuple[str, ...]
    unscored: tuple[DroppedRow, ...] = ()


@dataclass(frozen=True)
class Prediction:
    """All that was found: scored series, and what was rejected or left out."""

    series: tuple[SeriesPrediction, ...]
    rejected: tuple[Rejected, ...]
    left_out: tuple[LeftOut, ...]
    n_files: int


def find(paths: Sequence[Path], progress: Progress = quiet, policy: Policy = STRICT) -> Index:
    """Every CT series below `paths`, those of a study together. DataError where there is no such path."""
    found = index_all(
        [path.absolute() for path in paths], lambda files: progress(files, "headers"), policy
    )
    if policy.lenient:
        found = leave_out_undecodable(
            found, lambda series: progress(series, "decode", len(found.series))
        )
    found = check_siblings(found)
    return replace(
        found, series=tuple(sorted(found.series, key=lambda one: (study_of(one), one.volume_id)))
    )


def study_of(series: Series | StoredSeries) -> str:
    """What the series of one study share; a series that names no study is one by itself."""
    return series.study_uid or series.volume_id


def stream(model: Model, series: Iterable[Series]) -> Iterator[SeriesPrediction | Rejected]:
    """Each of `series` scored, or why it is refused, in their order. Nothing is kept of what was yielded."""
    for made in _ahead(partial(_prepared, config=model.config.prepare), series):
        yield made if isinstance(made, Rejected) else _scored(model, *made)


def predict(
    model: Model, *paths: Path | str, progress: Progress = quiet, policy: Policy = STRICT
) -> Prediction:
    """Score every head CT series below `paths` and keep their pixels; nothing is written.

    For one study or a few: `stream` holds one series at a time. DataError where there is no such path.
    """
    return _all(model, find([Path(path) for path in paths], progress, policy), progress)


def predict_one(
    model: Model, path: Path, uid: str | None, progress: Progress = quiet
) -> Prediction:
    """Score the only head CT series below `path`, or the one that `uid` names (a series or a volume).

    DataError where several are there to choose from, or none of that name.
    """
    found = find([path], progress)
    known = [one.volume_id for one in found.series]
    chosen = tuple(one for one in found.series if uid in (None, one.series_uid, one.volume_id))
    asked = (
        () if uid is None else (uid, uid.rpartition("-")[0])
    )  # of several volumes each has a number
    refused = tuple(item for item in found.rejected if uid is None or item.subject in asked)
    if len(chosen) > 1:
        raise DataError(
            f"{path} holds {len(chosen)} series; name one of them, such as {chosen[0].volume_id}"
        )
    if uid is not None and known and not chosen and not refused:
        raise DataError(f"no series {uid} in {path}{suggestion(uid, known)}")
    return _all(model, replace(found, series=chosen, rejected=refused), progress)


def _all(model: Model, found: Index, progress: Progress) -> Prediction:
    items = list(progress(stream(model, found.series), "series", total=len(found.series)))
    return Prediction(
        series=tuple(item for item in items if isinstance(item, SeriesPrediction)),
        rejected=(*found.rejected, *(item for item in items if isinstance(item, Rejected))),
        left_out=found.left_out,
        n_files=found.n_files,
    )


def _ahead(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """`work` of each item in order; a thread does the next one while the caller has this one."""
    pool = ThreadPoolExecutor(1)
    try:
        waiting: deque[Future[R]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


_Ready = tuple[Series, StoredSeries, np.ndarray]


def _prepared(series: Series, config: PrepareConfig) -> _Ready | Rejected:
    try:
        made = prepare_series(series, config)
    except OSError as error:  # it was there when headers were read
        told = f"{series.paths[0]} and others can no longer be read ({error.strerror})"
        return Rejected(series.volume_id, IssueCode.UNREADABLE, told, series.paths)
    return made if isinstance(made, Rejected) else (series, *made)


def _scored(model: Model, series: Series, stored: StoredSeries, hu: np.ndarray) -> SeriesPrediction:
    files = {SliceKey(h.sop_uid, h.frame, h.file.name): h.file for h in series.headers}
    return SeriesPrediction(
        stored=stored,
        files=tuple(files[key] for key in stored.keys),
        hu=hu,
        prob=model.score(hu, np.array(stored.z_mm)),
        out_of_range=_out_of_range(stored, model),
        unscored=tuple(_unscored(series, lost) for lost in series.lost),
    )


def _unscored(series: Series, lost: DroppedSlice) -> DroppedRow:
    """`lost` with its height, which grows toward superior as that of the scored slices does."""
    along = normal(series)
    upward = -along if along[2] < 0 else along
    z_mm = None if lost.position_mm is None else float(np.dot(lost.position_mm, upward))
    return DroppedRow(lost.sop_uid, lost.frame, z_mm, lost.code)


def _out_of_range(stored: StoredSeries, model: Model) -> tuple[str, ...]:
    """Which facts of the series lie outside what the training set held."""
    names = []
    for name, (low, _, high) in model.fingerprint["ranges"].items():
        value = stored.facts.get(name)
        if value is not None and not low - 1e-6 <= value <= high + 1e-6:
            names.append(name)
    return tuple(sorted(names))
