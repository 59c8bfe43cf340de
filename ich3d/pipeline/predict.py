"""Studies in, six probabilities a slice out.

Writes `slices.csv`, `series.csv`, `submission.csv`, `failures.csv` and `run.json` into one folder. The
stack columns are the answer; encoder and context columns stand beside them.
"""

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

import ich3d
from ich3d.core.console import Progress, quiet
from ich3d.core.errors import DataError, suggestion
from ich3d.core.labels import ANY, LABELS, STAGES
from ich3d.core.types import FileRef, LeftOut, Rejected, Series, SliceKey, SliceScores
from ich3d.core.workspace import write_csv, write_json
from ich3d.dicom.check import check_siblings
from ich3d.dicom.index import Index, index, index_all
from ich3d.learn import bf16_is_native, device
from ich3d.pipeline.chain import mean_score
from ich3d.pipeline.model import Model
from ich3d.prepare.build import prepare_series, rejected_table
from ich3d.prepare.store import StoredSeries

log = logging.getLogger(__name__)
TOP_SLICES = 3
_KEYS = ("study_uid", "series_uid", "volume_id")


@dataclass(frozen=True)
class Predicted:
    """One scored series: its facts, the file of each of its slices, its pixels on the model's grid, and
    `prob[stage]` float32 (Z, K). Slices run inferior to superior."""

    stored: StoredSeries
    files: tuple[FileRef, ...]
    hu: np.ndarray
    prob: dict[str, np.ndarray]
    out_of_range: tuple[str, ...]


@dataclass(frozen=True)
class Prediction:
    """All that was found: scored series, and what was rejected or left out."""

    series: tuple[Predicted, ...]
    rejected: tuple[Rejected, ...]
    left_out: tuple[LeftOut, ...]
    n_files: int


def predict(model: Model, paths: Sequence[Path], out: Path, progress: Progress = quiet) -> Prediction:
    """Score every head CT series below `paths` and write the tables to `out`.

    One bad series never stops the rest: it goes to `failures.csv` with its reason. DataError where a
    path does not exist.
    """
    started = time.time()
    out.mkdir(parents=True, exist_ok=True)
    prediction = predict_paths(model, paths, progress)
    slices = _concat([_slice_rows(item) for item in prediction.series], slice_columns())
    write_csv(out / "slices.csv", slices)
    write_csv(
        out / "series.csv", _concat([_series_row(item) for item in prediction.series], _series_columns())
    )
    write_csv(out / "submission.csv", submission(slices))
    write_csv(out / "failures.csv", rejected_table(prediction.rejected))
    where = device()
    facts = {
        "ich3d": ich3d.__version__,
        "model_sha256": model.sha256,
        "device": str(where),
        "precision": "bf16" if model.config.precision == "auto" and bf16_is_native(where) else "fp32",
        "seconds": round(time.time() - started, 2),
        "files": prediction.n_files,
        "files_in_volumes": len(slices),
        "files_left_out": sum(len(item.paths) for item in prediction.left_out),
        "series": len(prediction.series),
        "rejected": len(prediction.rejected),
    }
    write_json(out / "run.json", facts)
    return prediction


def predict_paths(model: Model, paths: Sequence[Path], progress: Progress = quiet) -> Prediction:
    """Score every head CT series below `paths`, writing nothing."""
    found = index_all([path.absolute() for path in paths], lambda files: progress(files, "headers"))
    return _predict_all(model, check_siblings(found), progress)


def predict_one(model: Model, path: Path, uid: str | None, progress: Progress = quiet) -> Prediction:
    """Score the only head CT series below `path`, or the one that `uid` names (a series or a volume).

    DataError where several are there to choose from, or none of that name.
    """
    headers = index(path.absolute(), lambda files: progress(files, "headers"))
    found = check_siblings(headers)
    asked = {uid, *(one.series_uid for one in headers.series if one.volume_id == uid)}
    known = [one.volume_id for one in found.series]
    chosen = tuple(one for one in found.series if uid in (None, one.series_uid, one.volume_id))
    rejected = tuple(item for item in found.rejected if uid is None or item.subject in asked)
    if len(chosen) > 1:
        raise DataError(f"{path} holds {len(chosen)} series; name one of them, such as {chosen[0].volume_id}")
    if uid is not None and known and not chosen and not rejected:
        raise DataError(f"no series {uid} in {path}{suggestion(uid, known)}")
    return _predict_all(model, replace(found, series=chosen, rejected=rejected), progress)


