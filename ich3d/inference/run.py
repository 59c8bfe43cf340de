"""A folder of studies to a folder of tables: `slices.csv`, `series.csv`, `submission.csv`, `failures.csv` and
`run.json`. The stack columns are the answer; encoder and context columns stand beside them.
"""

import hashlib
import json
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

import ich3d
from ich3d.config.load import as_dict
from ich3d.core.issues import IssueCode
from ich3d.core.progress import Progress, quiet
from ich3d.core.types import Rejected, Series
from ich3d.core.workspace import read_csv, replacing, write_csv, write_json
from ich3d.dicom.assembly.grouping import Policy
from ich3d.dicom.index import STRICT, Index
from ich3d.inference.journal import Done, Journal
from ich3d.inference.scoring import SeriesPrediction, find, stream, study_of
from ich3d.inference.tables import (
    SERIES_COLUMNS,
    SLICE_COLUMNS,
    SLICE_TEXT,
    series_row,
    slice_rows,
    submission,
)
from ich3d.model.folder import Model
from ich3d.prepare.build import files_digest, rejected_table
from ich3d.training.device import device

KEY_FORMAT = 3  # raised when a series is scored or told in another way, so that it is scored again
PACKAGES = ("torch", "monai", "lightgbm", "numpy", "pydicom", "SimpleITK")


@dataclass(frozen=True)
class OutputWriter:
    """A further output: its folder, and what writes the scored series of one study there and tells why a
    series, named by its volume_id, gets none."""

    folder: Path
    write: Callable[[Sequence[SeriesPrediction]], tuple[Rejected, ...]]


@dataclass(frozen=True)
class Outcome:
    """What became of the series that were found: how many are scored, and what was rejected, further outputs
    included."""

    scored: int
    rejected: tuple[Rejected, ...]


def predict_to_folder(
    model: Model,
    paths: Sequence[Path],
    out: Path,
    progress: Progress = quiet,
    policy: Policy = STRICT,
    writers: Mapping[str, OutputWriter] | None = None,
) -> Outcome:
    """Score every head CT series below `paths`, write the tables to `out`, and call each of `writers` with
    the series of every study as it is scored.

    One bad series never stops the rest: it goes to `failures.csv` with its reason. A run that was interrupted
    goes on: a study whose series the same model scored from the same files, for the same writers, is not scored
    again, unless a sink's folder is gone. DataError where a path does not exist.
    """
    clock = _Clock()
    writers = writers or {}
    found = find(paths, progress, policy)
    clock.lap("find")
    keys = {one.volume_id: _key(model, one, writers) for one in found.series}
    out.mkdir(parents=True, exist_ok=True)
    is_whole = all(writer.folder.is_dir() for writer in writers.values())
    for writer in writers.values():
        writer.folder.mkdir(parents=True, exist_ok=True)
    finished = Journal(out / "finished.jsonl", keys.values() if is_whole else ())
    unfinished = {study_of(one) for one in found.series if not finished.knows(keys[one.volume_id])}
    todo = [one for one in found.series if study_of(one) in unfinished]
    unread = _score(model, todo, keys, writers, finished, progress)
    clock.lap("score")
    scored = [one for one in found.series if keys[one.volume_id] in finished]
    ready = [keys[one.volume_id] for one in scored]
    refused = [finished.rejected[key] for key in keys.values() if key in finished.rejected]
    rejected = [*found.rejected, *refused, *unread]
    counts = {
        **_file_counts(found, scored),
        "series": len(scored),
        "series_scored_before": sum(study_of(one) not in unfinished for one in scored),
        "rejected": len(rejected),
    }
    rejected += _write_tables(out, finished, ready, rejected, model)
    clock.lap("tables")
    counts |= _slice_counts([finished[key] for key in ready], writers)
    options = {
        "lenient": policy.lenient,
        "folds": [fold_model.fold for fold_model in model.fold_models],
    }
    write_json(out / "run.json", {**_facts(model), **options, **counts, "seconds": clock.seconds})
    return Outcome(len(scored), tuple(rejected))


def _score(
    model: Model,
    todo: Sequence[Series],
    keys: Mapping[str, str],
    writers: Mapping[str, OutputWriter],
    finished: Journal,
    progress: Progress,
) -> list[Rejected]:
    """Note each series of `todo` in `finished`, but those, returned, whose files another time may be read."""
    unread: list[Rejected] = []
    items = zip(todo, progress(stream(model, todo), "series", total=len(todo)), strict=True)
    for _, study in groupby(items, key=lambda pair: study_of(pair[0])):
        for name, item in _told([item for _, item in study], writers).items():
            if isinstance(item, Rejected) and (item.code is IssueCode.UNREADABLE or not keys[name]):
                unread.append(item)
            else:
                finished.add(keys[name], item)
    return unread


