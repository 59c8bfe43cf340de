"""From a source to a whole store: index, volumes, head crops, groups, folds, labels.

What could not be used is written beside it: `rejected.csv`, `unmatched.csv`. Preparation goes on
where it stopped: a series whose file is there, made the same way from the same slices, is kept.
"""

import hashlib
import logging
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from ich3d.config.load import as_dict
from ich3d.config.root import Config
from ich3d.config.schema import PrepareConfig
from ich3d.core import issues as codes
from ich3d.core.errors import DataError
from ich3d.core.issues import IssueCode
from ich3d.core.labels import LABELS
from ich3d.core.progress import Progress, quiet
from ich3d.core.seeds import derive, stream
from ich3d.core.text import pluralize
from ich3d.core.types import Rejected, Series
from ich3d.core.workspace import Workspace, read_json, write_csv, write_json
from ich3d.dicom.index import index
from ich3d.dicom.validate import check_siblings
from ich3d.dicom.volume import load_volume
from ich3d.phantom import write_phantoms
from ich3d.prepare import folds, head
from ich3d.prepare.store import Store, StoredSeries, preprocessing_sha256, read_stored, write_series
from ich3d.sources import Source, folder_source, import_ct_ich, read_labels, rsna_source

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PreparedSource:
    """A whole store and what was refused on the way to it."""

    store: Store
    rejected: tuple[Rejected, ...]


def prepare(config: Config, progress: Progress = quiet) -> PreparedSource:
    """Prepare the source that `config` names into its workspace.

    Raises DataError where the source cannot be read or holds too few patients for the folds.
    """
    workspace = Workspace(Path(config.workspace))
    source = open_source(config, workspace, progress)
    found = check_siblings(index(source.images, lambda files: progress(files, "headers")))
    kept = _subset(found.series, config)
    stored, rejected = _store_all(kept, workspace.store, config.prepare, progress)
    refused = (*found.rejected, *rejected)
    write_csv(workspace.rejected, rejected_table(refused))
    if not stored:
        raise DataError(
            f"{source.images} holds no head CT volume; {len(refused)} rejected, see {workspace.rejected}"
        )
    table = pd.concat([item.rows() for item in stored], ignore_index=True)
    labels = (
        read_labels(source.labels)
        if source.labels
        else pd.DataFrame(columns=list(LABELS), dtype=float)
    )
    table = table.join(labels.astype(np.float32), on="sop_uid")
    table, fold_table = _assign_folds(table, config)
    subset = config.source.max_slices is not None
    write_csv(workspace.unmatched, _unmatched(table, labels, source, subset))
    write_csv(workspace.inspect, _inspect_table(stored))
    write_csv(workspace.folds, fold_table)
    meta = {
        "pixel_mm": config.prepare.pixel_mm,
        "matrix": config.prepare.matrix,
        "preprocessing_sha256": preprocessing_sha256(config.prepare),
        "fingerprint": fingerprint(stored, table),
    }
    store = Store.finish(workspace.store, table, meta)
    log.info(
        "%d series, %s, %d rejected", len(stored), pluralize(len(table), "slice"), len(refused)
    )
    return PreparedSource(store, refused)


def open_source(config: Config, workspace: Workspace, progress: Progress = quiet) -> Source:
    """Studies and labels of the config's source; phantoms and CT-ICH are first written to the workspace."""
    kind, path = config.source.kind, config.source.path
    if kind == "phantom":
        return _phantoms(config, workspace.source(kind), progress)
    if path is None:
        where = "" if kind == "folder" else f": export ICH3D_{kind.upper()}, its folder"
        raise DataError(f"source.path is not set, and source.kind {kind} needs it{where}")
    if kind == "rsna":
        return rsna_source(Path(path))
    if kind == "ct_ich":
        return import_ct_ich(
            Path(path), workspace.source(kind), lambda items: progress(items, "import")
        )
    return folder_source(Path(path), Path(config.source.labels) if config.source.labels else None)


