"""What one series adds to the fingerprint of its data set: its scanner, and a histogram of its HU.

Both are found while headers and pixels are at hand, and lie in the series' file of the store. So
the fingerprint of a large data set reads no pixels.
"""

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from ich3d.core.types import Series
from ich3d.dicom.origin import SeriesOrigin, series_origin

LOWEST_HU: Final = -1024
STEP_HU: Final = 4
N_BINS: Final = 1024
"""The bins of a histogram: `N_BINS` of `STEP_HU`, from `LOWEST_HU` on. What is lower counts in the
first, what is higher in the last.
"""


@dataclass(frozen=True)
class SeriesFingerprint:
    """The scanner of one series, and how often each HU occurs in it.

    Attributes:
        origin: masked description, kernel, thickness and scanner, by the first slice.
        kvp: KVP of the first slice, as text.
        field_of_view_mm: height, then width of the first slice.
        hu_counts: pixels of the prepared series in each bin, int64 (N_BINS,).
    """

    origin: SeriesOrigin
    kvp: str
    field_of_view_mm: tuple[float, float]
    hu_counts: np.ndarray


def series_fingerprint(series: Series, hu: np.ndarray) -> SeriesFingerprint:
    """The fingerprint of `series`, whose pixels on the model's grid are `hu` int16 (Z, H, W)."""
    first = series.headers[0]
    row_mm, column_mm = first.pixel_spacing_mm
    return SeriesFingerprint(
        origin=series_origin(series),
        kvp=first.kvp,
        field_of_view_mm=(first.rows * row_mm, first.columns * column_mm),
        hu_counts=_hu_counts(hu),
    )


def bin_edges_hu() -> np.ndarray:
    """The edges of the bins in HU, int64 (N_BINS + 1,)."""
    return LOWEST_HU + STEP_HU * np.arange(N_BINS + 1)


def fingerprint_to_json(fingerprint: SeriesFingerprint) -> dict[str, Any]:
    """`fingerprint` as plain lists, texts and numbers."""
    return {
        "origin": asdict(fingerprint.origin),
        "kvp": fingerprint.kvp,
        "field_of_view_mm": list(fingerprint.field_of_view_mm),
        "hu_counts": fingerprint.hu_counts.tolist(),
    }


def fingerprint_from_json(tree: dict[str, Any]) -> SeriesFingerprint:
    """The fingerprint that `fingerprint_to_json` made a tree of."""
    height_mm, width_mm = tree["field_of_view_mm"]
    return SeriesFingerprint(
        origin=SeriesOrigin(**tree["origin"]),
        kvp=tree["kvp"],
        field_of_view_mm=(height_mm, width_mm),
        hu_counts=np.array(tree["hu_counts"], dtype=np.int64),
    )


def _hu_counts(hu: np.ndarray) -> np.ndarray:
    """How many pixels of `hu` int16 (Z, H, W) lie in each bin, int64 (N_BINS,)."""
    highest = LOWEST_HU + STEP_HU * N_BINS - 1
    counts = np.zeros(N_BINS, dtype=np.int64)
    for image in hu:  # a slice at a time: a series of thin slices has many
        bins = (image.clip(LOWEST_HU, highest) - LOWEST_HU) // STEP_HU
        counts += np.bincount(bins.ravel(), minlength=N_BINS)
    return counts
