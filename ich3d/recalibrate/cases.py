"""A hospital's labelled cases, as a model scored them: what it is recalibrated on.

The scores must be those of this model, which the sha256 in `run.json` proves, and the patients must
be new to it, which their pseudonyms prove.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from ich3d.core.errors import DataError
from ich3d.core.labels import LABELS
from ich3d.core.pseudonym import NOBODY
from ich3d.core.seeds import stream
from ich3d.core.text import pluralize
from ich3d.core.workspace import read_csv, read_json
from ich3d.evaluation.predictions import require_whole
from ich3d.inference.tables import SLICE_COLUMNS, SLICE_TEXT
from ich3d.model.folder import Model
from ich3d.prepare.folds import assign_folds
from ich3d.prepare.hu_features import MIN_BRAIN_CM2

MIN_GROUPS: Final = 3
"""Patients below which there are no folds of them to cross-validate over."""

PATIENT: Final = "patient"
STUDY: Final = "study"

_STACK: Final = [f"stack_{label}" for label in LABELS]


@dataclass(frozen=True)
class Cases:
    """N scored slices of patients who are new to the model, series by series, inferior to superior.

    Attributes:
        folder: the output folder that they were read from.
        table: a row a slice: the columns of `slices.csv`, `group_id`, `fold` and a column for each
            label, NaN where it is not labelled. Every series has a label somewhere.
        groups_are: what `group_id` names: `patient`, or `study` where patients are not known.
        known_patients: pseudonyms of labelled patients whom the model was trained on, sorted; they
            take no part.
    """

    folder: Path
    table: pd.DataFrame
    groups_are: str
    known_patients: tuple[str, ...]

    @property
    def prob(self) -> np.ndarray:
        """The model's final probabilities (N, K)."""
        return self.table[_STACK].to_numpy(float)

    @property
    def target(self) -> np.ndarray:
        """Labels (N, K) as 0 or 1, NaN where there is none."""
        return self.table[list(LABELS)].to_numpy(float)

    @property
    def shows_brain(self) -> np.ndarray:
        """Which slices show brain, bool (N,); the others get next to nothing from any model."""
        return self.table["brain_cm2"].to_numpy() >= MIN_BRAIN_CM2

    @property
    def group(self) -> np.ndarray:
        """The patient group (N,) of each slice, as text."""
        return self.table["group_id"].to_numpy(str)

    @property
    def fold(self) -> np.ndarray:
        """The fold (N,) of each slice, from 0."""
        return self.table["fold"].to_numpy()

    @property
    def n_groups(self) -> int:
        """Number of patient groups."""
        return int(self.table["group_id"].nunique())

    @property
    def n_labelled(self) -> int:
        """Number of slices that have any label."""
        return int((~np.isnan(self.target)).any(axis=1).sum())


def read_cases(model: Model, folder: Path, labels: pd.DataFrame) -> Cases:
    """The labelled cases in an output folder of `ich3d predict`.

    A SOPInstanceUID of several frames takes no part: a label does not say which frame it means.

    Args:
        model: the model that scored them.
        folder: the output folder.
        labels: the table of `sources.read_labels`.

    Raises:
        DataError: the folder is not one, or of another model or version; no slice is labelled; the
            model was trained on all labelled patients; or too few are left.
    """
    _require_scores_of(model, folder)
    slices = read_csv(folder / "slices.csv", text=SLICE_TEXT)
    require_whole(folder / "slices.csv", len(slices))
    missing = [name for name in SLICE_COLUMNS if name not in slices]
    if missing:
        raise DataError(
            f"{folder / 'slices.csv'} has no column {missing[0]}: run `ich3d predict` again"
        )

    table = _labelled_series(slices[slices["stack_any"].notna()], labels)
    if table.empty:
        first = slices["sop_uid"].iloc[0] if len(slices) else "no slice"
        raise DataError(
            f"no slice of {folder} is labelled: the labels name {labels.index[0]} and others, the "
            f"predictions {first}"
        )

    is_known = table["patient_id"].isin(model.training_groups.groups)
    known_patients = sorted(set(table.loc[is_known, "patient_id"]))
    table = table[~is_known].reset_index(drop=True)
    if table.empty:
        raise DataError(
            f"the model was trained on all {len(known_patients)} labelled patients of {folder}: "
            "recalibrate it on others"
        )

    is_anonymous = table["patient_id"] == NOBODY
    studies = table["study_uid"].where(table["study_uid"] != "", table["volume_id"])
    table["group_id"] = table["patient_id"].where(~is_anonymous, studies)
    table = with_folds(table, model.config.prepare.folds, model.config.seed)
    groups_are = STUDY if is_anonymous.any() else PATIENT
    return Cases(folder, table, groups_are, tuple(known_patients))


def with_folds(table: pd.DataFrame, n_folds: int, seed: int) -> pd.DataFrame:
    """The table with a column `fold`: groups are dealt to `n_folds` folds, or to fewer where there
    are fewer groups. DataError for fewer than `MIN_GROUPS`.
    """
    bleeds = {
        str(name): np.nan_to_num(rows.max().to_numpy(float))
        for name, rows in table[list(LABELS)].groupby(table["group_id"], sort=True)
    }
    if len(bleeds) < MIN_GROUPS:
        raise DataError(
            f"{pluralize(len(bleeds), 'labelled patient')} cannot recalibrate a model: at least "
            f"{MIN_GROUPS} are needed"
        )
    rng = stream(seed, "recalibration folds")
    fold_of = assign_folds(bleeds, min(n_folds, len(bleeds)), rng)
    _, fold = np.unique(table["group_id"].map(fold_of), return_inverse=True)  # none is empty
    return table.assign(fold=fold)


def _require_scores_of(model: Model, folder: Path) -> None:
    """DataError unless all folds of `model` made the scores in `folder`."""
    if not (folder / "slices.csv").is_file():
        raise DataError(f"{folder} holds no slices.csv: give an output folder of `ich3d predict`")
    facts = read_json(folder / "run.json")
    made_by = str(facts.get("model_sha256"))
    if made_by != model.sha256:
        raise DataError(
            f"{folder} was scored by another model: its run.json names {made_by[:12]}, this model "
            f"is {model.sha256[:12]}"
        )
    if facts.get("folds") != [fold.fold for fold in model.fold_models]:
        raise DataError(f"{folder} was scored with --fast; run `ich3d predict` without it")


def _labelled_series(slices: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """The scored slices with their labels, without series that have none."""
    joined = slices.join(labels.astype(float), on="sop_uid")
    has_frames = joined["sop_uid"].duplicated(keep=False)
    joined.loc[has_frames, list(LABELS)] = np.nan
    is_labelled = joined[list(LABELS)].notna().any(axis=1)
    labelled_volumes = joined.loc[is_labelled, "volume_id"].unique()
    return joined[joined["volume_id"].isin(labelled_volumes)]
