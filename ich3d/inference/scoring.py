"""Score head CT series in memory: find them, decode and prepare them, run the model.

While the network scores one series, a thread decodes and prepares the next. A process that keeps
its model loaded calls `predict` a study at a time, or `find` and `stream` for more control.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Final, TypeVar

import numpy as np

from ich3d.config.schema import PrepareConfig
from ich3d.core.errors import DataError, suggestion
from ich3d.core.issues import IssueCode
from ich3d.core.path_arguments import as_path, as_paths
from ich3d.core.progress import Progress, quiet
from ich3d.core.pseudonym import NOBODY
from ich3d.core.types import (
    DroppedSlice,
    FileRef,
    LeftOut,
    PreparedSeries,
    Rejected,
    Series,
    SeriesMetadata,
)
from ich3d.dicom.assembly.grouping import Policy
from ich3d.dicom.geometry import slice_normal
from ich3d.dicom.index import STRICT, Index, index_all
from ich3d.dicom.origin import SeriesOrigin, series_origin
from ich3d.dicom.validate import SeriesGroup, group_by_series_uid, leave_out_undecodable
from ich3d.inference.leading import leading_series
from ich3d.model.folder import Model, fold_agreement, load_model
from ich3d.prepare.series import prepare_group

RANGE_MARGIN: Final = 0.05
"""Share of the training set's largest value that a value may lie beyond its range: steps of 5 mm
are written as 4.98 or 5.01, and that is no difference to a model.
"""

TILT_MARGIN_DEG: Final = 2.0
"""The same for the gantry tilt, which may be zero in all of a training set."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class UnscoredSlice:
    """A slice that was dropped from its series under the lenient policy, and so has no scores.

    Attributes:
        sop_uid: its SOPInstanceUID; empty where it cannot be read.
        frame: its frame, from 1; None in a single-frame file.
        z_mm: its position in mm along the superior normal, as that of the scored slices; None where
            it cannot be read.
        code: why the slice cannot be used.
    """

    sop_uid: str
    frame: int | None
    z_mm: float | None
    code: IssueCode


@dataclass(frozen=True)
class SeriesPrediction:
    """One scored series. Slices run inferior to superior.

    Attributes:
        series: the series as the model read it: pixels, positions, keys, and all issues.
        files: the DICOM file of each slice (Z,).
        prob: probabilities float32 (Z, K) by stage; `prob["stack"]` is the final answer.
        agreement: how far the model's folds agree on `any` (Z,), as `model.folder.fold_agreement`
            has it; NaN for a model of one fold, and for a patient whom it was trained on, since
            folds that know the answer agree.
        out_of_range: names of the acquisition's values that lie outside the training set's range.
        unscored: slices that were dropped; they are in none of the arrays.
        embeddings: of the frozen network that all folds share, float32 (Z, D); None where folds
            have networks of their own.
        leads: why this series speaks for its study (`inference.leading`); empty where another one
            does, and where it is the only one.
        origin: description, kernel, scanner and folder of the series.
        is_known_patient: whether the model was trained on the patient, by the pseudonym of the
            PatientID; False where the files have no PatientID.
    """

    series: PreparedSeries
    files: tuple[FileRef, ...]
    prob: dict[str, np.ndarray]
    agreement: np.ndarray
    out_of_range: tuple[str, ...]
    unscored: tuple[UnscoredSlice, ...] = ()
    embeddings: np.ndarray | None = None
    leads: str = ""
    origin: SeriesOrigin = field(default_factory=SeriesOrigin)
    is_known_patient: bool = False


@dataclass(frozen=True)
class Prediction:
    """All that was found below some paths: scored series, and what was rejected or left out.

    Attributes:
        series: one `SeriesPrediction` a scored series, the series of a study together.
        rejected: series and files that should have been scored and could not.
        left_out: files that are in no volume and count as no failure.
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
        policy: how strictly files are judged; `Policy(lenient=True)` scores a series without the
            slices whose header or pixels cannot be used, and one whose values do not look like HU,
            instead of rejecting it.

    Returns:
        The scored series, and what was rejected or left out, with the reasons.

    Raises:
        DataError: there is no path, or one does not exist.
        ModelError: the model folder is missing, incomplete or changed.

    Examples:
        >>> prediction = predict("runs/demo/model", "study")
        >>> (scored,) = prediction.series
        >>> scored.prob["stack"].shape == (len(scored.series.keys), 6)
        True
        >>> [rejected.detail for rejected in prediction.rejected]
        []
    """
    if not isinstance(model, Model):
        model = load_model(model)
    index = find(as_paths("paths", paths), progress, policy)
    return _predict(model, index, index.series, progress, policy)


