"""Predict studies into an output folder of tables.

<out>/
  slices.csv       a row a slice: scores of all stages; the stack's are the answer
  series.csv       a row a series
  submission.csv   the form of the RSNA 2019 challenge
  failures.csv     series and files that were not scored
  incomplete.csv   scored series that a further output lacks, such as DICOM results
  run.json         the model, versions, counts and times
  finished.jsonl   the journal: a run that was interrupted is resumed from it
"""

import hashlib
import json
import logging
import platform
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Final, TypeGuard
from uuid import uuid4

import pandas as pd

import ich3d
from ich3d.config.load import as_dict
from ich3d.core.issues import IssueCode
from ich3d.core.outputs import claim, record, remove
from ich3d.core.path_arguments import as_path, as_paths
from ich3d.core.progress import Progress, quiet
from ich3d.core.text import pluralize
from ich3d.core.types import LeftOut, Rejected, Series
from ich3d.core.versions import installed_version
from ich3d.core.workspace import write_csv, write_json
from ich3d.dicom.assembly.grouping import Policy
from ich3d.dicom.headers.elements import tag_text
from ich3d.dicom.index import STRICT, Index
from ich3d.dicom.origin import series_origin
from ich3d.dicom.validate import SeriesGroup, group_by_series_uid
from ich3d.inference.asked_ids import only_asked, sop_uids_of
from ich3d.inference.journal import Journal, ScoredSeries
from ich3d.inference.leading import leading_series
from ich3d.inference.ray_cluster import stream_on_ray
from ich3d.inference.scoring import (
    SeriesPrediction,
    find,
    stream,
    study_uid_of,
    with_leaders,
)
from ich3d.inference.tables import (
    ambiguous_uids,
    series_table,
    slice_table,
    submission,
    uids_without_score,
)
from ich3d.model.folder import Model, load_model
from ich3d.prepare.series import files_digest
from ich3d.prepare.tables import rejected_table
from ich3d.training.device import device

log = logging.getLogger(__name__)

KEY_FORMAT: Final = 9
"""Raised when series are scored or journaled in another way, so that they are scored again."""

PREDICT: Final = "ich3d predict"
OUTPUTS: Final = (
    "slices.csv", "series.csv", "submission.csv", "failures.csv", "run.json", "finished.jsonl",
    "report", "identified_report", "dicom", "embeddings", "preview",
)  # fmt: skip
"""What a prediction writes to its folder."""

PACKAGES: Final = ("torch", "monai", "lightgbm", "numpy", "pydicom", "SimpleITK")
"""Packages whose versions are written to `run.json`."""


SUBMISSION: Final = "submission"
"""The name of `submission.csv` among the outputs of `incomplete.csv`."""


@dataclass(frozen=True)
class OutputWriter:
    """A further output beside the tables, such as DICOM results or pages.

    Attributes:
        folder: where it is written; it is created before the first call.
        write: called with the scored series of each study. Returns a `Rejected` for each series
            that gets no output, with the volume_id as its subject.
        finish: called once at the end with the table of `series.csv`, which also holds the series
            that were scored before the run was resumed.
    """

    folder: Path
    write: Callable[[Sequence[SeriesPrediction]], tuple[Rejected, ...]]
    finish: Callable[[pd.DataFrame], None] = lambda series: None


@dataclass(frozen=True)
class Outcome:
    """The result of a run beside its tables.

    Attributes:
        scored: the number of scored series.
        rejected: series and files that were not scored.
        left_out: files that are in no volume and count as no failure.
        refused: by the name of a further output, the scored series that it lacks, or holds with
            doubt, and why.
        at_base_rate: number of slices of which `submission.csv` has only the base rate.
        of_known_patients: number of scored series of patients that the model was trained on.
    """

    scored: int
    rejected: tuple[Rejected, ...]
    left_out: tuple[LeftOut, ...] = ()
    refused: Mapping[str, tuple[Rejected, ...]] = field(default_factory=dict)
    at_base_rate: int = 0
    of_known_patients: int = 0


