"""The stacker's features column by column, as they were computed at first: slow and easy to read.

The package computes all labels at once, and has to give the same bits.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ich3d.context.geometry import POSITION_TOLERANCE_MM
from ich3d.core.labels import LABELS
from ich3d.core.metrics import logit
from ich3d.core.slice_geometry import slice_geometry
from ich3d.prepare.hu_features import HU_FEATURES
from ich3d.stack.features import DECIMALS, HU, STEP_MM


def plain_features(
    prob: Mapping[str, np.ndarray],
    z_mm: np.ndarray,
    reach_mm: float,
    hu_features: np.ndarray | None = None,
) -> pd.DataFrame:
    """As `ich3d.stack.features.build_features`."""
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