def _predict_all(model: Model, found: Index, progress: Progress) -> Prediction:
    rejected = list(found.rejected)
    predicted = []
    for series in progress(found.series, "series", total=len(found.series)):
        item = _predict_series(model, series)
        if isinstance(item, Rejected):
            rejected.append(item)
        else:
            predicted.append(item)
    return Prediction(tuple(predicted), tuple(rejected), found.left_out, found.n_files)


def submission(slices: pd.DataFrame) -> pd.DataFrame:
    """RSNA's form: `ID,Label`, six rows a SOPInstanceUID, the maximum over its frames."""
    wide = slices.groupby("sop_uid", sort=False)[[f"stack_{label}" for label in LABELS]].max()
    ids = [f"{sop_uid}_{label}" for sop_uid in wide.index for label in LABELS]
    return pd.DataFrame({"ID": ids, "Label": wide.to_numpy().ravel()})


def slice_columns() -> list[str]:
    """The columns of `slices.csv`."""
    scores = [f"{stage}_{label}" for stage in STAGES for label in LABELS]
    return [*_KEYS, "sop_uid", "frame", "slice_index", "z_mm", "gap_mm", "codes", *scores]


def _series_columns() -> list[str]:
    return [*_KEYS, "n_slices", "codes", "out_of_range", *(f"prob_{label}" for label in LABELS), "top_slices"]


def _predict_series(model: Model, series: Series) -> Predicted | Rejected:
    made = prepare_series(series, model.config.prepare)
    if isinstance(made, Rejected):
        return made
    stored, hu = made
    prob = mean_score(model.chains, hu, np.array(stored.z_mm), model.config)
    return Predicted(stored, _files(series, stored), hu, prob, _out_of_range(stored, model))


def _files(series: Series, stored: StoredSeries) -> tuple[FileRef, ...]:
    """The file of each stored slice; frames of one file share it."""
    files = {SliceKey(h.sop_uid, h.frame, h.file.name): h.file for h in series.headers}
    return tuple(files[key] for key in stored.keys)


def _out_of_range(stored: StoredSeries, model: Model) -> tuple[str, ...]:
    """Which facts of the series lie outside what the training set held."""
    names = []
    for name, (low, _, high) in model.fingerprint["ranges"].items():
        value = stored.facts.get(name)
        if value is not None and not low - 1e-6 <= value <= high + 1e-6:
            names.append(name)
    return tuple(sorted(names))


def _slice_rows(item: Predicted) -> pd.DataFrame:
    stored = item.stored
    gaps = np.diff(stored.z_mm)
    rows = stored.rows().assign(gap_mm=np.concatenate([[np.nan], gaps]).round(4))
    rows["z_mm"] = rows["z_mm"].round(4)
    for stage in STAGES:
        for k, label in enumerate(LABELS):
            rows[f"{stage}_{label}"] = item.prob[stage][:, k].astype(np.float64).round(7)
    return rows[slice_columns()]


def _series_row(item: Predicted) -> pd.DataFrame:
    stored, stack = item.stored, item.prob["stack"]
    top = np.argsort(-stack[:, LABELS.index(ANY)], kind="stable")[:TOP_SLICES]
    row = {
        "study_uid": stored.study_uid,
        "series_uid": stored.series_uid,
        "volume_id": stored.volume_id,
        "n_slices": len(stored.keys),
        "codes": stored.codes,
        "out_of_range": "|".join(item.out_of_range),
        "top_slices": "|".join(stored.keys[i].sop_uid for i in top),
    }
    prob = SliceScores(stored.volume_id, "stack", stack).series_prob
    row |= {f"prob_{label}": round(float(prob[k]), 7) for k, label in enumerate(LABELS)}
    return pd.DataFrame([row])[_series_columns()]


def _concat(tables: Iterable[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    whole = list(tables)
    return pd.concat(whole, ignore_index=True) if whole else pd.DataFrame(columns=columns)
