"""From a source of DICOM files and labels to the prepared store.

Preparation can be interrupted and resumed: a stored series is kept as long as its DICOM files and
the preprocessing are the same.
"""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from ich3d.config.load import as_dict
from ich3d.config.root import Config
from ich3d.config.schema import PrepareConfig
from ich3d.core.errors import DataError
from ich3d.core.labels import LABELS
from ich3d.core.progress import Progress, quiet
from ich3d.core.seeds import derive, stream
from ich3d.core.text import pluralize
from ich3d.core.types import Rejected, Series, SeriesMetadata
from ich3d.core.workspace import Workspace, read_json, write_csv, write_json
from ich3d.dicom.assembly.grouping import Policy
from ich3d.dicom.index import index
from ich3d.dicom.inspection import not_hu_summary
from ich3d.dicom.validate import SeriesGroup, group_by_series_uid
from ich3d.phantom import write_phantoms
from ich3d.prepare import folds
from ich3d.prepare.existing import claim_series, claim_store, require_same_slices
from ich3d.prepare.series import files_digest, prepare_group
from ich3d.prepare.store import (
    Store,
    preprocessing_sha256,
    read_undamaged,
    slice_rows,
    write_series,
)
from ich3d.prepare.tables import (
    fingerprint,
    inspect_table,
    rejected_table,
    unmatched_table,
)
from ich3d.sources import Source, folder_source, import_ct_ich, read_labels, rsna_source

log = logging.getLogger(__name__)

FEWEST_PATIENTS: Final = 8
"""Below so many patient groups a warning says that figures mean nothing: results and
recalibration claim nothing for a label of fewer patients either.
"""


@dataclass(frozen=True)
class PreparedSource:
    """A complete store, and the series and files of its source that could not be used."""

    store: Store
    rejected: tuple[Rejected, ...]


def prepare(config: Config, progress: Progress = quiet, overwrite: bool = False) -> PreparedSource:
    """Prepare the source that `config` names and write the store to its workspace.

    `inspect.csv`, `folds.csv`, `rejected.csv` and `unmatched.csv` are written beside the store.

    Where `source.path` is not set, a complete store that lies in the workspace is used as it is: it
    was prepared on another machine, for training needs no DICOM files.

    Args:
        config: the whole configuration.
        progress: shows how far it is.
        overwrite: whether other data in the workspace are replaced; see `prepare.existing`.

    Raises:
        DataError: the source cannot be read, holds no head CT, or holds fewer patient groups than
            `prepare.folds`; a store without its source has another grid or other folds; or the
            workspace holds other data and `overwrite` is not set.
    """
    workspace = Workspace(Path(config.workspace))
    is_carried = config.source.kind != "phantom" and config.source.path is None
    if is_carried and (workspace.store / "meta.json").exists():
        return PreparedSource(_carried_store(workspace.store, config.prepare), ())

    claim_store(config, workspace, overwrite)
    source = open_source(config, workspace, progress)
    policy = Policy(follow_links=config.source.follow_links)
    source_index = index(source.images, progress, policy)
    not_hu = not_hu_summary(source_index.left_out)
    if not_hu:
        log.warning("%s", not_hu)

    chosen = _subset(source_index.series, config)
    claim_series(workspace, chosen, overwrite)
    stored, not_stored = _store_all(chosen, workspace.store, config.prepare, progress)
    rejected = source_index.all_rejected(not_stored)
    write_csv(workspace.rejected, rejected_table(rejected))
    if not stored:
        raise DataError(
            f"{source.images} holds no head CT volume; {len(rejected)} rejected, "
            f"see {workspace.rejected}"
        )

    labels = _labels(source, config.source.repair_labels)
    slices = pd.concat([slice_rows(series) for series in stored], ignore_index=True)
    slices = slices.join(labels.astype(np.float32), on="sop_uid")
    slices = _with_folds(slices, config)

    if not overwrite:
        require_same_slices(workspace, slices)
    is_subset = config.source.max_slices is not None
    _tell_labels(source, labels, slices, is_subset)
    write_csv(workspace.unmatched, unmatched_table(slices, labels, source.unmatched, is_subset))
    write_csv(workspace.inspect, inspect_table(stored))
    write_csv(workspace.folds, _fold_table(slices))

    meta = {
        "pixel_mm": config.prepare.pixel_mm,
        "matrix": config.prepare.matrix,
        "preprocessing_sha256": preprocessing_sha256(config.prepare),
        "fingerprint": fingerprint(stored, slices),
    }
    store = Store.finish(workspace.store, slices, meta)
    log.info(
        "%d series, %s, %d rejected", len(stored), pluralize(len(slices), "slice"), len(rejected)
    )
    return PreparedSource(store, rejected)


def require_labels(store: Store) -> None:
    """Raise DataError if no slice of the store has a label, so that nothing can be trained."""
    if not store.bleeds(store.volume_ids):
        raise DataError(
            f"no slice in {store.folder} has a label: set source.labels to a CSV file with the "
            "columns ID,Label, where an ID is <SOPInstanceUID>_<label>, and prepare again"
        )


