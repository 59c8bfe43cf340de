"""What a finished run is worth: its stages beside the null rows, on pooled out-of-fold slices."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ich3d.core.errors import DataError
from ich3d.core.labels import ANY, LABELS, STAGES
from ich3d.core.metrics import Evaluation, Interval, Resampling, difference, evaluate
from ich3d.core.seeds import stream
from ich3d.core.workspace import Workspace, read_json
from ich3d.nulls import base_rate, places, position_only
from ich3d.pipeline.train import probabilities, read_oof

_KEYS = ["volume_id", "sop_uid", "frame", "slice_index", "fold", *LABELS]


@dataclass(frozen=True)
class OutOfFold:
    """Pooled slices that every row scores: `target` (N, K), their group and fold, and `rows[name]` (N, K)."""

    table: pd.DataFrame
    target: np.ndarray
    fold: np.ndarray
    rows: dict[str, np.ndarray]

    @property
    def n_groups(self) -> int:
        return int(self.table["group_id"].nunique())

    def resampling(self, draws: int, seed: int) -> Resampling:
        """The draws of patient groups that all intervals of a result share."""
        bleeds = self.target[:, LABELS.index(ANY)]
        return Resampling.of(self.table["group_id"].to_numpy(), bleeds, draws, stream(seed, "resampling"))


def out_of_fold(workspace: Workspace) -> OutOfFold:
    """The null rows and the three stages of a run. DataError where the run is not finished."""
    read_json(workspace.run)  # written last
    tables = {stage: read_oof(workspace, stage) for stage in STAGES}
    table = tables[STAGES[0]]
    for stage in STAGES:
        if not tables[stage][_KEYS].equals(table[_KEYS]):
            raise DataError(f"{workspace.oof(stage)} and {workspace.oof(STAGES[0])} are of different runs")
    target, fold = table[list(LABELS)].to_numpy(float), table["fold"].to_numpy()
    rows = {
        "base rate": base_rate(target, fold),
        "position only": position_only(places(table), target, fold),
        **{stage: probabilities(tables[stage]) for stage in STAGES},
    }
    return OutOfFold(table, target, fold, rows)


@dataclass(frozen=True)
class Row:
    """One line of a result table, and its paired difference to the line it is compared with."""

    evaluation: Evaluation
    against: str | None
    difference: Interval | None


def compare(
    result: OutOfFold, rows: Mapping[str, np.ndarray], against: Mapping[str, str], resampling: Resampling
) -> list[Row]:
    """Every row evaluated; `against[name]` names the row it is paired with."""
    lines = []
    for name, prob in rows.items():
        other = against.get(name)
        paired = None if other is None else difference(prob, rows[other], result.target, resampling)
        lines.append(Row(evaluate(name, prob, result.target, resampling), other, paired))
    return lines


STAGE_PAIRS = {
    "position only": "base rate",
    "encoder": "position only",
    "context": "encoder",
    "stack": "context",
}


def markdown(rows: list[Row]) -> str:
    """The result table for people: weighted log loss, paired difference, AUC a label, 95 % intervals."""
    head = ["row", "weighted log loss", "difference (paired)", *(f"AUC {label}" for label in LABELS)]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows:
        loss = row.evaluation.weighted_log_loss
        paired = "" if row.difference is None else f"{row.difference:+} vs {row.against}"
        cells = [row.evaluation.name, str(loss), paired]
        cells += [short(row.evaluation.auc[label]) for label in LABELS]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def stage_rows(folder: Path, draws: int, seed: int) -> tuple[OutOfFold, list[Row]]:
    """The stage table of the run in `folder`."""
    result = out_of_fold(Workspace(folder))
    return result, compare(result, result.rows, STAGE_PAIRS, result.resampling(draws, seed))


def short(found: Interval) -> str:
    """`value (low to high)` in a table cell; a dash where it is not defined."""
    return "-" if np.isnan(found.value) else f"{found.value:.3f} ({found.low:.2f} to {found.high:.2f})"
