"""What the stacker reads of a slice: its scores, its neighbours' by millimetres, its series,
its position, and what HU say of it.

Columns are named and found by name: `<stage>.<label>.<what>` for scores, `hu.<feature>.<what>` for
HU, a plain name for the position. Scores enter as logits rounded to 1e-3, so that the last bits of
a network's arithmetic cannot change which branch of a tree is taken. A neighbour beyond either end
of the series is NaN, which LightGBM treats as missing; nothing wraps round to the other end of the
head.
"""

from collections.abc import Mapping
from functools import cache
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


_POSITION: Final = (
    "gap_below_mm", "gap_above_mm", "from_top_mm", "from_bottom_mm", "relative_index", "n_slices",
)  # fmt: skip
"""The columns of the position: gaps to the neighbours and distances from the ends in mm, relative
index, number of slices.
"""

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
    names = feature_names(tuple(prob), reach_mm, hu_features is not None)
    return pd.DataFrame(feature_values(prob, z_mm, reach_mm, hu_features), columns=names)


@cache
def feature_names(stages: tuple[str, ...], reach_mm: float, has_hu: bool) -> list[str]:
    """The columns of `build_features`, in their order."""
    whats = ["own"]
    for offset_mm in _offsets_mm(reach_mm):
        whats += [f"below_{offset_mm:g}mm", f"above_{offset_mm:g}mm"]
    whats += ["near_mean", "near_max", "series_max", "series_top3", "series_mean"]

    names = list(_POSITION)
    names += [f"{stage}.{label}.{what}" for stage in stages for label in LABELS for what in whats]
    if has_hu:
        of_hu = (
            "own",
            f"below_{STEP_MM:g}mm",
            f"above_{STEP_MM:g}mm",
            "series_median",
            "series_max",
        )
        names += [f"{HU}.{name}.{what}" for name in HU_FEATURES for what in of_hu]
    return names


def feature_values(
    prob: Mapping[str, np.ndarray],
    z_mm: np.ndarray,
    reach_mm: float,
    hu_features: np.ndarray | None = None,
) -> np.ndarray:
    """The values of `build_features`, float32 (Z, number of columns)."""
    blocks = [_position_values(z_mm)]
    if prob:
        blocks.append(_logit_values(prob, z_mm, _offsets_mm(reach_mm)))
    if hu_features is not None:
        blocks.append(_hu_values(hu_features, z_mm))
    return np.concatenate([block.astype(np.float32) for block in blocks], axis=1)


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


def _offsets_mm(reach_mm: float) -> np.ndarray:
    """The distances at which neighbours are read, on each side."""
    return np.arange(STEP_MM, reach_mm + 1e-6, STEP_MM)


def _position_values(z_mm: np.ndarray) -> np.ndarray:
    """The columns `_POSITION` (Z, 6): where each slice lies."""
    geometry = slice_geometry(z_mm)
    return np.stack(
        [
            geometry.gap_below_mm,
            geometry.gap_above_mm,
            geometry.from_top_mm,
            geometry.from_bottom_mm,
            geometry.relative_index,
            np.full(len(z_mm), float(len(z_mm))),
        ],
        axis=1,
    )


def _logit_values(
    prob: Mapping[str, np.ndarray], z_mm: np.ndarray, offsets_mm: np.ndarray
) -> np.ndarray:
    """The columns of all logits (Z, C W): W columns for each of C pairs of stage and label."""
    n_slices = len(z_mm)
    logits = np.round(np.concatenate([logit(part) for part in prob.values()], axis=1), DECIMALS)
    by_column = np.ascontiguousarray(logits.T)  # (C, Z)
    n_columns, n_offsets = len(by_column), len(offsets_mm)
    values = np.empty((n_slices, n_columns, 1 + 2 * n_offsets + 5))
    values[..., 0] = logits

    # Neighbours on both sides, by their distance.
    signed_mm = np.stack([-offsets_mm, offsets_mm], axis=1).ravel()  # (2 n,)
    neighbours = _values_at((z_mm[:, None] + signed_mm).ravel(), z_mm, logits)
    neighbours = neighbours.reshape(n_slices, 2 * n_offsets, n_columns).swapaxes(1, 2)
    values[..., 1 : 1 + 2 * n_offsets] = np.round(neighbours, DECIMALS)

    # The slices within reach of each slice, itself among them.
    near_mm = offsets_mm.max(initial=0.0) + POSITION_TOLERANCE_MM
    is_near = np.abs(z_mm[:, None] - z_mm[None]) <= near_mm  # (Z, Z)
    near_sum = (is_near * by_column[:, None]).sum(axis=2)  # (C, Z)
    near_max = np.where(is_near, by_column[:, None], -np.inf).max(axis=2)
    values[..., -5] = np.round(near_sum / is_near.sum(axis=1), DECIMALS).T
    values[..., -4] = near_max.T

    # The whole series.
    descending = np.sort(logits, axis=0)[::-1]
    values[..., -3] = descending[0]
    values[..., -2] = np.round(descending[:3].mean(axis=0), DECIMALS)
    values[..., -1] = np.round(by_column.mean(axis=1), DECIMALS)
    return values.reshape(n_slices, -1)


def _hu_values(hu_features: np.ndarray, z_mm: np.ndarray) -> np.ndarray:
    """The columns of all HU features (Z, 5 F): of the slice, one step away, and of the series."""
    ascending = np.sort(hu_features, axis=0)  # NaN comes last
    count = (~np.isnan(hu_features)).sum(axis=0)  # (F,)
    lower = np.take_along_axis(ascending, np.maximum(count - 1, 0)[None] // 2, axis=0)[0]
    upper = np.take_along_axis(ascending, np.minimum(count // 2, len(z_mm) - 1)[None], axis=0)[0]
    median = np.where(count % 2 == 1, lower, (lower + upper) / 2)

    values = np.empty((*hu_features.shape, 5))
    values[..., 0] = hu_features
    values[..., 1] = _values_at(z_mm - STEP_MM, z_mm, hu_features)
    values[..., 2] = _values_at(z_mm + STEP_MM, z_mm, hu_features)
    values[..., 3] = np.where(count > 0, median, np.nan)
    values[..., 4] = np.fmax.reduce(hu_features, axis=0)
    return values.reshape(len(values), -1)


def _values_at(positions_mm: np.ndarray, z_mm: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The values (Z, C) of slices at `z_mm`, interpolated at `positions_mm` (M,); NaN beyond either
    end.

    As `np.interp` for each column, with one search for all of them.
    """
    inside_mm = np.clip(positions_mm, z_mm[0], z_mm[-1])
    values = values.astype(np.float64)
    last = len(z_mm) - 1
    below = np.searchsorted(z_mm, inside_mm, side="right") - 1
    above = np.minimum(below + 1, last)
    step_mm = np.where(above > below, z_mm[above] - z_mm[below], 1.0)

    from_below_mm = inside_mm - z_mm[below]
    slope = (values[above] - values[below]) / step_mm[:, None]
    between = slope * from_below_mm[:, None] + values[below]
    interpolated = np.where((from_below_mm == 0)[:, None], values[below], between)
    is_inside = np.abs(positions_mm - inside_mm) <= POSITION_TOLERANCE_MM
    return np.where(is_inside[:, None], interpolated, np.nan)