def open_source(config: Config, workspace: Workspace, progress: Progress = quiet) -> Source:
    """Images and labels of the config's source.

    Phantoms and CT-ICH are first written to the workspace as DICOM, unless they are there already.
    DataError where `source.path` is needed and not set.
    """
    kind, path = config.source.kind, config.source.path
    if kind == "phantom":
        return _phantoms(config, workspace.source(kind), progress)

    if path is None:
        variable = "" if kind == "folder" else f": export ICH3D_{kind.upper()}, its folder"
        raise DataError(f"source.path is not set, and source.kind {kind} needs it{variable}")
    if kind == "rsna":
        return rsna_source(Path(path))
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


def _phantoms(config: Config, folder: Path, progress: Progress) -> Source:
    """The config's phantoms in `folder`; phantoms of another config that lie there are replaced."""
    written_with = folder / "phantom.json"
    wanted = {"seed": config.seed, "phantom": as_dict(config.phantom)}
    if not written_with.exists() or read_json(written_with) != wanted:
        if written_with.exists():
            shutil.rmtree(folder)
        studies = write_phantoms(config.phantom, config.seed, folder)
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


def _subset(all_series: Sequence[Series], config: Config) -> list[Series]:
    """All series, or those of the first patients in a seeded order up to `source.max_slices`.

    The last patient is taken whole, so that the number of slices may be exceeded.
    """
    limit = config.source.max_slices
    if limit is None:
        return list(all_series)

    patients = {series.patient_id for series in all_series}
    order = sorted(patients, key=lambda patient: derive(config.seed, "subset", patient))
    chosen: list[Series] = []
    n_slices = 0
    for patient in order:
        if n_slices >= limit:
            break
        series_of_patient = [series for series in all_series if series.patient_id == patient]
        chosen += series_of_patient
        n_slices += sum(map(len, series_of_patient))
    return chosen


def _store_all(
    chosen: Sequence[Series], folder: Path, config: PrepareConfig, progress: Progress
) -> tuple[list[SeriesMetadata], list[Rejected]]:
    """Store the series that are not stored yet; metadata of all, in the order of `chosen`."""
    stored: dict[str, SeriesMetadata] = {}
    rejected: list[Rejected] = []
    groups = group_by_series_uid(chosen)
    for group in progress(groups, "series", total=len(groups)):
        for series in _store_group(group, folder, config):
            if isinstance(series, Rejected):
                rejected.append(series)
            else:
                stored[series.volume_id] = series
    in_order = [series.volume_id for series in chosen if series.volume_id in stored]
    return [stored[volume_id] for volume_id in in_order], rejected


def _store_group(
    group: SeriesGroup, folder: Path, config: PrepareConfig
) -> list[SeriesMetadata | Rejected]:
    """Store the volumes of one SeriesInstanceUID; nothing is decoded where all are stored."""
    current = [_current(folder, series, config) for series in group]
    missing = [series for series, kept in zip(group, current, strict=True) if kept is None]
    results: list[SeriesMetadata | Rejected] = []
    if missing:
        for prepared in prepare_group(group, missing, config):
            if isinstance(prepared, Rejected):
                results.append(prepared)
            else:
                write_series(folder, prepared)
                results.append(prepared.metadata)  # a whole store of pixels exceeds the memory

    # One unreadable volume rejects the whole SeriesInstanceUID, also what was stored before.
    rejected = [result for result in results if isinstance(result, Rejected)]
    if any(result.subject == group[0].series_uid for result in rejected):
        return results
    return [*results, *(kept for kept in current if kept is not None)]


def _current(folder: Path, series: Series, config: PrepareConfig) -> SeriesMetadata | None:
    """Metadata of the stored series, None where it is not stored or was made of other files."""
    metadata = read_undamaged(folder, series.volume_id)
    if metadata is None:
        return None
    wanted = (preprocessing_sha256(config), files_digest(series))
    return metadata if (metadata.preprocessing_sha256, metadata.files_sha256) == wanted else None


def _with_folds(slices: pd.DataFrame, config: Config) -> pd.DataFrame:
    """`slices` with group_id and fold of the patients. DataError with fewer groups than folds."""
    group_of = folds.link(slices["patient_id"].tolist(), slices["hash"].tolist())
    group_id = slices["patient_id"].map(group_of)
    bleeds = {
        str(name): np.nan_to_num(rows.max().to_numpy(float))
        for name, rows in slices[list(LABELS)].groupby(group_id, sort=True)
    }

    if len(bleeds) < config.prepare.folds:
        groups = pluralize(len(bleeds), "patient group")
        raise DataError(
            f"{groups} {'is' if len(bleeds) == 1 else 'are'} too few for "
            f"prepare.folds={config.prepare.folds}; every fold needs one"
        )

    fold_of = folds.assign_folds(bleeds, config.prepare.folds, stream(config.seed, "folds"))
    return slices.assign(group_id=group_id, fold=group_id.map(fold_of))


def _fold_table(slices: pd.DataFrame) -> pd.DataFrame:
    """The table of `folds.csv`: one row a patient."""
    patients = slices[["patient_id", "group_id", "fold"]].drop_duplicates()
    return patients.sort_values(["fold", "patient_id"])