def predict_to_folder(
    model: Model | Path | str,
    paths: Path | str | Sequence[Path | str],
    out: Path | str,
    progress: Progress = quiet,
    policy: Policy = STRICT,
    writers: Mapping[str, OutputWriter] | None = None,
    overwrite: bool = False,
    asked_ids: Sequence[str] | None = None,
    ray: str | None = None,
) -> Outcome:
    """Score every head CT series below `paths` and write the tables to `out`.

    A series that cannot be used stops no other: it is listed in `failures.csv` with the reason. An
    interrupted run is resumed: a study is neither decoded nor scored again if the same model scored
    all its series from the same files for the same writers, and the writers' folders still exist.

    Args:
        model: the model to score with, or the path of its folder.
        paths: a folder, a zip or a DICOM file, or several of them.
        out: the output folder, created if needed.
        progress: shows how far reading and scoring are.
        policy: how strictly files are judged; a lenient one also drops the slices whose pixels
            cannot be decoded, and scores volumes whose values do not look like HU.
        writers: further outputs by name; they are called study by study.
        overwrite: whether results of another model, or of series that are not below `paths`, are
            removed from `out`.
        asked_ids: the IDs that `submission.csv` has, in this order; those of slices that are not
            below `paths` get the training set's base rate. None for all slices that are.
        ray: address of a Ray cluster that scores, or `local`; None scores here.

    Raises:
        DataError: a path does not exist, or `out` holds such results and `overwrite` is not set.
        ModelError: the model folder is missing, incomplete or changed.
    """
    out = as_path("out", out)
    if not isinstance(model, Model):
        model = load_model(model)
    writers = writers or {}
    clock = _Clock()
    index = find(as_paths("paths", paths), progress, policy)
    for advice in _advice(index):
        log.warning("%s", advice)
    clock.lap("find")

    journal_keys = _journal_keys(model, index, writers, policy)
    if claim(out, PREDICT, _work(model, index.series), OUTPUTS, overwrite):
        remove(out, OUTPUTS)
    journal = _open_journal(out, journal_keys.values(), writers)
    unfinished_studies = {
        study_uid_of(series)
        for series in index.series
        if not journal.is_finished(journal_keys[series.volume_id])
    }
    todo = [series for series in index.series if study_uid_of(series) in unfinished_studies]
    results_of_todo = (
        stream(model, index, todo, policy)
        if ray is None or not todo
        else stream_on_ray(model, index, todo, policy, ray)
    )
    pairs = zip(todo, progress(results_of_todo, "series", total=len(todo)), strict=True)
    unreadable = _score_studies(pairs, journal_keys, writers, journal)
    clock.lap("score")

    scored_series = [
        series for series in index.series if journal.is_scored(journal_keys[series.volume_id])
    ]
    results = [journal.read(journal_keys[series.volume_id]) for series in scored_series]
    rejected_series = [
        journal.rejected[key] for key in journal_keys.values() if key in journal.rejected
    ]
    rejected = [*index.all_rejected(rejected_series), *unreadable]
    copies = _copies(index.left_out)
    rejected_uids = _rejected_uids(rejected, copies)
    slices = slice_table(results)
    refused = _refused(results, slices)
    leaders = leading_series(scored_series, study_uid_of)
    write_csv(out / "slices.csv", slices)
    origins = {series.volume_id: series_origin(series) for series in scored_series}
    series = series_table(results, leaders, origins)
    write_csv(out / "series.csv", series)
    for writer in writers.values():
        writer.finish(series)
    base_rate = model.fingerprint["prevalence"]
    rows = submission(slices, base_rate, copies, rejected_uids)
    unknown = set(uids_without_score(slices, rejected_uids))
    if asked_ids is not None:
        unknown = sop_uids_of(asked_ids) - (sop_uids_of(rows["ID"]) - unknown)
        rows = only_asked(rows, asked_ids, base_rate)
    write_csv(out / "submission.csv", rows)
    write_csv(out / "failures.csv", rejected_table(rejected))
    write_csv(out / "incomplete.csv", _refused_table(refused))
    clock.lap("tables")

    of_known_patients = sum(series.is_known_patient for series in results)
    counts = {
        **_file_counts(index, scored_series),
        "series": len(results),
        "series_scored_before": sum(
            study_uid_of(series) not in unfinished_studies for series in scored_series
        ),
        "series_trained_on": of_known_patients,
        "rejected": len(rejected),
        "slices_at_base_rate": len(unknown),
        **_slice_counts(results, writers),
    }
    options = {
        "lenient": policy.lenient,
        "folds": [fold_model.fold for fold_model in model.fold_models],
    }
    write_json(
        out / "run.json", {**_provenance(model), **options, **counts, "seconds": clock.seconds}
    )
    record(out, PREDICT, _work(model, scored_series))
    return Outcome(
        scored=len(results),
        rejected=tuple(rejected),
        left_out=index.left_out,
        refused=refused,
        at_base_rate=len(unknown),
        of_known_patients=of_known_patients,
    )


