"""From a source of DICOM files and labels to the prepared store.

Preparation can be interrupted and resumed: a stored series is kept as long as its DICOM files and
the preprocessing are the same.
"""

import logging
import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from ich3d.config.load import as_dict
from ich3d.config.root import Config
from ich3d.config.schema import SEQUENCES, PrepareConfig
from ich3d.core.errors import ConfigError, DataError
from ich3d.core.labels import LABELS
from ich3d.core.progress import Progress, quiet
from ich3d.core.seeds import derive
from ich3d.core.text import pluralize
from ich3d.core.types import Rejected
from ich3d.core.workspace import Workspace, read_json, write_csv, write_json
from ich3d.dicom.index import STRICT, index_contents
from ich3d.dicom.inspection import not_hu_summary
from ich3d.dicom.scan import HeaderScan, Part, finished_scan, scan_headers
from ich3d.phantom import write_phantoms
from ich3d.prepare.contact_sheet import write_contact_sheets
from ich3d.prepare.existing import claim_series, claim_store, require_same_slices
from ich3d.prepare.fingerprint import NotUsed, SeriesTally, data_fingerprint
from ich3d.prepare.fold_table import FoldRecord, fold_facts, fold_table, with_folds
from ich3d.prepare.parts import (
    Outcome,
    PartTask,
    read_outcome,
    remove_other_outcomes,
)
from ich3d.prepare.spread import HERE, Shard, Spread, prepare_parts
from ich3d.prepare.store import (
    Store,
    preprocessing_sha256,
    require_fingerprint,
    require_metadata,
    slice_rows,
)
from ich3d.prepare.tables import (
    conflict_table,
    fingerprint,
    inspect_table,
    rejected_table,
    unmatched_table,
)
from ich3d.sources import Source, folder_source, import_ct_ich, read_labels, rsna_source

log = logging.getLogger(__name__)

VOLUMES_AT_ONCE: Final = 500
"""Volumes whose metadata are in memory together while tables are made of them."""

FEWEST_PATIENTS: Final = 8
"""Below so many patient groups a warning says that figures mean nothing: results and
recalibration claim nothing for a label of fewer patients either.
"""


@dataclass(frozen=True)
class PreparedSource:
    """A complete store, and the series and files of its source that could not be used."""

    store: Store
    rejected: tuple[Rejected, ...]


@dataclass(frozen=True)
class _Tables:
    """The tables of a store.

    Attributes:
        slices: a row a slice, with labels.
        series: a row a series.
        labels: the source's label table, also of slices that are not stored.
        tally: what the series are like, for the fingerprint.
    """

    slices: pd.DataFrame
    series: pd.DataFrame
    labels: pd.DataFrame
    tally: SeriesTally