def _write_tables(
    out: Path, finished: Journal, done: Sequence[str], rejected: Sequence[Rejected], model: Model
) -> list[Rejected]:
    """All tables, from the finished series `done`; what further outputs they do not have."""
    _write_rows(out / "slices.csv", SLICE_COLUMNS, (finished[key].slices for key in done))
    _write_rows(out / "series.csv", SERIES_COLUMNS, (finished[key].series for key in done))
    slices = read_csv(out / "slices.csv", text=SLICE_TEXT)
    write_csv(out / "submission.csv", submission(slices, model.fingerprint["prevalence"]))
    refused = [item for key in done for item in finished[key].refused.values()]
    write_csv(out / "failures.csv", rejected_table((*rejected, *refused)))
    return refused


class _Clock:
    """Seconds by part of the work."""

    def __init__(self) -> None:
        self._started = self._last = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def lap(self, part: str) -> None:
        now = time.perf_counter()
        self.seconds |= {part: round(now - self._last, 3), "all": round(now - self._started, 3)}
        self._last = now


def _key(model: Model, series: Series, writers: Iterable[str]) -> str:
    """A hash of all that a series' rows are made of; empty where its files are gone."""
    try:
        files = files_digest(series)
    except OSError:
        return ""
    folds = [fold_model.fold for fold_model in model.fold_models]
    told = [
        KEY_FORMAT,
        ich3d.__version__,
        model.sha256,
        folds,
        model.encoders.path,
        sorted(writers),
        files,
    ]
    of_series = [series.volume_id, series.study_uid, series.reasons, series.lost]
    return hashlib.sha256(json.dumps([told, repr(of_series)]).encode()).hexdigest()


def _told(
    study: Sequence[SeriesPrediction | Rejected], writers: Mapping[str, OutputWriter]
) -> dict[str, Done | Rejected]:
    """What is noted of each series of a study, by volume_id, once every sink has had all the scored ones."""
    scored = [item for item in study if isinstance(item, SeriesPrediction)]
    told: dict[str, Done | Rejected] = {
        item.subject: item for item in study if isinstance(item, Rejected)
    }
    answers = [
        (name, one) for name, writer in writers.items() if scored for one in writer.write(scored)
    ]
    for item in scored:
        own = item.stored.volume_id
        told[own] = _done(item, {name: answer for name, answer in answers if answer.subject == own})
    return told


def _done(item: SeriesPrediction, refused: dict[str, Rejected]) -> Done:
    return Done(
        slices=_as_text(slice_rows(item)),
        series=_as_text(series_row(item)),
        scored=len(item.stored.keys),
        unscored=len(item.unscored),
        refused=refused,
    )


def _as_text(rows: pd.DataFrame) -> str:
    return str(rows.to_csv(index=False, header=False, lineterminator="\n"))


def _write_rows(path: Path, columns: Sequence[str], rows: Iterable[str]) -> None:
    with (
        replacing(path) as partial,
        partial.open("w", newline="", errors="backslashreplace") as file,
    ):
        file.write(",".join(columns) + "\n")
        file.writelines(rows)


def _file_counts(found: Index, scored: Iterable[Series]) -> dict[str, int]:
    """Every file that was found once: in a scored volume, left out, or rejected."""
    in_volumes = {path for one in scored for path in one.paths}
    left_out = sum(len(item.paths) for item in found.left_out)
    return {
        "files": found.n_files,
        "files_in_volumes": len(in_volumes),
        "files_left_out": left_out,
        "files_rejected": found.n_files - len(in_volumes) - left_out,
    }


def _slice_counts(done: Sequence[Done], writers: Iterable[str]) -> dict[str, int]:
    counts = {
        "slices": sum(one.scored for one in done),
        "slices_unscored": sum(one.unscored for one in done),
    }
    for name in writers:
        refused = sum(name in one.refused for one in done)
        counts |= {f"{name}_series": len(done) - refused, f"{name}_refused": refused}
    return counts


def _facts(model: Model) -> dict[str, Any]:
    """With what the scores were made."""
    path = model.encoders.path
    packages = (*PACKAGES, "openvino") if path.startswith("openvino") else PACKAGES
    return {
        "ich3d": ich3d.__version__,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "model_sha256": model.sha256,
        "folds_of_model": model.config.prepare.folds,
        "device": str(device()),
        "path": path,
        "config": as_dict(model.config),
    }