def _work(model: Model, series: Iterable[Series]) -> dict[str, Any]:
    """What results are made from. Later files, or other options, add to them."""
    return {
        "model": model.sha256,
        "choice of folds": ", ".join(str(fold_model.fold) for fold_model in model.fold_models),
        "series": sorted(one_series.volume_id for one_series in series),
    }


def _advice(index: Index) -> list[str]:
    """What to do about single slices that fit one series, once for all of them."""
    issues = [issue for series in index.series for issue in series.issues]
    return list(dict.fromkeys(i.detail for i in issues if i.code is IssueCode.UID_PER_SLICE))


def _journal_keys(
    model: Model, index: Index, writers: Iterable[str], policy: Policy
) -> dict[str, str]:
    """The journal key of each volume, by volume_id: a hash of everything its results depend on.

    The files of all volumes of its SeriesInstanceUID are part of it, since they are accepted or
    rejected together. Paths are relative to the searched folder, so that a run can be resumed after
    the folder was moved.
    """
    run_facts = [
        KEY_FORMAT,
        ich3d.__version__,
        model.sha256,
        [fold_model.fold for fold_model in model.fold_models],
        model.encoders.runtime,
        sorted(writers),
        policy.lenient,
    ]
    keys: dict[str, str] = {}
    for group in group_by_series_uid(index.series):
        file_hashes = _file_hashes(group)
        for series in group:
            text = json.dumps([run_facts, file_hashes, repr(_series_facts(series))])
            keys[series.volume_id] = hashlib.sha256(text.encode()).hexdigest()
    return {series.volume_id: keys[series.volume_id] for series in index.series}


def _file_hashes(group: SeriesGroup) -> list[str]:
    """A hash of the files of each volume; a random one where a file was removed after indexing.

    No later run finds the random hash again, so it does not take over results of unknown files.
    """
    try:
        return [files_digest(series) for series in group]
    except OSError:
        return [uuid4().hex]


def _series_facts(series: Series) -> list[Any]:
    """What the results of a series depend on beside its files and the run."""
    dropped_slices = [
        (dropped.file.name, dropped.frame, dropped.sop_uid, dropped.position_mm, dropped.code)
        for dropped in series.dropped
    ]
    return [series.volume_id, series.study_uid, series.issues, dropped_slices]


def _open_journal(out: Path, keys: Iterable[str], writers: Mapping[str, OutputWriter]) -> Journal:
    """The journal of the output folder; an empty one where a writer's folder was removed.

    The writers' folders are created, so that the next run can tell whether one was removed.
    """
    is_complete = all(writer.folder.is_dir() for writer in writers.values())
    for writer in writers.values():
        writer.folder.mkdir(parents=True, exist_ok=True)
    return Journal.resume(out / "finished.jsonl", set(keys) if is_complete else ())


def _score_studies(
    pairs: Iterable[tuple[Series, SeriesPrediction | Rejected]],
    journal_keys: Mapping[str, str],
    writers: Mapping[str, OutputWriter],
    journal: Journal,
) -> list[Rejected]:
    """Take the results of series study by study, and add them to the journal.

    Returns:
        Rejections that a later run may not repeat, without repetition. They are not in the journal.
    """
    unreadable: list[Rejected] = []
    for _, study in groupby(pairs, key=lambda pair: study_uid_of(pair[0])):
        for volume_id, result in _results_of_study(list(study), writers).items():
            if _may_change(result):
                unreadable.append(result)
            else:
                journal.add(journal_keys[volume_id], result)
    return list(dict.fromkeys(unreadable))


def _may_change(result: ScoredSeries | Rejected) -> TypeGuard[Rejected]:
    """Whether a later run may be able to score the series: a file could not be opened or read.

    While it scores, UNREADABLE means that; files with damaged headers were rejected by the index.
    """
    return isinstance(result, Rejected) and result.code is IssueCode.UNREADABLE


def _results_of_study(
    study: Sequence[tuple[Series, SeriesPrediction | Rejected]],
    writers: Mapping[str, OutputWriter],
) -> dict[str, ScoredSeries | Rejected]:
    """Call each writer with the scored series of a study, the one that speaks for it first.

    Returns the results of all series by volume_id.
    """
    predictions = sorted(with_leaders(study), key=lambda prediction: not prediction.leads)
    refused: dict[str, dict[str, Rejected]] = defaultdict(dict)
    if predictions:
        for name, writer in writers.items():
            for rejected in writer.write(predictions):
                refused[rejected.subject][name] = rejected
    return {
        series.volume_id: result
        if isinstance(result, Rejected)
        else ScoredSeries.of(result, refused[series.volume_id])
        for series, result in study
    }


