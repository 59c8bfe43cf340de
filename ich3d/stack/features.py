"""What the stacker reads of a slice: its own scores, its neighbours' by millimetres, its series, its place.

A column has a name and is found by it. Scores enter as logits rounded to 1e-3, so that the last bits
of a network's arithmetic cannot flip a tree. A neighbour beyond either end of the series is NaN, which
LightGBM treats as missing; nothing wraps round to the other end of the head.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ich3d.context.geometry import SLACK_MM
from ich3d.core.labels import ANY, LABELS
from ich3d.core.metrics import logit

STEP_MM = 5.0  # the common step of head CT; neighbours are read at its multiples
DECIMALS = 3


def build_features(
    prob: Mapping[str, np.ndarray], z_mm: np.ndarray, reach_mm: float
) -> pd.DataFrame:
    """Features float32, a row a slice, of a series at `z_mm` (Z,) from each stage's `prob[stage]` (Z, K)."""
    columns: dict[str, np.ndarray] = _place(z_mm)
    offsets = np.arange(STEP_MM, reach_mm + 1e-6, STEP_MM)
    for stage, scores in prob.items():
        logits = np.round(logit(scores), DECIMALS)
        for k, label in enumerate(LABELS):
            columns |= _score_columns(f"{stage}.{label}", logits[:, k], z_mm, offsets)
    return pd.DataFrame(columns).astype(np.float32)


def columns_of(label: str, names: list[str]) -> list[str]:
    """The columns that the booster of one label reads: its own and `any`'s in full, of the other labels
    their score in the slice itself, and the slice's place."""
    in_full = {label, ANY}
    return [
        name
        for name in names
        if "." not in name or name.split(".")[1] in in_full or name.split(".")[2] == "own"
    ]


def reads(column: str) -> tuple[str, float]:
    """What a column of `build_features` reads: the slice's `own` scores, a `neighbour`'s, the slices `near`
    it, the whole `series`, or the `place`; and its offset in mm, positive upward, NaN where it has none."""
    if "." not in column:
        return "place", np.nan
    kind, *rest = column.split(".", 2)[2].split("_")
    if kind in ("below", "above"):
        offset = float(rest[0].removesuffix("mm"))
        return "neighbour", -offset if kind == "below" else offset
    return kind, 0.0 if kind == "own" else np.nan


def _place(z_mm: np.ndarray) -> dict[str, np.ndarray]:
    """Where the slice lies: gaps to both neighbours, distance from the top and bottom slice, in mm."""
    gaps = np.diff(z_mm)
    return {
        "gap_below_mm": np.concatenate([[np.nan], gaps]),
        "gap_above_mm": np.concatenate([gaps, [np.nan]]),
        "from_top_mm": z_mm[-1] - z_mm,
        "from_bottom_mm": z_mm - z_mm[0],
        "relative_index": np.arange(len(z_mm)) / max(1, len(z_mm) - 1),
        "n_slices": np.full(len(z_mm), len(z_mm)),
    }


def _score_columns(
    name: str, score: np.ndarray, z_mm: np.ndarray, offsets: np.ndarray
) -> dict[str, np.ndarray]:
    """One label's logit (Z,) of one stage: own, neighbours on both sides, local and series statistics."""
    columns = {f"{name}.own": score}
    for offset in offsets:
        for side, sign in (("below", -1), ("above", 1)):
            there = _read_at(z_mm + sign * offset, z_mm, score)
            columns[f"{name}.{side}_{offset:g}mm"] = np.round(there, DECIMALS)
    near = np.abs(z_mm[:, None] - z_mm[None]) <= offsets.max(initial=0.0) + SLACK_MM
    columns[f"{name}.near_mean"] = np.round((near * score).sum(axis=1) / near.sum(axis=1), DECIMALS)
    columns[f"{name}.near_max"] = np.where(near, score, -np.inf).max(axis=1)
    top = np.sort(score)[::-1]
    columns[f"{name}.series_max"] = np.full(len(score), top[0])
    columns[f"{name}.series_top3"] = np.full(len(score), np.round(top[:3].mean(), DECIMALS))
    columns[f"{name}.series_mean"] = np.full(len(score), np.round(score.mean(), DECIMALS))
    return columns


def _read_at(at: np.ndarray, z_mm: np.ndarray, score: np.ndarray) -> np.ndarray:
    """The score (Z,) of slices at `z_mm` read at other positions, between two slices in proportion; NaN
    beyond either end."""
    inside = np.clip(at, z_mm[0], z_mm[-1])
    read: np.ndarray = np.interp(inside, z_mm, score)
    return np.where(np.abs(at - inside) <= SLACK_MM, read, np.nan)
