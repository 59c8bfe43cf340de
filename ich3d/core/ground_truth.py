"""The slices that every row of a result table scores, with their labels."""

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ich3d.core.bootstrap import PatientBootstrap
from ich3d.core.labels import ANY, LABELS
from ich3d.core.seeds import stream


@dataclass(frozen=True)
class GroundTruth:
    """N slices, series by series, from inferior to superior in each.

    `table` has a line for each slice: `volume_id`, `sop_uid`, `group_id`, `fold`, `slice_index`,
    `z_mm` and a column for each label.
    """

    table: pd.DataFrame

    @property
    def target(self) -> np.ndarray:
        """Labels (N, K) as 0 or 1, NaN where a slice has no such label."""
        return self.table[list(LABELS)].to_numpy(float)

    @property
    def fold(self) -> np.ndarray:
        """The fold (N,) of each slice."""
        return self.table["fold"].to_numpy()

    @property
    def group(self) -> np.ndarray:
        """The patient group (N,) of each slice, as text."""
        return self.table["group_id"].to_numpy(str)

    @property
    def volume(self) -> np.ndarray:
        """The volume_id (N,) of each slice, as text."""
        return self.table["volume_id"].to_numpy(str)

    @property
    def sha256(self) -> str:
        """A hash of the table: keys, folds and labels."""
        return hashlib.sha256(self.table.to_csv(index=False).encode()).hexdigest()

    @property
    def n_patients(self) -> int:
        """The number of patient groups of which any slice has any label."""
        is_labelled = self.table[list(LABELS)].notna().any(axis=1)
        return int(self.table.loc[is_labelled, "group_id"].nunique())

    @property
    def positive_patients(self) -> dict[str, int]:
        """For each label, the number of patient groups that have it in at least one slice."""
        groups_with = {
            label: self.table.loc[self.table[label] > 0.5, "group_id"] for label in LABELS
        }
        return {label: int(groups.nunique()) for label, groups in groups_with.items()}

    @property
    def unknown_labels(self) -> list[str]:
        """Labels without ground truth in any slice; they are excluded from the metrics."""
        return [label for label in LABELS if self.table[label].isna().all()]

    def bootstrap(self, draws: int, seed: int) -> PatientBootstrap:
        """The draws of patient groups that all intervals of a table share."""
        rng = stream(seed, "resampling")
        return PatientBootstrap.of(self.group, self.target[:, LABELS.index(ANY)], draws, rng)
