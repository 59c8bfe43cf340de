"""Score head CT series in memory: find them, decode and prepare them, run the model.

While the network scores one series, a thread decodes and prepares the next. A process that keeps
its model loaded calls `predict` a study at a time, or `find` and `stream` for more control.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import numpy as np

from ich3d.config.schema import PrepareConfig
from ich3d.core.errors import DataError, suggestion
from ich3d.core.issues import IssueCode
from ich3d.core.progress import Progress, quiet
from ich3d.core.types import (
    DroppedSlice,
    FileRef,
    LeftOut,
    PreparedSeries,
    Rejected,
    Series,
    SeriesMetadata,
    SliceKey,
)
from ich3d.dicom.assembly.grouping import Policy
from ich3d.dicom.geometry import normal
from ich3d.dicom.index import STRICT, Index, index_all
from ich3d.dicom.validate import SeriesGroup, group_by_series_uid, leave_out_undecodable
from ich3d.model.folder import Model, load_model
from ich3d.prepare.build import prepare_group
from ich3d.prepare.tables import all_rejected

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class UnscoredSlice:
    """A slice that was left out of its series because its file cannot be used.

    Attributes:
        sop_uid: its SOPInstanceUID; empty where the file does not tell it.
        frame: its frame, None in a single-frame file.
        z_mm: its position in the frame of the scored slices' `z_mm`; None where not known.
        code: why it was left out.
    """

    sop_uid: str
    frame: int | None
    z_mm: float | None
    code: IssueCode


@dataclass(frozen=True)
class SeriesPrediction:
    """One scored series. Slices run inferior to superior.

    Attributes:
        series: the series as the model read it: pixels, positions, keys and issues.
        files: the DICOM file of each slice (Z,).
        prob: probabilities float32 (Z, K) by stage; `prob["stack"]` is the final answer.
        out_of_range: names of the acquisition's values that lie outside the training set's range.
        unscored: slices that were left out; they are in none of the arrays.
    """

    series: PreparedSeries
    files: tuple[FileRef, ...]
    prob: dict[str, np.ndarray]
    out_of_range: tuple[str, ...]
    unscored: tuple[UnscoredSlice, ...] = ()


@dataclass(frozen=True)
class Prediction:
    """All that was found below some paths: scored series, and what was rejected or left out.

    Attributes:
        series: one `SeriesPrediction` a scored series, the series of a study together.
        rejected: series and files that should have been scored and could not.
        left_out: files that are no part of a CT volume.
        n_files: number of files that were found.
    """

    series: tuple[SeriesPrediction, ...]
    rejected: tuple[Rejected, ...]
    left_out: tuple[LeftOut, ...]
    n_files: int


def predict(
    model: Model | Path | str,
    *paths: Path | str,
    progress: Progress = quiet,
    policy: Policy = STRICT,
) -> Prediction:
    """Score every head CT series below `paths` in memory; nothing is written.

    The result keeps the pixels of all scored series. For large folders use
    `inference.run.predict_to_folder`, which writes tables, or `stream`.

    Args:
        model: a loaded model, or the path of a model folder, which is then loaded for this call.
        *paths: folders, zips or DICOM files. A series may be spread over several of them.
        progress: shows how far reading and scoring are.
        policy: how strictly headers are read; `Policy(lenient=True)` scores a series without its
            unusable slices instead of rejecting it.

    Returns:
        The scored series, and what was rejected or left out, with the reasons.

    Raises:
        DataError: a path does not exist.
        ModelError: the model folder is missing, incomplete or changed.

    Example:
        >>> prediction = predict("runs/demo/model", "study")
        >>> (scored,) = prediction.series
        >>> scored.prob["stack"].shape == (len(scored.series.keys), 6)
        True
        >>> [rejected.detail for rejected in prediction.rejected]
        []
    """
    if not isinstance(model, Model):
        model = load_model(model)
    index = find([Path(path) for path in paths], progress, policy)
    return _predict(model, index, index.series, progress)


def predict_one(
    model: Model, path: Path, uid: str | None, progress: Progress = quiet
) -> Prediction:
    """Score the only head CT series below `path`, or the one that is named.

    Args:
        model: the model to score with.
        path: a folder, zip or DICOM file.
        uid: a SeriesInstanceUID or volume_id; None where `path` holds one series.
        progress: shows how far reading and scoring are.

    Raises:
        DataError: there are several series to choose from, or none is called `uid`.
    """
    index = find([path], progress)
    names = [series.volume_id for series in index.series]
    chosen = [
        series for series in index.series if uid in (None, series.series_uid, series.volume_id)
    ]
    if len(chosen) > 1:
        raise DataError(
            f"{path} holds {len(chosen)} series; name one of them, such as {chosen[0].volume_id}"
        )

    # The volume_id of one of several volumes is the SeriesInstanceUID, a hyphen and a number.
    subjects = () if uid is None else (uid, uid.rpartition("-")[0])
    rejected = tuple(
        rejection for rejection in index.rejected if uid is None or rejection.subject in subjects
    )
    if uid is not None and names and not chosen and not rejected:
        raise DataError(f"no series {uid} in {path}{suggestion(uid, names)}")
    return _predict(model, replace(index, rejected=rejected), chosen, progress)


def find(paths: Sequence[Path], progress: Progress = quiet, policy: Policy = STRICT) -> Index:
    """Index all CT series below `paths`, the series of a study next to each other.

    Only headers are read, except with a lenient policy, which also leaves out slices that cannot
    be decoded. DataError where a path does not exist.
    """
    index = index_all(
        [path.absolute() for path in paths], lambda files: progress(files, "headers"), policy
    )
    if policy.lenient:
        total = len(index.series)
        index = leave_out_undecodable(index, lambda series: progress(series, "decode", total))
    by_study = sorted(index.series, key=lambda series: (study_of(series), series.volume_id))
    return replace(index, series=tuple(by_study))


def study_of(series: Series | SeriesMetadata) -> str:
    """The study a series belongs to: its StudyInstanceUID, or itself where it has none."""
    return series.study_uid or series.volume_id


def stream(
    model: Model, index: Index, chosen: Sequence[Series]
) -> Iterator[SeriesPrediction | Rejected]:
    """Score `chosen` series of an index one after the other; yielded results are not kept.

    All volumes of a SeriesInstanceUID are decoded together, once, also where only some of them are
    chosen: if one cannot be decoded, all are rejected.

    Args:
        model: the model to score with.
        index: where the series were found, as from `find`.
        chosen: the series to score; those of a SeriesInstanceUID next to each other.

    Yields:
        A prediction or rejection for each of `chosen`, in their order.
    """
    group_of = {group[0].series_uid: group for group in group_by_series_uid(index.series)}
    batches = [
        _Batch(group_of[series_uid], tuple(wanted))
        for (_, series_uid), wanted in groupby(
            chosen, key=lambda series: (study_of(series), series.series_uid)
        )
    ]
    prepare = partial(_prepare_batch, config=model.config.prepare)
    for batch, prepared in zip(batches, _read_ahead(prepare, batches), strict=True):
        for source, series in zip(batch.wanted, prepared, strict=True):
            yield series if isinstance(series, Rejected) else _score(model, source, series)


@dataclass(frozen=True)
class _Batch:
    """Volumes of one SeriesInstanceUID to score, and all volumes that it has."""

    group: SeriesGroup
    wanted: tuple[Series, ...]


def _predict(
    model: Model, index: Index, chosen: Sequence[Series], progress: Progress
) -> Prediction:
    """Score `chosen` and keep all results."""
    results = list(progress(stream(model, index, chosen), "series", total=len(chosen)))
    rejected = [result for result in results if isinstance(result, Rejected)]
    return Prediction(
        series=tuple(result for result in results if isinstance(result, SeriesPrediction)),
        rejected=all_rejected(index, rejected),
        left_out=index.left_out,
        n_files=index.n_files,
    )


def _read_ahead(work: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
    """`work` of each task in order; a thread does the next one while the caller uses this one."""
    pool = ThreadPoolExecutor(1)
    try:
        waiting: deque[Future[R]] = deque()
        for task in tasks:
            waiting.append(pool.submit(work, task))
            if len(waiting) > 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare_batch(batch: _Batch, config: PrepareConfig) -> Sequence[PreparedSeries | Rejected]:
    """One result for each wanted volume; all are rejected where a file was removed meanwhile."""
    try:
        return prepare_group(batch.group, batch.wanted, config)
    except OSError as error:
        first = batch.group[0]
        paths = dict.fromkeys(path for series in batch.group for path in series.paths)
        detail = f"{first.paths[0]} and others can no longer be read ({error.strerror})"
        rejected = Rejected(first.series_uid, IssueCode.UNREADABLE, detail, tuple(paths))
        return [rejected] * len(batch.wanted)


def _score(model: Model, source: Series, series: PreparedSeries) -> SeriesPrediction:
    """Score `series`, which was prepared from `source`."""
    files = {
        SliceKey(header.sop_uid, header.frame, header.file.name): header.file
        for header in source.headers
    }
    return SeriesPrediction(
        series=series,
        files=tuple(files[key] for key in series.keys),
        prob=model.score(series.hu, series.z_mm),
        out_of_range=_out_of_range(series, model),
        unscored=tuple(_unscored(source, dropped) for dropped in source.lost),
    )


def _unscored(source: Series, dropped: DroppedSlice) -> UnscoredSlice:
    """`dropped` with its position along the superior normal, as that of the scored slices."""
    along = normal(source)
    upward = -along if along[2] < 0 else along
    z_mm = None if dropped.position_mm is None else float(np.dot(dropped.position_mm, upward))
    return UnscoredSlice(dropped.sop_uid, dropped.frame, z_mm, dropped.code)


def _out_of_range(series: SeriesMetadata, model: Model) -> tuple[str, ...]:
    """Names of the acquisition's values below or above all of the training set's, sorted."""
    names = []
    for name, (lowest, _, highest) in model.fingerprint["ranges"].items():
        value = getattr(series.acquisition, name, None)
        if value is not None and not lowest - 1e-6 <= value <= highest + 1e-6:
            names.append(name)
    return tuple(sorted(names))
