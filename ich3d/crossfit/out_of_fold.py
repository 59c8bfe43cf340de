"""Out-of-fold scores: a table with one row a slice, each scored by a model that never saw its
patient.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd

from ich3d.core.bootstrap import interval
from ich3d.core.ground_truth import GroundTruth
from ich3d.core.labels import ANY, FLAG_AT, LABELS
from ich3d.core.metrics import auc
from ich3d.core.operating_point import SERIES, SLICES, operating_points
from ich3d.core.types import SliceScores
from ich3d.core.workspace import Workspace, read_csv
from ich3d.model.performance import HELD_OUT, Figures
from ich3d.prepare.store import Store

_COLUMNS: Final = [
    "volume_id", "sop_uid", "frame", "slice_index", "z_mm", "group_id", "fold", *LABELS,
]  # fmt: skip


def oof_table(
    store: Store,
    scores: Mapping[str, SliceScores],
    agreement: Mapping[str, np.ndarray] | None = None,
) -> pd.DataFrame:
    """Keys, group, fold, labels and probabilities `prob_<label>` of every slice of the store.

    Args:
        store: the prepared store.
        scores: the scores of one stage by volume_id.
        agreement: that of the models behind them, (Z,) by volume_id, for a column `agreement`;
            None for no such column.
    """
    prob = np.concatenate([scores[name].prob for name in store.volume_ids])  # (N, K)
    names = [f"prob_{label}" for label in LABELS]
    table = store.table.set_index("volume_id").loc[store.volume_ids].reset_index()[_COLUMNS]
    table = table.join(pd.DataFrame(prob.astype(np.float64).round(7), columns=names))
    if agreement is None:
        return table
    values = np.concatenate([agreement[name] for name in store.volume_ids])  # (N,)
    return table.assign(agreement=values.astype(np.float64).round(7))


def read_oof(workspace: Workspace, stage: str) -> pd.DataFrame:
    """The out-of-fold scores of a finished run's stage, as `oof_table` made them."""
    return read_csv(workspace.oof(stage), text=("volume_id", "sop_uid", "group_id"))


def probabilities(table: pd.DataFrame) -> np.ndarray:
    """The columns `prob_<label>` of a table of scores (N, K), in the order of `LABELS`."""
    return table[[f"prob_{label}" for label in LABELS]].to_numpy(float)


def held_out_figures(table: pd.DataFrame, draws: int, seed: int) -> Figures:
    """How well out-of-fold scores find any bleeding.

    Args:
        table: the final scores, as `oof_table` made them.
        draws: how often patient groups are resampled for the intervals.
        seed: seed of the resampling.
    """
    truth, prob = GroundTruth(table), probabilities(table)
    k = LABELS.index(ANY)
    prob_any, target = prob[:, k], truth.target[:, k]  # (N,)
    points = {
        point.level: point
        for point in operating_points(prob, truth, FLAG_AT, draws, seed)
        if point.label == ANY
    }
    aucs = truth.bootstrap(draws, seed).auc(prob_any, target)  # (draws,)
    return Figures(
        name=HELD_OUT,
        patients=int(table["group_id"].nunique()),
        auc=interval(auc(prob_any, target), aucs),
        threshold=FLAG_AT,
        slices=points[SLICES],
        series=points[SERIES],
    )