def _phantoms(config: Config, folder: Path, progress: Progress) -> Source:
    """The config's phantoms, written unless they are there already; other phantoms make way for them."""
    mark = folder / "phantom.json"
    wanted = {"seed": config.seed, "phantom": as_dict(config.phantom)}
    if not mark.exists() or read_json(mark) != wanted:
        if mark.exists():
            shutil.rmtree(folder)
        done = write_phantoms(config.phantom, config.seed, folder)
        for _ in progress(done, "phantoms", total=config.phantom.studies):
            pass
        write_json(mark, wanted)
    return Source(images=folder, labels=folder / "labels.csv")


def prepare_series(
    series: Series, config: PrepareConfig
) -> tuple[StoredSeries, np.ndarray] | Rejected:
    """One series on the model's grid: its facts and HU int16 (Z, H, W), or why it is refused."""
    volume = load_volume(series)
    if isinstance(volume, Rejected):
        return volume
    turned = head.reorient(volume)
    if isinstance(turned, Rejected):
        return replace(turned, paths=series.paths)
    hu = head.crop_head(turned, config)
    if hu is None:
        detail = "no body of tissue as large as a head was found"
        return Rejected(series.volume_id, IssueCode.NO_HEAD, detail, series.paths)
    stored = StoredSeries(
        volume_id=series.volume_id,
        series_uid=series.series_uid,
        study_uid=series.study_uid,
        patient_id=folds.pseudonym(series.patient_id),
        preprocessing=preprocessing_sha256(config),
        files=files_digest(series),
        z_mm=turned.z_mm.tolist(),
        keys=list(turned.keys),
        hashes=folds.slice_hashes(turned.hu, head.brain_cm2(turned)),
        codes=codes.join([reason.code for reason in volume.reasons]),
        facts={
            "n_slices": len(series),
            "spacing_mm": series.spacing_mm,
            "largest_gap_mm": float(np.diff(series.z_mm).max()) if len(series) > 1 else None,
            "tilt_deg": series.tilt_deg,
            "is_regular": series.is_regular,
            "rows": series.headers[0].rows,
            "columns": series.headers[0].columns,
            "pixel_mm": series.headers[0].pixel_spacing_mm[0],
            "transfer_syntaxes": "|".join(
                sorted({header.transfer_syntax for header in series.headers})
            ),
        },
    )
    return stored, hu


def rejected_table(rejected: Iterable[Rejected]) -> pd.DataFrame:
    """One row a rejected subject, in the form of `rejected.csv` and `failures.csv`."""
    rows = [
        {
            "subject": item.subject,
            "path": "|".join(item.paths),
            "code": item.code.value,
            "detail": item.detail,
        }
        for item in rejected
    ]
    return pd.DataFrame(rows, columns=["subject", "path", "code", "detail"])


def fingerprint(stored: list[StoredSeries], table: pd.DataFrame) -> dict[str, object]:
    """What the training set is like: its geometry (lowest, median, highest; what no series has is left
    out), how many series hold each transfer syntax, and how often each label occurs (None if not known).
    """
    facts = pd.DataFrame([item.facts for item in stored])
    numbers = [
        "n_slices",
        "spacing_mm",
        "largest_gap_mm",
        "tilt_deg",
        "rows",
        "columns",
        "pixel_mm",
    ]
    known = {name: facts[name].astype(float).dropna() for name in numbers}
    ranges = {name: v.quantile([0, 0.5, 1]).tolist() for name, v in known.items() if len(v)}
    means = {label: float(table[label].mean()) for label in LABELS}
    prevalence = {label: None if np.isnan(mean) else mean for label, mean in means.items()}
    counts = {
        "series": len(stored),
        "slices": len(table),
        "irregular": int((~facts["is_regular"]).sum()),
    }
    syntaxes = (
        facts["transfer_syntaxes"].str.split("|").explode().value_counts().sort_index().to_dict()
    )
    return {
        "counts": counts,
        "ranges": ranges,
        "transfer_syntaxes": syntaxes,
        "prevalence": prevalence,
    }


