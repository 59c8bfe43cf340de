"""Predictions and the labels of their slices: what `ich3d evaluate` judges.

Predictions are the output folder of `ich3d predict`, or a submission file of RSNA 2019. Every
labelled slice counts: one that has no score counts at the base rate, so that refusing a slice
never looks better than scoring it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from ich3d.core.errors import DataError
from ich3d.core.ground_truth import GroundTruth
from ich3d.core.labels import LABELS, STAGES
from ich3d.core.path_kinds import no_such, require_table
from ich3d.core.workspace import read_csv, read_json

BASE_RATE: Final = "base rate"
SUBMISSION: Final = "submission"
"""The names of two rows of the table; the others are called as the stages."""

AGREEMENT: Final = "agreement"

_TEXT: Final = ("study_uid", "series_uid", "volume_id", "sop_uid", "codes")
_NO_SCORES: Final = ("volume_id", "group_id", AGREEMENT)
"""Columns of a table of scores that are none."""

_SERIES_COLUMNS: Final = ("SOPInstanceUID", "series", "patient")


@dataclass(frozen=True)
class LabelledScores:
    """N labelled slices with the scores of each row of the table.

    Attributes:
        truth: the slices, with their series, patients and labels.
        prob: probabilities (N, K) by row: the base rate, then the stages or the submission.
        unscored: SOPInstanceUIDs of labelled slices without a score.
        n_unlabelled: scored slices without a label; they take no part.
        groups_are: what is resampled for intervals: `patient`, `study`, or None where slices are
            not known to belong together and no interval can be given.
        agreement: how far the model's folds agree (N,), NaN where that is not told; None where the
            predictions have no such column.
    """

    truth: GroundTruth
    prob: dict[str, np.ndarray]
    unscored: tuple[str, ...]
    n_unlabelled: int
    groups_are: str | None
    agreement: np.ndarray | None = None


def label_scores(predictions: Path, labels: pd.DataFrame, series: Path | None) -> LabelledScores:
    """Put predictions and labels together.

    Args:
        predictions: an output folder of `ich3d predict`, or a submission file `ID,Label`.
        labels: the table of `sources.read_labels`.
        series: a CSV with the columns SOPInstanceUID, series and patient; None where there is none.

    Raises:
        DataError: a file is missing or has other columns, or no labelled slice has a score.
    """
    is_folder = predictions.is_dir()
    scores = _folder_scores(predictions) if is_folder else _submission_scores(predictions)
    base_rate = _base_rate(predictions / "run.json" if is_folder else None, labels)

    slices = labels.join(scores.drop(columns=["volume_id", "group_id"]))
    where, groups_are = _where(slices.index, scores, series, is_folder)
    score_columns = [name for name in scores if name not in _NO_SCORES]
    is_scored = slices[score_columns].notna().all(axis=1).to_numpy()
    if not is_scored.any():
        raise DataError(
            f"no slice of {predictions} is labelled: the labels name {labels.index[0]} and others, "
            f"the predictions {scores.index[0] if len(scores) else 'no slice'}"
        )

    prob = {BASE_RATE: np.tile(base_rate, (len(slices), 1))}
    rows = STAGES if is_folder else (SUBMISSION,)
    for row in rows:
        columns = slices[[f"{row}_{label}" for label in LABELS]].to_numpy(float)  # (N, K)
        prob[row] = np.where(is_scored[:, None], columns, base_rate)

    table = pd.DataFrame(
        {
            "volume_id": where["volume_id"].to_numpy(),
            "sop_uid": slices.index,
            "group_id": where["group_id"].to_numpy(),
            "fold": 0,
            **{label: slices[label].to_numpy(float) for label in LABELS},
        }
    )
    return LabelledScores(
        truth=GroundTruth(table),
        prob=prob,
        unscored=tuple(slices.index[~is_scored]),
        n_unlabelled=int((~scores.index.isin(labels.index)).sum()),
        groups_are=groups_are,
        agreement=slices[AGREEMENT].to_numpy(float) if AGREEMENT in slices else None,
    )


def _folder_scores(folder: Path) -> pd.DataFrame:
    """Scores of all stages by SOPInstanceUID, with `volume_id` and `group_id`, its study.

    A SOPInstanceUID of several frames has the highest of each score, as in `submission.csv`, and
    the lowest agreement, where the table has that column.
    """
    path = folder / "slices.csv"
    if not path.is_file():
        raise DataError(f"{folder} holds no slices.csv: give an output folder of `ich3d predict`")
    slices = read_csv(path, text=_TEXT)
    require_whole(path, len(slices))
    score_columns = [f"{stage}_{label}" for stage in STAGES for label in LABELS]
    missing = [name for name in score_columns if name not in slices]
    if missing:
        raise DataError(f"{path} has no column {missing[0]}")

    by_slice = slices[slices["sop_uid"] != ""].groupby("sop_uid", sort=False)
    studies = slices["study_uid"].where(slices["study_uid"] != "", slices["volume_id"])
    table = by_slice[score_columns].max()
    if AGREEMENT in slices:
        table[AGREEMENT] = by_slice[AGREEMENT].min()
    table["volume_id"] = by_slice["volume_id"].first()
    table["group_id"] = studies.groupby(slices["sop_uid"]).first()
    return table


def require_whole(path: Path, n_rows: int) -> None:
    """Raise DataError where `slices.csv` of a prediction does not have all its rows: it was cut.

    `run.json` beside it counts them; a prediction of an earlier version did not.
    """
    run: Mapping[str, Any] = {}
    if (path.parent / "run.json").is_file():
        run = read_json(path.parent / "run.json")
    counted = "slices" in run and "slices_unscored" in run
    expected = run["slices"] + run["slices_unscored"] if counted else n_rows
    if n_rows != expected or not path.read_bytes().endswith(b"\n"):
        raise DataError(
            f"{path} was cut: it has {n_rows} of {expected} rows; run `ich3d predict` again"
        )


def _submission_scores(path: Path) -> pd.DataFrame:
    """Scores by SOPInstanceUID of a submission file, each slice in a series of its own."""
    if not path.is_file():
        raise no_such("file or folder", path)
    raw = read_csv(path, text=("ID",))
    for column in ("ID", "Label"):
        if column not in raw:
            raise DataError(
                f"{path} has no column {column}: name an output folder of `ich3d predict`, or a "
                "submission with the columns ID and Label"
            )
    parts = raw["ID"].str.rpartition("_")
    unknown = ~parts[2].isin(LABELS)
    if unknown.any():
        raise DataError(f"{path}: ID {raw['ID'][unknown].iloc[0]!r} ends in no label")

    prob = pd.to_numeric(raw["Label"], errors="coerce")
    invalid = ~prob.between(0, 1)
    if invalid.any():
        raise DataError(f"{path}: the Label of {raw['ID'][invalid].iloc[0]} is no probability")
    wide = prob.groupby([parts[0], parts[2]], sort=False).last().unstack()
    table = wide.reindex(columns=list(LABELS)).add_prefix(f"{SUBMISSION}_")
    return table.assign(volume_id=table.index, group_id=table.index)


def _base_rate(run: Path | None, labels: pd.DataFrame) -> np.ndarray:
    """The rate (K,) of each label: in the model's training set, or in the labels if not known."""
    own = labels.mean().to_numpy(float)
    known: Mapping[str, Any] = {}
    if run is not None and run.is_file():
        known = read_json(run).get("training_prevalence") or {}
    rates = [known.get(label) for label in LABELS]
    return np.array([own[k] if rate is None else rate for k, rate in enumerate(rates)], dtype=float)


def _where(
    sop_uids: pd.Index, scores: pd.DataFrame, series: Path | None, is_folder: bool
) -> tuple[pd.DataFrame, str | None]:
    """`volume_id` and `group_id` of each labelled slice, and what a group is.

    A slice of which nothing is known is a series and a group of its own.
    """
    known, groups_are = scores[["volume_id", "group_id"]], "study" if is_folder else None
    if series is not None:
        known, groups_are = _read_series(series), "patient"
    where = known.reindex(sop_uids)
    alone = pd.Series(sop_uids, index=sop_uids)
    return where.apply(lambda column: column.fillna(alone)), groups_are


def _read_series(path: Path) -> pd.DataFrame:
    """The table of series and patients by SOPInstanceUID."""
    require_table("table of series", path)
    table = read_csv(path, text=_SERIES_COLUMNS)
    missing = [name for name in _SERIES_COLUMNS if name not in table]
    if missing:
        raise DataError(f"{path} has no column {missing[0]}; it needs {', '.join(_SERIES_COLUMNS)}")
    table = table.drop_duplicates("SOPInstanceUID").set_index("SOPInstanceUID")
    return table.rename(columns={"series": "volume_id", "patient": "group_id"})[
        ["volume_id", "group_id"]
    ]