def prepare(
    config: Config,
    progress: Progress = quiet,
    overwrite: bool = False,
    spread: Spread = HERE,
    refold: bool = False,
) -> PreparedSource:
    """Prepare the source that `config` names and write the store to its workspace.

    `inspect.csv`, `folds.csv`, `rejected.csv`, `unmatched.csv`, `conflicting_labels.csv`,
    `fingerprint.json` and the contact sheets are written beside the store.

    Where `source.path` is not set, a complete store that lies in the workspace is used as it is: it
    was prepared on another machine, for training needs no DICOM files.

    When data are added, the patients of a finished store keep their folds.

    Args:
        config: source, workspace and grid.
        progress: shows headers, series and tables.
        overwrite: whether other data in the workspace are replaced; see `prepare.existing`.
        spread: where the series are prepared.
        refold: give all patients a fold anew.

    Raises:
        ConfigError: the source holds no images.
        DataError: the source cannot be read, holds no head CT, or holds fewer patient groups than
            `prepare.folds`; a new link joins patients of several folds; a store without its source
            has another grid or other folds; or the workspace holds other data and `overwrite` is
            not set.
    """
    if config.source.kind == SEQUENCES:
        raise ConfigError(f"source.kind {SEQUENCES} holds no images: it is for `ich3d ablate`")
    workspace = Workspace(Path(config.workspace))
    is_carried = config.source.kind != "phantom" and config.source.path is None
    if is_carried and (workspace.store / "meta.json").exists():
        return PreparedSource(_carried_store(workspace.store, config.prepare), ())

    claim_store(config, workspace, overwrite)
    source = open_source(config, workspace, progress, spread.workers)
    scan = _scan(source, config, workspace.scan, spread.workers, progress)
    tasks = _tasks(scan, config, workspace)
    prepare_parts(tasks, spread, progress)

    found = _found(scan, tasks)
    not_hu = not_hu_summary(found.left_out)
    if not_hu:
        log.warning("%s", not_hu)
    claim_series(workspace, found.volume_ids, overwrite)
    remove_other_outcomes(tasks, workspace.store)
    write_csv(workspace.rejected, rejected_table(found.rejected))
    if not found.volume_ids:
        raise DataError(
            f"{source.images} holds no head CT volume; {len(found.rejected)} rejected, "
            f"see {workspace.rejected}"
        )

    tables = _tables(source, config, workspace.store, found.volume_ids, progress)
    record = FoldRecord.read(workspace.folds, workspace.store / "meta.json", config)
    slices = with_folds(tables.slices, config, FoldRecord({}) if refold else record)
    if not overwrite:
        require_same_slices(workspace, slices)
    tables = replace(tables, slices=slices)
    store = _complete(source, config, workspace, tables, found, progress)
    log.info(
        "%d series, %s, %d rejected",
        len(found.volume_ids), pluralize(len(slices), "slice"), len(found.rejected),
    )  # fmt: skip
    return PreparedSource(store, found.rejected)


def prepare_shard(
    config: Config, shard: Shard, progress: Progress = quiet, spread: Spread = HERE
) -> int:
    """Prepare one of several shards of a source, on this or another machine with the same folders.

    No shard waits for another. When all are done, `prepare` finds that the series are prepared,
    and completes the store. A shard reads all headers itself, unless a finished scan of them lies
    in the workspace.

    Returns:
        How many parts of the source, such as studies, the shard has.

    Raises:
        ConfigError: the source is not one of files that lie there.
        DataError: the source cannot be read, or the workspace holds other data.
    """
    if config.source.kind not in ("folder", "rsna"):
        raise ConfigError(
            f"source.kind {config.source.kind} writes its DICOM files itself and is prepared as a "
            "whole: leave out --shard"
        )
    workspace = Workspace(Path(config.workspace))
    claim_store(config, workspace, overwrite=False)
    source = open_source(config, workspace, progress)
    scan = finished_scan(
        source.images.absolute(), workspace.scan, source.within, config.source.follow_links
    )
    if scan is None:
        scan = _scan(source, config, workspace.shard_scan(str(shard)), spread.workers, progress)
    tasks = [task for task in _tasks(scan, config, workspace) if shard.has(task)]
    prepare_parts(tasks, spread, progress)
    return len(tasks)


def _scan(
    source: Source, config: Config, database: Path, workers: int, progress: Progress
) -> HeaderScan:
    """The headers of the source's files."""
    return scan_headers(
        source.images.absolute(),
        database.absolute(),
        within=source.within,
        follow_links=config.source.follow_links,
        workers=workers,
        progress=progress,
    )


def _tasks(scan: HeaderScan, config: Config, workspace: Workspace) -> list[PartTask]:
    """The parts of the source to prepare."""
    return [
        PartTask(scan.database, part, workspace.store.absolute(), config.prepare)
        for part in _subset(scan.parts(), config)
    ]


def _found(scan: HeaderScan, tasks: Sequence[PartTask]) -> Outcome:
    """What became of all parts, and of the files that are in none."""
    loose = index_contents(scan.root, scan.without_series(), STRICT, scan.unread())
    outcomes = [outcome for task in tasks if (outcome := read_outcome(task)) is not None]
    rejected = [*loose.rejected, *(item for one in outcomes for item in one.rejected)]
    return Outcome(
        tuple(sorted(volume_id for one in outcomes for volume_id in one.volume_ids)),
        tuple(sorted(rejected, key=lambda item: (item.subject, item.paths))),
        (*loose.left_out, *(files for one in outcomes for files in one.left_out)),
    )


