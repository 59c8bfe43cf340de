"""The tables of a prediction, from the scored series in memory. Columns are identified by name.

`slices.csv` has a row a slice, inferior to superior; a slice that was left out of its series has a
code and no scores. `series.csv` has a row a series. `submission.csv` has the form of the RSNA 2019
challenge.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import pandas as pd

from ich3d.core.issues import join
from ich3d.core.labels import ANY, LABELS, STAGES
from ich3d.core.slice_geometry import slice_geometry
from ich3d.core.types import SliceScores
from ich3d.inference.journal import ScoredSeries

TOP_SLICES: Final = 3
"""Number of SOPInstanceUIDs in the column `top_slices` of `series.csv`."""

_KEYS: Final = ("study_uid", "series_uid", "volume_id")
_STACK: Final = [f"stack_{label}" for label in LABELS]

SLICE_COLUMNS: Final = [
    *_KEYS,
    "sop_uid",
    "frame",
    "slice_index",
    "z_mm",
    "gap_mm",
    "codes",
    *(f"{stage}_{label}" for stage in STAGES for label in LABELS),
]
SERIES_COLUMNS: Final = [
    *_KEYS,
    "n_slices",
    "codes",
    "out_of_range",
    *(f"prob_{label}" for label in LABELS),
    "top_slices",
]
SLICE_TEXT: Final = (*_KEYS, "sop_uid", "codes")
"""The columns of `slices.csv` that are text."""


def slice_table(scored: Iterable[ScoredSeries]) -> pd.DataFrame:
    """The table of `slices.csv`: a row a slice, probabilities rounded to 7 decimals.

    Within a series rows are sorted by `z_mm`; slices that were left out stand at their position,
    or at the end where it is not known.
    """
    blocks = [_slice_rows(series) for series in scored]
    if not blocks:
        return pd.DataFrame(columns=SLICE_COLUMNS)
    return pd.concat(blocks, ignore_index=True)


def series_table(scored: Iterable[ScoredSeries]) -> pd.DataFrame:
    """The table of `series.csv`: a row a series, with the highest probability of its slices."""
    return pd.DataFrame([_series_row(series) for series in scored], columns=SERIES_COLUMNS)


def submission(slices: pd.DataFrame, base_rate: Mapping[str, float | None]) -> pd.DataFrame:
    """The table of `submission.csv`: `ID,Label`, six rows a SOPInstanceUID.

    A SOPInstanceUID of several frames gets their maximum. A slice that was left out gets the stack
    scores of its neighbours, interpolated at its position; one without a known position gets the
    training set's `base_rate` of each label.

    Args:
        slices: the table of `slices.csv`.
        base_rate: prevalence of each label in the training set, None where no slice was labelled.
    """
    is_scored = slices["stack_any"].notna()
    scored = slices[is_scored]
    prob = scored.groupby("sop_uid", sort=False)[_STACK].max()

    is_missing = ~is_scored & (slices["sop_uid"] != "") & ~slices["sop_uid"].isin(prob.index)
    missing = slices[is_missing]
    if len(missing):
        filled = pd.DataFrame(
            _filled(missing, scored, base_rate), index=missing["sop_uid"], columns=_STACK
        )
        prob = pd.concat([prob, filled.groupby("sop_uid", sort=False).max()])
        prob = prob.loc[slices.loc[slices["sop_uid"].isin(prob.index), "sop_uid"].unique()]

    ids = [f"{sop_uid}_{label}" for sop_uid in prob.index for label in LABELS]
    return pd.DataFrame({"ID": ids, "Label": prob.to_numpy(float).ravel().round(7)})


def _slice_rows(series: ScoredSeries) -> pd.DataFrame:
    """The rows of one series. Text columns are objects and integer columns nullable throughout."""
    columns: dict[str, Any] = {
        "sop_uid": series.sop_uids,
        "frame": series.frames,
        "slice_index": range(len(series)),
        "z_mm": series.z_mm,
        "gap_mm": slice_geometry(series.z_mm).gap_below_mm.round(4),
        "codes": join(series.codes),
    }
    for stage in STAGES:
        rounded = series.prob[stage].round(7)  # (Z, K)
        columns |= {f"{stage}_{label}": rounded[:, k] for k, label in enumerate(LABELS)}

    unscored = [
        {
            "sop_uid": dropped.sop_uid,
            "frame": dropped.frame,
            "z_mm": dropped.z_mm,
            "codes": dropped.code.value,
        }
        for dropped in series.unscored
    ]
    rows = pd.concat([pd.DataFrame(columns, dtype=object), pd.DataFrame(unscored, dtype=object)])
    rows = rows.assign(**{key: getattr(series, key) for key in _KEYS})[SLICE_COLUMNS]
    return _typed(rows).sort_values("z_mm", kind="stable")


def _typed(rows: pd.DataFrame) -> pd.DataFrame:
    """`rows` with the types of `slices.csv`, so that each series is written in the same form."""
    integers = ("frame", "slice_index")
    floats = [name for name in rows if name not in (*integers, *SLICE_TEXT)]
    typed = rows.astype(dict.fromkeys(integers, "Int64") | dict.fromkeys(floats, float))
    return typed.assign(z_mm=typed["z_mm"].round(4))


def _series_row(series: ScoredSeries) -> dict[str, Any]:
    """The row of one series; `top_slices` are its slices most likely to bleed, in falling order."""
    stack = series.prob["stack"]
    prob = SliceScores(series.volume_id, "stack", stack).series_prob  # (K,)
    top = np.argsort(-stack[:, LABELS.index(ANY)], kind="stable")[:TOP_SLICES]
    return {
        **{key: getattr(series, key) for key in _KEYS},
        "n_slices": len(series),
        "codes": join(series.codes),
        "out_of_range": "|".join(series.out_of_range),
        **{f"prob_{label}": round(float(prob[k]), 7) for k, label in enumerate(LABELS)},
        "top_slices": "|".join(series.sop_uids[index] for index in top),
    }


def _filled(
    missing: pd.DataFrame, scored: pd.DataFrame, base_rate: Mapping[str, float | None]
) -> np.ndarray:
    """Stack scores (N, K) for N slices that were not scored."""
    rates = np.array([base_rate[label] or 0.0 for label in LABELS])
    positions = zip(missing["volume_id"], missing["z_mm"], strict=True)
    return np.array(
        [
            rates
            if np.isnan(z_mm)
            else _interpolated(scored[scored["volume_id"] == volume_id], z_mm)
            for volume_id, z_mm in positions
        ]
    )


def _interpolated(scored: pd.DataFrame, z_mm: float) -> np.ndarray:
    """Stack scores (K,) at `z_mm`, linear between the scored slices of a volume."""
    return np.array([np.interp(z_mm, scored["z_mm"], scored[column]) for column in _STACK])