def predict_one(
    model: Model,
    path: Path | str,
    uid: str | None,
    progress: Progress = quiet,
    policy: Policy = STRICT,
) -> Prediction:
    """Score the only head CT series below `path`, or the one that is named.

    Args:
        model: the model to score with.
        path: a folder, zip or DICOM file.
        uid: a SeriesInstanceUID or volume_id; None where `path` holds one series.
        progress: shows how far reading and scoring are.
        policy: how strictly files are judged.

    Raises:
        DataError: there are several series to choose from, or none is called `uid`.
    """
    index = find([as_path("path", path)], progress, policy)
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
    return _predict(model, replace(index, rejected=rejected), chosen, progress, policy)


def find(paths: Sequence[Path | str], progress: Progress = quiet, policy: Policy = STRICT) -> Index:
    """Index all CT series below `paths`.

    Headers are read, and pixels only where two slices at one position have to be compared. A
    lenient policy decodes all pixels, and drops the slices for which that fails.

    Args:
        paths: folders, zips or DICOM files.
        progress: shows how far reading is.
        policy: how strictly files are judged.

    Returns:
        The index, its series sorted by study, then by volume_id: those of a study are together.

    Raises:
        DataError: a path does not exist or a folder cannot be listed.
    """
    absolute = [path.absolute() for path in as_paths("paths", paths)]
    index = index_all(absolute, progress, policy)
    if policy.lenient:
        index = leave_out_undecodable(index, progress)
    by_study = sorted(index.series, key=lambda series: (study_uid_of(series), series.volume_id))
    return replace(index, series=tuple(by_study))


def study_uid_of(series: Series | SeriesMetadata) -> str:
    """StudyInstanceUID of a series; its volume_id where it has none, as a study of its own."""
    return series.study_uid or series.volume_id


Batch = tuple[SeriesGroup, list[Series]]
"""All volumes of a SeriesInstanceUID, and those of them that are wanted."""


def stream(
    model: Model, index: Index, chosen: Sequence[Series], policy: Policy = STRICT
) -> Iterator[SeriesPrediction | Rejected]:
    """Score `chosen` series of an index one after the other; yielded results are not kept.

    All volumes of a SeriesInstanceUID are decoded together, also where only some of them are
    chosen: if one cannot be decoded, all are rejected. They are decoded once; those of a
    SeriesInstanceUID that occurs in several studies once for each study.

    Args:
        model: the model to score with.
        index: where the series were found, as from `find`.
        chosen: the series to score; those of a study and SeriesInstanceUID next to each other.
        policy: that of the index; a lenient one also scores volumes that do not look like HU.

    Yields:
        A prediction or rejection for each of `chosen`, in their order.
    """
    batches = in_batches(index, chosen)

    def prepare_batch(batch: Batch) -> Sequence[PreparedSeries | Rejected]:
        return _prepare_readable(*batch, model.config.prepare, policy)

    for (_, wanted), results in zip(batches, _read_ahead(prepare_batch, batches), strict=True):
        for series, prepared in zip(wanted, results, strict=True):
            yield prepared if isinstance(prepared, Rejected) else _score(model, series, prepared)


def in_batches(index: Index, chosen: Sequence[Series]) -> list[Batch]:
    """The batches of `stream`: series that are decoded together, with all of their group."""
    group_of = {group[0].series_uid: group for group in group_by_series_uid(index.series)}
    of_group = groupby(chosen, key=lambda series: (study_uid_of(series), series.series_uid))
    return [(group_of[series_uid], list(wanted)) for (_, series_uid), wanted in of_group]


def score_batch(
    model: Model, group: SeriesGroup, wanted: Sequence[Series], policy: Policy
) -> list[SeriesPrediction | Rejected]:
    """A prediction or rejection for each series of a batch."""
    return [
        prepared if isinstance(prepared, Rejected) else _score(model, series, prepared)
        for series, prepared in zip(
            wanted, _prepare_readable(group, wanted, model.config.prepare, policy), strict=True
        )
    ]


