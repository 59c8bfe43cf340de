"""Scores of a finished run: its three stages beside the baselines, on pooled held-out slices."""

from dataclasses import dataclass

import numpy as np

from ich3d.core.errors import DataError
from ich3d.core.ground_truth import GroundTruth
from ich3d.core.labels import LABELS, STAGES
from ich3d.core.workspace import Workspace, read_json
from ich3d.crossfit.out_of_fold import probabilities, read_oof
from ich3d.evaluation.baselines import base_rate, position_features_by_volume, position_only
from ich3d.evaluation.table import ResultRow, compare

_SHARED_COLUMNS = ["volume_id", "sop_uid", "frame", "slice_index", "fold", *LABELS]
# Each row and the one that it is compared with.
_AGAINST = {
    "position only": "base rate",
    "encoder": "position only",
    "context": "encoder",
    "stack": "context",
}


@dataclass(frozen=True)
class OutOfFold:
    """The held-out slices of a run, and `prob[row]` (N, K) of each baseline and of each stage.

    `agreement` (N,) is that of the context ensemble of the slice's fold; None in a run of a version
    that did not record it.
    """

    truth: GroundTruth
    prob: dict[str, np.ndarray]
    agreement: np.ndarray | None = None

    def result_rows(self, draws: int, seed: int) -> list[ResultRow]:
        """Metrics of each row compared with the row before; intervals from `draws` resamples."""
        runs = {name: prob[None] for name, prob in self.prob.items()}  # one seed: (1, N, K)
        return compare(runs, _AGAINST, self.truth, draws, seed)


def out_of_fold(workspace: Workspace) -> OutOfFold:
    """Read the held-out scores of a run.

    Raises:
        DataError: where the run is not finished, or the files of its stages are of different runs.
    """
    read_json(workspace.run)  # a run writes this file last
    tables = {stage: read_oof(workspace, stage) for stage in STAGES}
    table = tables[STAGES[0]]
    for stage in STAGES:
        if not tables[stage][_SHARED_COLUMNS].equals(table[_SHARED_COLUMNS]):
            raise DataError(
                f"{workspace.oof(stage)} and {workspace.oof(STAGES[0])} are of different runs"
            )

    truth = GroundTruth(table)
    features = position_features_by_volume(table)
    prob = {
        "base rate": base_rate(truth.target, truth.fold),
        "position only": position_only(features, truth.target, truth.fold),
        **{stage: probabilities(tables[stage]) for stage in STAGES},
    }
    agreement = tables["context"].get("agreement")
    return OutOfFold(truth, prob, None if agreement is None else agreement.to_numpy(float))
