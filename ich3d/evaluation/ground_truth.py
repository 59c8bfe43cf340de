"""The slices that every row of a table scores, and what is true of them."""

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ich3d.core.labels import ANY, LABELS
from ich3d.core.seeds import stream
from ich3d.evaluation.bootstrap import PatientBootstrap


@dataclass(frozen=True)
class GroundTruth:
    """Slices, series by series, inferior first, one a line of `table`: keys, fold and labels."""

    table: pd.DataFrame

    @property
    def target(self) -> np.ndarray:
        """Labels (N, K), NaN where there is none."""
        return self.table[list(LABELS)].to_numpy(float)

    @property
    def fold(self) -> np.ndarray:
        return self.table["fold"].to_numpy()

    @property
    def group(self) -> np.ndarray:
        return self.table["group_id"].to_numpy(str)

    @property
    def volume(self) -> np.ndarray:
        return self.table["volume_id"].to_numpy(str)

    @property
    def sha256(self) -> str:
        """A hash of keys, folds and labels."""
        return hashlib.sha256(self.table.to_csv(index=False).encode()).hexdigest()

    @property
    def positive_patients(self) -> dict[str, int]:
        """How many patient groups have each label in at least one slice."""
        has = {label: self.table.loc[self.table[label] > 0.5, "group_id"] for label in LABELS}
        return {label: int(groups.nunique()) for label, groups in has.items()}

    @property
    def unknown_labels(self) -> list[str]:
        """The labels that no slice has a truth for: they count nowhere."""
        return [label for label in LABELS if self.table[label].isna().all()]

    def bootstrap(self, draws: int, seed: int) -> PatientBootstrap:
        """The draws of patient groups that all intervals of a table share."""
        return PatientBootstrap.of(
            self.group, self.target[:, LABELS.index(ANY)], draws, stream(seed, "resampling")
        )