def _predict(
    model: Model, index: Index, chosen: Sequence[Series], progress: Progress, policy: Policy
) -> Prediction:
    """Score `chosen` and keep all results."""
    results = list(progress(stream(model, index, chosen, policy), "series", total=len(chosen)))
    rejected = [result for result in results if isinstance(result, Rejected)]
    return Prediction(
        series=with_leaders(zip(chosen, results, strict=True)),
        rejected=index.all_rejected(rejected),
        left_out=index.left_out,
        n_files=index.n_files,
    )


def with_leaders(
    results: Iterable[tuple[Series, SeriesPrediction | Rejected]],
) -> tuple[SeriesPrediction, ...]:
    """The predictions among `results`, in their order; those that speak for their study say why.

    The series of a study must be next to each other.
    """
    scored = [pair for pair in results if isinstance(pair[1], SeriesPrediction)]
    n_series = Counter(study_uid_of(series) for series, _ in scored)
    reasons = leading_series((series for series, _ in scored), study_uid_of)
    return tuple(
        replace(prediction, leads=reasons.get(series.volume_id, ""))
        if n_series[study_uid_of(series)] > 1
        else prediction
        for series, prediction in scored
        if isinstance(prediction, SeriesPrediction)
    )


def _read_ahead(work: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
    """Results of `work` for each task, in order.

    A thread works on the next task while the caller uses the result of this one.
    """
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


def _prepare_readable(
    group: SeriesGroup, wanted: Sequence[Series], config: PrepareConfig, policy: Policy
) -> Sequence[PreparedSeries | Rejected]:
    """`prepare_group`, with all of `wanted` rejected where a file of the group was removed."""
    try:
        return prepare_group(group, wanted, config, policy)
    except OSError as error:
        first = group[0]
        paths = dict.fromkeys(path for series in group for path in series.paths)
        detail = f"{first.paths[0]} and others can no longer be read ({error.strerror})"
        sop_uids = dict.fromkeys(sop_uid for series in group for sop_uid in series.sop_uids)
        rejected = Rejected(
            first.series_uid, IssueCode.UNREADABLE, detail, tuple(paths), tuple(sop_uids)
        )
        return [rejected] * len(wanted)


def _score(model: Model, series: Series, prepared: PreparedSeries) -> SeriesPrediction:
    """Score `prepared`, which was prepared from the volume of `series`."""
    file_of = {header.key: header.file for header in series.headers}
    outputs = model.stage_outputs(prepared.hu, prepared.z_mm, prepared.hu_features)
    agreement = fold_agreement(outputs)
    is_in_training = prepared.patient_id in model.training_groups
    if is_in_training:
        agreement = np.full_like(agreement, np.nan)
    return SeriesPrediction(
        series=prepared,
        files=tuple(file_of[key] for key in prepared.keys),
        prob=model.prob(outputs),
        agreement=agreement,
        out_of_range=_out_of_range(prepared, model),
        unscored=_unscored_slices(series),
        embeddings=outputs[0].embedded.embeddings if model.config.slices.frozen else None,
        origin=series_origin(series),
        is_known_patient=is_in_training and prepared.patient_id != NOBODY,
    )


def _unscored_slices(series: Series) -> tuple[UnscoredSlice, ...]:
    """The dropped slices of `series`, with their positions along the superior normal."""
    normal = slice_normal(series.headers)
    superior = -normal if normal[2] < 0 else normal

    def z_mm(dropped: DroppedSlice) -> float | None:
        position_mm = dropped.position_mm
        return None if position_mm is None else float(np.dot(position_mm, superior))

    return tuple(
        UnscoredSlice(dropped.sop_uid, dropped.frame, z_mm(dropped), dropped.code)
        for dropped in series.dropped
    )


def _out_of_range(series: SeriesMetadata, model: Model) -> tuple[str, ...]:
    """Names of the acquisition's values clearly outside the training set's range, sorted."""
    names = []
    for name, (lowest, _, highest) in model.fingerprint["ranges"].items():
        value = getattr(series.acquisition, name, None)
        margin = TILT_MARGIN_DEG if name == "tilt_deg" else RANGE_MARGIN * abs(highest)
        if value is not None and not lowest - margin <= value <= highest + margin:
            names.append(name)
    return tuple(sorted(names))