def _tables(
    source: Source, config: Config, store: Path, volume_ids: Sequence[str], progress: Progress
) -> _Tables:
    """The tables of the stored volumes."""
    slices, series, tally = _read_tables(store, volume_ids, progress)
    labels = _labels(source, config.source.repair_labels)
    return _Tables(slices.join(labels.astype(np.float32), on="sop_uid"), series, labels, tally)


def _complete(
    source: Source,
    config: Config,
    workspace: Workspace,
    tables: _Tables,
    found: Outcome,
    progress: Progress,
) -> Store:
    """Write the tables and the fingerprint of a store whose series are all there, and open it."""
    is_subset = config.source.max_slices is not None
    _tell_labels(source, tables.labels, tables.slices, is_subset)
    unmatched = unmatched_table(tables.slices, tables.labels, source.unmatched, is_subset)
    write_csv(workspace.unmatched, unmatched)
    write_csv(workspace.inspect, tables.series)
    conflicts = conflict_table(tables.slices)
    write_csv(workspace.conflicts, conflicts)
    if len(conflicts):
        log.warning(
            "%s have pixels of another slice but not its labels: see %s",
            pluralize(len(conflicts), "slice"),
            workspace.conflicts,
        )
    write_csv(workspace.folds, fold_table(tables.slices))
    sheets = write_contact_sheets(workspace, tables.slices, progress)
    not_used = NotUsed(found.rejected, found.left_out, unmatched, conflicts)
    write_json(
        workspace.fingerprint,
        data_fingerprint(tables.tally, tables.slices, not_used, config.prepare, sheets),
    )
    meta = {
        "pixel_mm": config.prepare.pixel_mm,
        "matrix": config.prepare.matrix,
        "preprocessing_sha256": preprocessing_sha256(config.prepare),
        "fingerprint": fingerprint(tables.series, tables.slices),
        "folds": fold_facts(config),
    }
    return Store.finish(workspace.store, tables.slices, meta)


def require_labels(store: Store) -> None:
    """Raise DataError if no slice of the store has a label, so that nothing can be trained."""
    if not store.bleeds(store.volume_ids):
        raise DataError(
            f"no slice in {store.folder} has a label: set source.labels to a CSV file with the "
            "columns ID,Label, where an ID is <SOPInstanceUID>_<label>, and prepare again"
        )


def open_source(
    config: Config, workspace: Workspace, progress: Progress = quiet, workers: int = 1
) -> Source:
    """Images and labels of the config's source.

    Phantoms and CT-ICH are first written to the workspace as DICOM, unless they are there already.
    DataError where `source.path` is needed and not set.
    """
    kind, path = config.source.kind, config.source.path
    if kind == "phantom":
        return _phantoms(config, workspace.source(kind), progress, workers)

    if path is None:
        variable = "" if kind == "folder" else f": export ICH3D_{kind.upper()}, its folder"
        raise DataError(f"source.path is not set, and source.kind {kind} needs it{variable}")
    if kind == "rsna":
        return rsna_source(Path(path), workspace.source(kind))
    if kind == "ct_ich":
        return import_ct_ich(
            Path(path), workspace.source(kind), lambda patients: progress(patients, "import")
        )
    return folder_source(Path(path), Path(config.source.labels) if config.source.labels else None)


def _carried_store(folder: Path, config: PrepareConfig) -> Store:
    """The complete store in `folder`. DataError if it has another grid or other folds."""
    store = Store(folder)
    is_same_grid = store.meta["preprocessing_sha256"] == preprocessing_sha256(config)
    if not is_same_grid or set(store.folds.values()) != set(range(config.folds)):
        raise DataError(
            f"{folder} was prepared with another prepare.matrix, prepare.pixel_mm or prepare.folds "
            "than this configuration asks for, and source.path is not set: set it to prepare anew"
        )
    log.info("source.path is not set: %s is used as it is", folder)
    return store


