"""The fingerprint of a data set: what a researcher wants to see of it before a network is trained.

`prepare` writes it as `fingerprint.json`. It is added up series by series, and equal data give
equal bytes, whoever prepared them. A model keeps a short form, by `prepare.tables.fingerprint`.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd

from ich3d.config.schema import PrepareConfig
from ich3d.core.labels import LABELS, SUBTYPES
from ich3d.core.types import LeftOut, Rejected, SeriesMetadata
from ich3d.prepare.head import TISSUE_HU
from ich3d.prepare.hu_features import BRAIN_CM2, HU_FEATURES, shows_brain
from ich3d.prepare.series_fingerprint import N_BINS, SeriesFingerprint, bin_edges_hu

MAX_TEXTS: Final = 30
"""Most values of a text attribute that are listed; the others are counted together."""

MAX_TEXT_LENGTH: Final = 64
"""Longer texts of a header are cut."""

QUANTILES: Final = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
HU_QUANTILES: Final = (0.005, 0.05, 0.25, 0.5, 0.75, 0.95, 0.995)
HISTOGRAM_BINS: Final = 30

MIN_SHARED: Final = 3
"""A description of fewer series is counted with the others: free text may name somebody, whom no
mask knows.
"""

UNKNOWN: Final = "not told"
OTHERS: Final = "others"

_DIGITS: Final = 3
_DIGITS_OF_SLICES: Final = 1
"""Decimals of a number of a series, and of a slice. Rounded, few different ones occur, and how many
there are does not grow with the data.
"""

_MEDIAN_HU: Final = HU_FEATURES.index("median_hu")


@dataclass
class _Values:
    """How often each value of a number occurs, and of how many the number is not known."""

    counts: Counter[float] = field(default_factory=Counter)
    unknown: int = 0

    def add(self, values: Iterable[float | None]) -> None:
        """Count values; None and NaN are not known."""
        for value in values:
            if value is None or np.isnan(value):
                self.unknown += 1
            else:
                self.counts[round(float(value), _DIGITS)] += 1

    def summary(self) -> dict[str, Any]:
        """Number of values, quantiles and a histogram; these are empty where no value is known."""
        values = np.array(sorted(self.counts))  # (N,)
        weights = np.array([self.counts[value] for value in values], dtype=np.int64)
        tree: dict[str, Any] = {"known": int(weights.sum()), "unknown": self.unknown}
        if len(values) == 0:
            return {**tree, "quantiles": {}, "histogram": {"edges": [], "counts": []}}
        counts, edges = np.histogram(values, HISTOGRAM_BINS, weights=weights)
        return {
            **tree,
            "quantiles": _quantiles(values, weights, QUANTILES),
            "histogram": {"edges": _rounded(edges), "counts": counts.tolist()},
        }


@dataclass
class SeriesTally:
    """What the series of a store are like, added up one by one."""

    numbers: dict[str, _Values] = field(default_factory=dict)
    texts: dict[str, Counter[str]] = field(default_factory=dict)
    issues: Counter[str] = field(default_factory=Counter)
    hu_counts: np.ndarray = field(default_factory=lambda: np.zeros(N_BINS, dtype=np.int64))
    without_brain: int = 0

    def add(self, series: SeriesMetadata, fingerprint: SeriesFingerprint) -> None:
        """Count one series and its slices."""
        acquisition, origin = series.acquisition, fingerprint.origin
        has_brain = shows_brain(series.hu_features)  # (Z,)
        slices = series.hu_features[has_brain].round(_DIGITS_OF_SLICES)  # (Z, F)
        height_mm, width_mm = fingerprint.field_of_view_mm
        for name, values in {
            "slices": [float(acquisition.n_slices)],
            "slice_distance_mm": [acquisition.spacing_mm],
            "slice_thickness_mm": [_number(origin.slice_thickness_mm)],
            "tilt_deg": [acquisition.tilt_deg],
            "pixel_spacing_mm": [acquisition.pixel_mm],
            "field_of_view_mm": [max(height_mm, width_mm)],
            "kvp": [_number(fingerprint.kvp)],
            "brain_cm2": slices[:, BRAIN_CM2].tolist(),
            "brain_median_hu": slices[:, _MEDIAN_HU].tolist(),
        }.items():
            self.numbers.setdefault(name, _Values()).add(values)

        for name, text in {
            "manufacturer": origin.manufacturer,
            "model": origin.scanner,
            "convolution_kernel": origin.convolution_kernel,
            "series_description": origin.series_description,
            "matrix": f"{acquisition.rows} x {acquisition.columns}",
        }.items():
            shown = " ".join(text.split())[:MAX_TEXT_LENGTH] or UNKNOWN
            self.texts.setdefault(name, Counter())[shown] += 1

        self.issues.update({issue.code.value for issue in series.issues})
        self.hu_counts += fingerprint.hu_counts
        self.without_brain += int((~has_brain).sum())


@dataclass(frozen=True)
class NotUsed:
    """What is not in the store, or in doubt.

    Attributes:
        rejected: files and series that cannot be used.
        left_out: files that are no part of a CT volume.
        unmatched: the table of `unmatched.csv`.
        conflicts: the table of `conflicting_labels.csv`.
    """

    rejected: Sequence[Rejected]
    left_out: Sequence[LeftOut]
    unmatched: pd.DataFrame
    conflicts: pd.DataFrame


def data_fingerprint(
    tally: SeriesTally,
    slices: pd.DataFrame,
    not_used: NotUsed,
    config: PrepareConfig,
    sheets: Sequence[str],
) -> dict[str, Any]:
    """The tree of `fingerprint.json`.

    Args:
        tally: the series of the store.
        slices: the store's table of slices, with groups, folds and labels.
        not_used: what is not in the store, or in doubt.
        config: the grid.
        sheets: the contact sheets, relative to the workspace.
    """
    return {
        "grid": {"matrix": config.matrix, "pixel_mm": config.pixel_mm},
        "counts": {
            "studies": slices["study_uid"].nunique(),
            "series": slices["volume_id"].nunique(),
            "slices": len(slices),
            "slices_without_brain": tally.without_brain,
            "patients": slices["patient_id"].nunique(),
        },
        "links": _links(slices),
        "labels": {name: _label_counts(slices, of) for name, of in _LEVELS.items()},
        "folds": _folds(slices),
        "numbers": {name: values.summary() for name, values in tally.numbers.items()},
        "texts": {
            name: _most_common(texts, MIN_SHARED if name == "series_description" else 1)
            for name, texts in tally.texts.items()
        },
        "hu": _hu(tally.hu_counts),
        "issues": dict(tally.issues),
        "rejected": _by_code(not_used.rejected),
        "left_out": _by_code(not_used.left_out),
        "unmatched": not_used.unmatched["lacks"].value_counts().to_dict(),
        "conflicting_labels": {
            "slices": len(not_used.conflicts),
            "images": not_used.conflicts["hash"].nunique(),
        },
        "contact_sheets": list(sheets),
    }


_LEVELS: Final = {"slices": None, "series": "volume_id", "patients": "patient_id"}
"""The column of the table of slices that names each unit for which labels are counted."""


def _label_counts(slices: pd.DataFrame, of: str | None) -> dict[str, Any]:
    """How many units have a label, each label, each pair of labels, and each number of subtypes.

    `of` names the unit's column; None is for slices. A unit has a label where one slice has it.
    """
    labels = slices[list(LABELS)] if of is None else slices.groupby(slices[of])[list(LABELS)].max()
    has = labels.eq(1)
    pairs = has.to_numpy(np.int64).T @ has.to_numpy(np.int64)  # (K, K)
    n_subtypes = has.loc[labels.notna().any(axis=1), list(SUBTYPES)].sum(axis=1)
    return {
        "labelled": int(labels.notna().any(axis=1).sum()),
        "with_label": {label: int(has[label].sum()) for label in LABELS},
        "together": {
            label: dict(zip(LABELS, row.tolist(), strict=True))
            for label, row in zip(LABELS, pairs, strict=True)
        },
        "number_of_subtypes": {
            str(number): int((n_subtypes == number).sum()) for number in range(len(SUBTYPES) + 1)
        },
    }


def _links(slices: pd.DataFrame) -> dict[str, int]:
    """Groups of patients who share an identical slice, and how many are in them."""
    patients = slices[["patient_id", "group_id"]].drop_duplicates()
    sizes = patients.groupby("group_id").size()
    return {
        "groups": len(sizes),
        "groups_of_several": int((sizes > 1).sum()),
        "linked_patients": int(sizes[sizes > 1].sum()),
        "largest_group": int(sizes.max()),
    }


def _folds(slices: pd.DataFrame) -> list[dict[str, Any]]:
    """Patients, series and slices of each fold, and how many of them have each label."""
    return [
        {
            "fold": int(str(fold)),
            "groups": rows["group_id"].nunique(),
            "patients": rows["patient_id"].nunique(),
            "series": rows["volume_id"].nunique(),
            "slices": len(rows),
            "labels": {name: _label_counts(rows, of)["with_label"] for name, of in _LEVELS.items()},
        }
        for fold, rows in slices.groupby("fold", sort=True)
    ]


def _hu(counts: np.ndarray) -> dict[str, Any]:
    """Histogram of all pixels, and quantiles of those that are tissue."""
    edges = bin_edges_hu()
    is_tissue = edges[:-1] >= TISSUE_HU
    quantiles = {}
    if counts[is_tissue].any():
        middles = (edges[:-1] + edges[1:]) / 2
        quantiles = _quantiles(middles[is_tissue], counts[is_tissue], HU_QUANTILES)
    return {
        "pixels": int(counts.sum()),
        "tissue_above": TISSUE_HU,
        "tissue_pixels": int(counts[is_tissue].sum()),
        "tissue_quantiles": quantiles,
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    }


def quantile_name(share: float) -> str:
    """The key of a quantile in `fingerprint.json`.

    >>> quantile_name(0.5)
    '50%'
    """
    return f"{100 * share:g}%"


def _quantiles(
    values: np.ndarray, weights: np.ndarray, shares: Sequence[float]
) -> dict[str, float]:
    """For each share, the lowest of ascending `values` (N,) that so large a part does not exceed.

    `weights` (N,) say how often each value occurs.
    """
    reached = np.cumsum(weights) / weights.sum()
    chosen = values[np.searchsorted(reached, shares)]
    return {
        quantile_name(share): value for share, value in zip(shares, _rounded(chosen), strict=True)
    }


def _most_common(texts: Counter[str], at_least: int) -> list[list[str | int]]:
    """The most frequent texts that occur `at_least` so often, and last the number of all others.

    Texts of one count are in alphabetical order.
    """
    ordered = sorted(texts.items(), key=lambda item: (-item[1], item[0]))
    listed: list[list[str | int]] = [
        [text, count] for text, count in ordered[:MAX_TEXTS] if count >= at_least
    ]
    rest = texts.total() - sum(count for _, count in ordered[: len(listed)])
    return [*listed, [OTHERS, rest]] if rest else listed


def _by_code(items: Sequence[Rejected | LeftOut]) -> dict[str, dict[str, int]]:
    """By code, how many items there are and how many files they hold."""
    codes = sorted({item.code.value for item in items})
    of_code = {code: [item for item in items if item.code == code] for code in codes}
    return {
        code: {"entries": len(found), "files": sum(len(item.paths) for item in found)}
        for code, found in of_code.items()
    }


def _number(text: str) -> float | None:
    """The finite number in a header's text; None where there is none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def _rounded(values: np.ndarray) -> list[float]:
    """As plain numbers, without the last digits of their arithmetic."""
    return [round(value, 4) for value in values.tolist()]
