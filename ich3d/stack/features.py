"""What the stacker reads of a slice: its scores, its neighbours' by millimetres, its series,
its position, and what HU say of it.

Columns are named and found by name: `<stage>.<label>.<what>` for scores, `hu.<feature>.<what>` for
HU, a plain name for the position. Scores enter as logits rounded to 1e-3, so that the last bits of
a network's arithmetic cannot change which branch of a tree is taken. A neighbour beyond either end
of the series is NaN, which LightGBM treats as missing; nothing wraps round to the other end of the
head.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd

from ich3d.context.geometry import POSITION_TOLERANCE_MM
from ich3d.core.labels import ANY, LABELS
from ich3d.core.metrics import logit
from ich3d.core.slice_geometry import slice_geometry
from ich3d.prepare.hu_features import HU_FEATURES

STEP_MM: Final = 5.0
"""The common step of head CT. Neighbours are read at its multiples."""

DECIMALS: Final = 3
"""Decimals that logits are rounded to."""


HU: Final = "hu"
"""The prefix of columns that no network made."""


def build_features(
    prob: Mapping[str, np.ndarray],
    z_mm: np.ndarray,
    reach_mm: float,
    hu_features: np.ndarray | None = None,
) -> pd.DataFrame:
    """The features of every slice of one series, float32, one row a slice.

    Args:
        prob: probabilities (Z, K) by stage.
        z_mm: positions along the slice normal (Z,), inferior to superior.
        reach_mm: how far neighbours are read on each side.
        hu_features: what HU say of each slice (Z, F), as `prepare.hu_features` has it; None
            leaves these columns out.
    """
    columns = _position_columns(z_mm)
    offsets_mm = np.arange(STEP_MM, reach_mm + 1e-6, STEP_MM)

    # The slices within reach of each slice, itself among them.
    near_mm = offsets_mm.max(initial=0.0) + POSITION_TOLERANCE_MM
    is_near = np.abs(z_mm[:, None] - z_mm[None]) <= near_mm  # (Z, Z)

    for stage, stage_prob in prob.items():
        logits = np.round(logit(stage_prob), DECIMALS)  # (Z, K)
        for k, label in enumerate(LABELS):
            columns |= _logit_columns(f"{stage}.{label}", logits[:, k], z_mm, offsets_mm, is_near)
    if hu_features is not None:
        for name, values in zip(HU_FEATURES, hu_features.T, strict=True):
            columns |= _hu_columns(f"{HU}.{name}", values, z_mm)
    return pd.DataFrame(columns).astype(np.float32)


def columns_of(label: str, names: list[str]) -> list[str]:
    """The columns of `names` that the booster of one label reads.

    These are all of its own and of `any`'s, the other labels' scores in the slice itself, the
    position, and what HU say.
    """
    in_full = {label, ANY, *HU_FEATURES}
    return [
        name
        for name in names
        if "." not in name or name.split(".")[1] in in_full or name.split(".")[2] == "own"
    ]


def columns_without(part: str, names: list[str]) -> list[str]:
    """The columns of `names` that remain without a part of `build_features`.

    `part` is `hu`, `neighbours` (slices within reach, in scores and in HU), `series` or
    `position`; any other part has no columns.
    """
    if part == HU:
        return [name for name in names if not name.startswith(f"{HU}.")]
    if part == "position":
        return [name for name in names if "." in name]
    prefixes = {"neighbours": ("below_", "above_", "near_"), "series": ("series_",)}.get(part, ())
    return [name for name in names if not name.rpartition(".")[2].startswith(prefixes)]


def describe_column(column: str) -> tuple[str, float]:
    """What a column of `build_features` reads, and its offset in mm, positive toward superior.

    Returns:
        `own` (the slice's scores, offset 0), `neighbour` (with its offset), `near` (slices near
        it), `series` (the whole series), `place` (the position) or `hu` (what HU say of the slice
        and those beside it); the last four have the offset NaN.
    """
    if "." not in column:
        return "place", np.nan
    if column.startswith(f"{HU}."):
        return HU, np.nan
    kind, *rest = column.split(".", 2)[2].split("_")
    if kind in ("below", "above"):
        offset_mm = float(rest[0].removesuffix("mm"))
        return "neighbour", -offset_mm if kind == "below" else offset_mm
    return kind, 0.0 if kind == "own" else np.nan


def _position_columns(z_mm: np.ndarray) -> dict[str, np.ndarray]:
    """Where each slice lies: gaps to its neighbours and distances from the ends in mm, index,
    count.
    """
    geometry = slice_geometry(z_mm)
    return {
        "gap_below_mm": geometry.gap_below_mm,
        "gap_above_mm": geometry.gap_above_mm,
        "from_top_mm": geometry.from_top_mm,
        "from_bottom_mm": geometry.from_bottom_mm,
        "relative_index": geometry.relative_index,
        "n_slices": np.full(len(z_mm), len(z_mm)),
    }


def _logit_columns(
    name: str, logits: np.ndarray, z_mm: np.ndarray, offsets_mm: np.ndarray, is_near: np.ndarray
) -> dict[str, np.ndarray]:
    """The columns of one label's logits (Z,) of one stage."""
    columns = {f"{name}.own": logits}

    # Neighbours on both sides, by their distance.
    for offset_mm in offsets_mm:
        for side, sign in (("below", -1), ("above", 1)):
            neighbour = _values_at(z_mm + sign * offset_mm, z_mm, logits)
            columns[f"{name}.{side}_{offset_mm:g}mm"] = np.round(neighbour, DECIMALS)

    # The slices within reach.
    near_mean = (is_near * logits).sum(axis=1) / is_near.sum(axis=1)
    columns[f"{name}.near_mean"] = np.round(near_mean, DECIMALS)
    columns[f"{name}.near_max"] = np.where(is_near, logits, -np.inf).max(axis=1)

    # The whole series.
    count, descending = len(logits), np.sort(logits)[::-1]
    top_mean = np.round(descending[:3].mean(), DECIMALS)
    columns[f"{name}.series_max"] = np.full(count, descending[0])
    columns[f"{name}.series_top3"] = np.full(count, top_mean)
    columns[f"{name}.series_mean"] = np.full(count, np.round(logits.mean(), DECIMALS))
    return columns


def _hu_columns(name: str, values: np.ndarray, z_mm: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of one HU feature (Z,): of the slice, one step away, and of the series."""
    count = len(values)
    is_known = not np.isnan(values).all()
    return {
        f"{name}.own": values,
        f"{name}.below_{STEP_MM:g}mm": _values_at(z_mm - STEP_MM, z_mm, values),
        f"{name}.above_{STEP_MM:g}mm": _values_at(z_mm + STEP_MM, z_mm, values),
        f"{name}.series_median": np.full(count, np.nanmedian(values) if is_known else np.nan),
        f"{name}.series_max": np.full(count, np.nanmax(values) if is_known else np.nan),
    }


def _values_at(positions_mm: np.ndarray, z_mm: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The values (Z,) of slices at `z_mm`, interpolated elsewhere; NaN beyond either end."""
    inside_mm = np.clip(positions_mm, z_mm[0], z_mm[-1])
    interpolated: np.ndarray = np.interp(inside_mm, z_mm, values)
    is_inside = np.abs(positions_mm - inside_mm) <= POSITION_TOLERANCE_MM
    return np.where(is_inside, interpolated, np.nan)