def _refused(
    results: Sequence[ScoredSeries], slices: pd.DataFrame
) -> dict[str, tuple[Rejected, ...]]:
    """By the name of an output, the scored series that it lacks or holds with doubt."""
    refused: dict[str, list[Rejected]] = defaultdict(list)
    for series in results:
        for output, rejection in series.refused.items():
            refused[output].append(rejection)
    if doubtful := _doubtfully_submitted(slices):
        refused[SUBMISSION] = doubtful
    return {output: tuple(rejections) for output, rejections in refused.items()}


def _doubtfully_submitted(slices: pd.DataFrame) -> list[Rejected]:
    """For each volume, how many of its slices share their SOPInstanceUID with another file."""
    ambiguous = ambiguous_uids(slices)
    what = f"have a {tag_text('SOPInstanceUID')} that several files share"
    which = "submission.csv has the highest of their scores"
    return [
        Rejected(
            str(volume_id),
            IssueCode.REPEATED_SOP_UID,
            f"{pluralize(len(rows), 'slice')} {what}: {which}",
        )
        for volume_id, rows in ambiguous.groupby("volume_id", sort=False)
    ]


def _refused_table(refused: Mapping[str, Iterable[Rejected]]) -> pd.DataFrame:
    """The table of `incomplete.csv`: a row a series and output."""
    rows = [
        (rejection.subject, output, rejection.code.value, rejection.detail)
        for output, rejections in refused.items()
        for rejection in rejections
    ]
    return pd.DataFrame(rows, columns=["volume_id", "output", "code", "detail"])


def _copies(left_out: Iterable[LeftOut]) -> dict[str, str]:
    """SOPInstanceUIDs of copies that were left out, and of the slice that is used instead."""
    return dict(files.copy_of for files in left_out if files.copy_of is not None)


def _rejected_uids(rejected: Iterable[Rejected], copies: Mapping[str, str]) -> list[str]:
    """The SOPInstanceUIDs of all slices that were not scored, and of their copies."""
    uids = dict.fromkeys(sop_uid for rejection in rejected for sop_uid in rejection.sop_uids)
    return [*uids, *(copy for copy, used in copies.items() if used in uids and copy not in uids)]


class _Clock:
    """Wall-clock seconds of each step of a run.

    Attributes:
        seconds: by step; "all" since the start.
    """

    def __init__(self) -> None:
        self._started = self._last = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def lap(self, step: str) -> None:
        """Note the time since the last call as that of `step`."""
        now = time.perf_counter()
        self.seconds |= {step: round(now - self._last, 3), "all": round(now - self._started, 3)}
        self._last = now


def _file_counts(index: Index, scored_series: Iterable[Series]) -> dict[str, int]:
    """Counts of files, each once: in a scored volume, left out, or rejected."""
    in_volumes = {path for series in scored_series for path in series.paths}
    left_out = sum(len(files.paths) for files in index.left_out)
    return {
        "files": index.n_files,
        "files_in_volumes": len(in_volumes),
        "files_left_out": left_out,
        "files_rejected": index.n_files - len(in_volumes) - left_out,
    }


def _slice_counts(scored: Sequence[ScoredSeries], writers: Iterable[str]) -> dict[str, int]:
    """Counts of slices, and by the name of each writer those of its series."""
    counts = {
        "slices": sum(len(series) for series in scored),
        "slices_unscored": sum(len(series.unscored) for series in scored),
    }
    for name in writers:
        refused = sum(name in series.refused for series in scored)
        counts |= {f"{name}_series": len(scored) - refused, f"{name}_refused": refused}
    return counts


def _provenance(model: Model) -> dict[str, Any]:
    """The model, versions, device and config that the scores were made with."""
    path = model.encoders.runtime
    packages = (*PACKAGES, "openvino") if path.startswith("openvino") else PACKAGES
    return {
        "ich3d": ich3d.__version__,
        "python": platform.python_version(),
        "packages": {name: installed_version(name) for name in packages},
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "model_sha256": model.sha256,
        "model_performance": None if model.performance is None else model.performance.as_dict(),
        "folds_of_model": model.config.prepare.folds,
        "training_prevalence": model.fingerprint["prevalence"],
        "device": str(device()),
        "path": path,
        "config": as_dict(model.config),
    }
