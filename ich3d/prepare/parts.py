"""Prepare one part of a data set: the same work in this process, in a pool of processes, in a shard
and on a cluster.

A part leaves an outcome in `<store>/parts/`, written last. Its name says of what it was made, so a
part whose outcome is there need not be prepared again.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import ich3d
from ich3d.config.schema import PrepareConfig
from ich3d.core.errors import DataError
from ich3d.core.issues import IssueCode
from ich3d.core.temporary import remove_leftovers
from ich3d.core.types import Issue, LeftOut, Rejected, Series
from ich3d.core.workspace import read_json, write_json
from ich3d.dicom.index import STRICT, index_contents
from ich3d.dicom.scan import HeaderScan, Part
from ich3d.dicom.validate import SeriesGroup, group_by_series_uid
from ich3d.prepare.series import files_digest, prepare_group
from ich3d.prepare.series_fingerprint import series_fingerprint
from ich3d.prepare.store import (
    preprocessing_sha256,
    read_fingerprint,
    read_undamaged,
    series_file,
    write_series,
)

MOST_DEATHS: Final = 3
"""So often a part may cost the process that prepares it."""

_FORMAT: Final = 2
"""Version of what a part leaves. Raised when its series' files hold more than before."""


@dataclass(frozen=True)
class PartTask:
    """One part of a scan, and the store that takes its series.

    Attributes:
        database: file of the scan.
        part: the part.
        store: folder of the store.
        config: the grid.
    """

    database: Path
    part: Part
    store: Path
    config: PrepareConfig

    @property
    def outcome(self) -> Path:
        """File that says what became of the part."""
        grid = preprocessing_sha256(self.config)
        made_of = (ich3d.__version__, _FORMAT, grid, self.part.files_sha256)
        digest = hashlib.sha256(repr(made_of).encode()).hexdigest()[:32]
        return self.store / "parts" / f"{digest}.json"

    @property
    def attempts(self) -> Path:
        """File of the workers that began with the part and may have died of it."""
        return self.outcome.with_suffix(".attempts")


@dataclass(frozen=True)
class Outcome:
    """What became of a part.

    Attributes:
        volume_ids: the stored volumes.
        rejected: files, series and volumes that cannot be used.
        left_out: files that are no part of a CT volume.
    """

    volume_ids: tuple[str, ...]
    rejected: tuple[Rejected, ...]
    left_out: tuple[LeftOut, ...]


def prepare_part(task: PartTask) -> None:
    """Store the series of a part that are not stored yet, and write the outcome."""
    scan = HeaderScan(task.database)
    source_index = index_contents(scan.root, scan.contents(task.part.number), STRICT)
    volume_ids: list[str] = []
    rejected: list[Rejected] = []
    for group in group_by_series_uid(source_index.series):
        stored, not_stored = _store_group(group, task.store, task.config)
        volume_ids += stored
        rejected += not_stored
    all_rejected = source_index.all_rejected(rejected)
    write_outcome(task, Outcome(tuple(volume_ids), all_rejected, source_index.left_out))


def note_attempt(task: PartTask, worker: str) -> None:
    """Note beside the store that `worker`, one word, begins with a part, or died of it."""
    task.attempts.parent.mkdir(parents=True, exist_ok=True)
    with task.attempts.open("a") as file:
        file.write(f"{worker}\n")


def attempts(task: PartTask) -> list[str]:
    """The workers that were noted since the part was prepared last."""
    return task.attempts.read_text().split() if task.attempts.exists() else []


def give_up(task: PartTask) -> None:
    """Reject the series of a part, because it killed its process `MOST_DEATHS` times."""
    scan = HeaderScan(task.database)
    source_index = index_contents(scan.root, scan.contents(task.part.number), STRICT)
    detail = (
        f"the process that prepared it was killed {MOST_DEATHS} times, as a system does that runs "
        "out of memory"
    )
    rejected = [
        series.reject(Issue(IssueCode.KILLED_WORKER, detail)) for series in source_index.series
    ]
    all_rejected = source_index.all_rejected(rejected)
    write_outcome(task, Outcome((), all_rejected, source_index.left_out))


def write_outcome(task: PartTask, outcome: Outcome) -> None:
    """Write what became of a part."""
    tree = {
        "volumes": {
            volume_id: series_file(task.store, volume_id).stat().st_size
            for volume_id in outcome.volume_ids
        },
        "rejected": [[item.subject, *_entry(item)] for item in outcome.rejected],
        "left_out": [_entry(item) for item in outcome.left_out],
    }
    write_json(task.outcome, tree)
    task.attempts.unlink(missing_ok=True)


def read_outcome(task: PartTask) -> Outcome | None:
    """What became of a part; None where it is to be prepared: it has no outcome yet, a damaged one,
    or one older than a file of its series, which then is looked at again.
    """
    if not task.outcome.exists():
        return None
    try:
        tree = read_json(task.outcome)
    except DataError:
        return None
    written_ns = task.outcome.stat().st_mtime_ns
    for volume_id, n_bytes in tree["volumes"].items():
        path = series_file(task.store, volume_id)
        if not path.exists() or path.stat().st_size != n_bytes:
            return None
        if path.stat().st_mtime_ns > written_ns:
            return None
    return Outcome(
        tuple(tree["volumes"]),
        tuple(
            Rejected(subject, IssueCode(code), detail, tuple(paths))
            for subject, code, detail, paths in tree["rejected"]
        ),
        tuple(
            LeftOut(tuple(paths), IssueCode(code), detail)
            for code, detail, paths in tree["left_out"]
        ),
    )


def remove_other_outcomes(tasks: Iterable[PartTask], store: Path) -> None:
    """Remove the outcomes of parts that there are no more, and what killed processes left."""
    wanted = {task.outcome.stem for task in tasks}
    for path in (store / "parts").glob("*"):
        if path.stem not in wanted and path.is_file():
            path.unlink()
    for folder in (store, store / "parts"):
        remove_leftovers(folder)


def _entry(item: Rejected | LeftOut) -> list[object]:
    return [item.code.value, item.detail, list(item.paths)]


def _store_group(
    group: SeriesGroup, folder: Path, config: PrepareConfig
) -> tuple[list[str], list[Rejected]]:
    """Store the volumes of one SeriesInstanceUID; nothing is decoded where all are stored."""
    kept = [series.volume_id for series in group if _is_current(folder, series, config)]
    missing = [series for series in group if series.volume_id not in kept]
    rejected: list[Rejected] = []
    stored: list[str] = []
    results = prepare_group(group, missing, config) if missing else []
    for series, prepared in zip(missing, results, strict=True):
        if isinstance(prepared, Rejected):
            rejected.append(prepared)
        else:
            write_series(folder, prepared, series_fingerprint(series, prepared.hu))
            stored.append(prepared.volume_id)

    # One unreadable volume rejects the whole SeriesInstanceUID, also what was stored before.
    if any(result.subject == group[0].series_uid for result in rejected):
        return [], rejected
    return [*kept, *stored], rejected


def _is_current(folder: Path, series: Series, config: PrepareConfig) -> bool:
    """Whether the series is stored, made of the same files on the same grid."""
    metadata = read_undamaged(folder, series.volume_id)
    if metadata is None or read_fingerprint(folder, series.volume_id) is None:
        return False
    wanted = (preprocessing_sha256(config), files_digest(series))
    return (metadata.preprocessing_sha256, metadata.files_sha256) == wanted
