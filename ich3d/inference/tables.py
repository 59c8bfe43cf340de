"""The tables of a prediction. A column has a name and is found by it.

`slices.csv` has a row a slice, inferior to superior; one that was left out of its series has its code and no
scores. `series.csv` has a row a series, `submission.csv` RSNA's form.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd

from ich3d.core.labels import ANY, LABELS, STAGES
from ich3d.core.types import SliceScores
from ich3d.inference.scoring import SeriesPrediction

TOP_SLICES: Final = 3
_KEYS: Final = ("study_uid", "series_uid", "volume_id")
_SCORES: Final = [f"{stage}_{label}" for stage in STAGES for label in LABELS]
_STACK: Final = [f"stack_{label}" for label in LABELS]
SLICE_COLUMNS: Final = [
    *_KEYS,
    "sop_uid",
    "frame",
    "slice_index",
    "z_mm",
    "gap_mm",
    "codes",
    *_SCORES,
]
SERIES_COLUMNS: Final = [
    *_KEYS, "n_slices", "codes", "out_of_range", *(f"prob_{label}" for label in LABELS), "top_slices",
]  # fmt: skip
SLICE_TEXT: Final = (*_KEYS, "sop_uid", "codes")
"""The columns of `slices.csv` that are text."""


def slice_rows(item: SeriesPrediction) -> pd.DataFrame:
    """The rows of `slices.csv` of one series, by height; unscored slices of unknown height come last."""
    stored = item.stored
    rows = stored.rows().assign(gap_mm=np.concatenate([[np.nan], np.diff(stored.z_mm)]).round(4))
    for stage in STAGES:
        for k, label in enumerate(LABELS):
            rows[f"{stage}_{label}"] = item.prob[stage][:, k].astype(np.float64).round(7)
    rows["slice_index"] = rows["slice_index"].astype("Int64")
    rows = rows[SLICE_COLUMNS].reset_index(drop=True)
    for lost in item.unscored:
        told = {"sop_uid": lost.sop_uid, "z_mm": lost.z_mm, "codes": lost.code.value}
        known = {key: getattr(stored, key) for key in _KEYS} | told
        frame = pd.NA if lost.frame is None else lost.frame
        rows.loc[len(rows)] = pd.Series({**known, "frame": frame}).reindex(SLICE_COLUMNS)
    return rows.assign(z_mm=rows["z_mm"].astype(float).round(4)).sort_values("z_mm", kind="stable")


def series_row(item: SeriesPrediction) -> pd.DataFrame:
    """The row of `series.csv` of one series."""
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
    return pd.DataFrame([row])[SERIES_COLUMNS]


def submission(slices: pd.DataFrame, base_rate: Mapping[str, float | None]) -> pd.DataFrame:
    """RSNA's form of `slices.csv`: `ID,Label`, six rows a SOPInstanceUID, the maximum over its frames.

    A slice that is left out gets what its neighbours in the volume say at its height, the nearer the more;
    one of unknown height the training set's `base_rate` of each label.
    """
    is_scored = slices["stack_any"].notna()
    scored = slices[is_scored]
    wide = scored.groupby("sop_uid", sort=False)[_STACK].max()
    lost = slices[~is_scored & (slices["sop_uid"] != "") & ~slices["sop_uid"].isin(wide.index)]
    rates = np.array([base_rate[label] or 0.0 for label in LABELS])
    filled = [
        rates if np.isnan(z_mm) else _between(scored[scored["volume_id"] == volume_id], z_mm)
        for volume_id, z_mm in zip(lost["volume_id"], lost["z_mm"], strict=True)
    ]
    if filled:
        added = pd.DataFrame(np.array(filled), index=lost["sop_uid"], columns=_STACK)
        wide = pd.concat([wide, added.groupby("sop_uid", sort=False).max()])
        wide = wide.loc[slices.loc[slices["sop_uid"].isin(wide.index), "sop_uid"].unique()]
    ids = [f"{sop_uid}_{label}" for sop_uid in wide.index for label in LABELS]
    return pd.DataFrame({"ID": ids, "Label": wide.to_numpy(float).ravel().round(7)})


def _between(scored: pd.DataFrame, z_mm: float) -> np.ndarray:
    """Stack scores (K,) at a height, from the scored slices below and above it."""
    return np.array([np.interp(z_mm, scored["z_mm"], scored[column]) for column in _STACK])