def _phantoms(config: Config, folder: Path, progress: Progress, workers: int) -> Source:
    """The config's phantoms in `folder`; phantoms of another config that lie there are replaced."""
    written_with = folder / "phantom.json"
    wanted = {"seed": config.seed, "phantom": as_dict(config.phantom)}
    if not written_with.exists() or read_json(written_with) != wanted:
        if written_with.exists():
            shutil.rmtree(folder)
        studies = write_phantoms(config.phantom, config.seed, folder, workers)
        for _ in progress(studies, "phantoms", total=config.phantom.studies):
            pass
        write_json(written_with, wanted)
    return Source(images=folder, labels=folder / "labels.csv")


def _labels(source: Source, repair: bool) -> pd.DataFrame:
    """The source's labels by sop_uid, a column a label; empty where it has none."""
    if source.labels:
        return read_labels(source.labels, repair)
    return pd.DataFrame(columns=list(LABELS), dtype=float)


def _tell_labels(
    source: Source, labels: pd.DataFrame, slices: pd.DataFrame, is_subset: bool
) -> None:
    """Log how labels and slices match. DataError where there is a table and no label matches."""
    if source.labels is None:
        log.warning("no label table: set source.labels to a CSV file before you train")
        return
    is_labelled = slices[list(LABELS)].notna().any(axis=1)
    if not is_labelled.any():
        raise DataError(
            f"no label of {source.labels} matches an image: the table names "
            f"{labels.index[0]}, an image has the SOPInstanceUID {slices['sop_uid'].iloc[0]}"
        )
    n_unused = 0 if is_subset else len(set(labels.index) - set(slices["sop_uid"]))
    patients = slices[list(LABELS)].eq(1).groupby(slices["group_id"]).any().sum()
    log.info(
        "labels for %d of %s; %s no image; patients with %s",
        is_labelled.sum(),
        pluralize(len(slices), "slice"),
        f"{pluralize(n_unused, 'labelled slice')} {'has' if n_unused == 1 else 'have'}",
        ", ".join(f"{label} {count}" for label, count in patients.items()),
    )
    if slices["group_id"].nunique() < FEWEST_PATIENTS:
        log.warning(
            "%s: no figure of such a run means anything",
            pluralize(slices["group_id"].nunique(), "patient group"),
        )


def _subset(parts: Sequence[Part], config: Config) -> list[Part]:
    """All parts, or those of the first patients in a seeded order up to `source.max_slices`.

    The last patient is taken whole, so that the number of slices may be exceeded.
    """
    limit = config.source.max_slices
    if limit is None:
        return list(parts)

    parts_of: dict[str, list[Part]] = defaultdict(list)
    for part in parts:
        for patient in part.patients:
            parts_of[patient].append(part)
    order = sorted(parts_of, key=lambda patient: derive(config.seed, "subset", patient))
    chosen: dict[int, Part] = {}
    for patient in order:
        if sum(part.n_slices for part in chosen.values()) >= limit:
            break
        chosen |= {part.number: part for part in parts_of[patient]}
    return [chosen[number] for number in sorted(chosen)]


def _read_tables(
    folder: Path, volume_ids: Sequence[str], progress: Progress
) -> tuple[pd.DataFrame, pd.DataFrame, SeriesTally]:
    """A row a slice and a row a series of the stored volumes, and what they are like."""
    slices, series, tally = [], [], SeriesTally()
    starts = range(0, len(volume_ids), VOLUMES_AT_ONCE)
    for start in progress(starts, "tables", total=len(starts)):
        names = volume_ids[start : start + VOLUMES_AT_ONCE]
        stored = [require_metadata(folder, name) for name in names]
        slices.append(pd.concat([slice_rows(one) for one in stored]))
        series.append(inspect_table(stored))
        for one in stored:
            tally.add(one, require_fingerprint(folder, one.volume_id))
    return pd.concat(slices, ignore_index=True), pd.concat(series, ignore_index=True), tally