def _subset(series: tuple[Series, ...], config: Config) -> list[Series]:
    """All series, or those of the first patients in a seeded order until `source.max_slices` are in."""
    limit = config.source.max_slices
    if limit is None:
        return list(series)
    order = sorted(
        {s.patient_id for s in series}, key=lambda name: derive(config.seed, "subset", name)
    )
    kept: list[Series] = []
    count = 0
    for patient in order:
        if count >= limit:
            break
        own = [s for s in series if s.patient_id == patient]
        kept += own
        count += sum(map(len, own))
    return kept


def _store_all(
    series: list[Series], folder: Path, config: PrepareConfig, progress: Progress
) -> tuple[list[StoredSeries], list[Rejected]]:
    stored, rejected = [], []
    for one in progress(series, "volumes", total=len(series)):
        ready = read_stored(folder, one.volume_id)
        if ready is None or not _is_current(ready, one, config):
            made = prepare_series(one, config)
            if isinstance(made, Rejected):
                rejected.append(made)
                continue
            ready, hu = made
            write_series(folder, ready, hu)
        stored.append(ready)
    return stored, rejected


def _is_current(stored: StoredSeries, series: Series, config: PrepareConfig) -> bool:
    return stored.preprocessing == preprocessing_sha256(config) and stored.files == files_digest(
        series
    )


def files_digest(series: Series) -> str:
    """A hash of the files of a series: their names, sizes and times of change."""
    facts = []
    for header in series.headers:
        status = header.file.path.stat()
        facts.append((header.file.name, header.frame, status.st_size, status.st_mtime_ns))
    return hashlib.sha256(repr(sorted(facts, key=repr)).encode()).hexdigest()


def _assign_folds(table: pd.DataFrame, config: Config) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`table` with group_id and fold a slice, and the table of folds, one row a patient."""
    group_of = folds.link(table["patient_id"].tolist(), table["hash"].tolist())
    group = table["patient_id"].map(group_of)
    bleeds = {
        str(name): np.nan_to_num(rows.max().to_numpy(float))
        for name, rows in table[list(LABELS)].groupby(group, sort=True)
    }
    if len(bleeds) < config.prepare.folds:
        too_few = f"{pluralize(len(bleeds), 'patient group')} {'is' if len(bleeds) == 1 else 'are'} too few"
        raise DataError(f"{too_few} for prepare.folds={config.prepare.folds}; every fold needs one")
    fold_of = folds.assign_folds(bleeds, config.prepare.folds, stream(config.seed, "folds"))
    table = table.assign(group_id=group, fold=group.map(fold_of))
    fold_table = (
        table[["patient_id", "group_id", "fold"]]
        .drop_duplicates()
        .sort_values(["fold", "patient_id"])
    )
    return table, fold_table


def _unmatched(
    table: pd.DataFrame, labels: pd.DataFrame, source: Source, subset: bool
) -> pd.DataFrame:
    """Slices without a label, labels without a slice (not asked of a subset), and an importer's leftovers."""
    columns = ["sop_uid", "lacks", "detail"]
    imported = (
        pd.read_csv(source.unmatched, dtype=str)
        if source.unmatched
        else pd.DataFrame(columns=columns, dtype=str)
    )
    unlabelled = table.loc[table[list(LABELS)].isna().all(axis=1), ["sop_uid", "path"]]
    unlabelled = unlabelled.rename(columns={"path": "detail"}).assign(lacks="label")
    no_image = [] if subset else sorted(set(labels.index) - set(table["sop_uid"]))
    lost = pd.DataFrame(
        {"sop_uid": no_image, "lacks": "image", "detail": ""}, columns=columns, dtype=str
    )
    joined = pd.concat([imported, unlabelled[columns], lost], ignore_index=True)
    return joined.drop_duplicates("sop_uid")


def _inspect_table(stored: list[StoredSeries]) -> pd.DataFrame:
    """One row a stored series, with its geometry and reasons."""
    rows = [
        {
            "volume_id": s.volume_id,
            "series_uid": s.series_uid,
            "study_uid": s.study_uid,
            **s.facts,
            "codes": s.codes,
        }
        for s in stored
    ]
    return pd.DataFrame(rows)
