"""What a finished run is worth: its stages beside the null rows, on pooled out-of-fold slices."""

from dataclasses import dataclass

import numpy as np

from ich3d.core.errors import DataError
from ich3d.core.labels import LABELS, STAGES
from ich3d.core.workspace import Workspace, read_json
from ich3d.crossfit.out_of_fold import probabilities, read_oof
from ich3d.evaluation.baselines import base_rate, places, position_only
from ich3d.evaluation.ground_truth import GroundTruth
from ich3d.evaluation.table import ResultRow, compare

_KEYS = ["volume_id", "sop_uid", "frame", "slice_index", "fold", *LABELS]
_PAIRS = {
    "position only": "base rate",
    "encoder": "position only",
    "context": "encoder",
    "stack": "context",
}


@dataclass(frozen=True)
class OutOfFold:
    """A run's held-out slices, and the scores `rows[name]` (N, K) of the null rows and the three stages."""

    truth: GroundTruth
    rows: dict[str, np.ndarray]

    def lines(self, draws: int, seed: int) -> list[ResultRow]:
        """Each row in figures, beside the one before it."""
        return compare(
            {name: prob[None] for name, prob in self.rows.items()}, _PAIRS, self.truth, draws, seed
        )


def out_of_fold(workspace: Workspace) -> OutOfFold:
    """The rows of a run. DataError where it is not finished."""
    read_json(workspace.run)  # written last
    tables = {stage: read_oof(workspace, stage) for stage in STAGES}
    table = tables[STAGES[0]]
    for stage in STAGES:
        if not tables[stage][_KEYS].equals(table[_KEYS]):
            raise DataError(
                f"{workspace.oof(stage)} and {workspace.oof(STAGES[0])} are of different runs"
            )
    truth = GroundTruth(table)
    rows = {
        "base rate": base_rate(truth.target, truth.fold),
        "position only": position_only(places(table), truth.target, truth.fold),
        **{stage: probabilities(tables[stage]) for stage in STAGES},
    }
    return OutOfFold(truth, rows)
