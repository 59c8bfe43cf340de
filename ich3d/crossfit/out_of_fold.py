"""TODO."""

import numpy as np
import pandas as pd

from ich3d.core.labels import LABELS
from ich3d.core.types import SliceScores
from ich3d.core.workspace import Workspace, read_csv
from ich3d.prepare.store import Store


def oof_table(store: Store, scores: dict[str, SliceScores]) -> pd.DataFrame:
    """One row a slice with its keys, fold, group, and probabilities `prob_<label>`."""
    keys = ["volume_id", "sop_uid", "frame", "slice_index", "z_mm", "group_id", "fold", *LABELS]
    prob = np.concatenate([scores[name].prob for name in store.volume_ids])
    names = [f"prob_{label}" for label in LABELS]
    table = store.table.set_index("volume_id").loc[store.volume_ids].reset_index()[keys]
    return table.join(pd.DataFrame(prob.astype(np.float64).round(7), columns=names))


def read_oof(workspace: Workspace, stage: str) -> pd.DataFrame:
    """The out-of-fold scores of a stage, as `oof_table` made them."""
    return read_csv(workspace.oof(stage), text=("volume_id", "sop_uid", "group_id"))


def probabilities(table: pd.DataFrame) -> np.ndarray:
    """`prob_<label>` columns (N, K) of a table of scores, by name."""
    return table[[f"prob_{label}" for label in LABELS]].to_numpy(float)
