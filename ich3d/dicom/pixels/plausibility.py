"""Whether the values of a volume can be Hounsfield units: where air, soft tissue and bone lie.

A header may say HU and be wrong: an intercept that was lost or applied twice, bits that were
shifted, a picture of a window. Such values show it by where they lie. A volume is judged by what
speaks against HU and not by what is missing. So slices without air in view, air alone, bone alone
and metal are plausible.

Values are judged before what lies below air is set to air, and without declared padding. Shares are
those of all judged pixels.
"""

from collections.abc import Sequence
from math import isqrt
from typing import Final

import numpy as np

from ich3d.dicom.pixels.stored import StoredValues

SAMPLE_PIXELS: Final = 1 << 15
"""About how many pixels of a volume are looked at, on a grid; the time for more would be felt."""

SOFT_TISSUE_HU: Final = (-150, 150)
"""From fat to fresh blood."""

BRAIN_HU: Final = (-50, 124)
"""Cerebrospinal fluid and brain with their noise, and blood."""

LOWEST_HU: Final = -(1 << 16)
LARGEST_HU: Final = 4096
"""Values beyond count as these. Above, how far beyond they lie makes no difference; below, a fill
has one value, and whole heads may lie as low as two intercepts of -32768 bring them."""

OFFSETS_HU: Final = (1000, 1024)
"""The intercepts, without their sign, that are lost or applied twice."""

HIGHEST_HU: Final = 3071
"""The end of the usual scale (12 bits with an intercept of -1024). Metal may lie beyond."""

MIN_HIGH_SHARE: Final = 0.05
MIN_HIGH_SHARE_WITHOUT_AIR: Final = 0.01
"""More of a volume than metal fills; less is enough where no negative value is left."""

SATURATED_START_HU: Final = 2000
"""No tissue has one and the same value that is as high: it is the white end of a window."""

AIR_START_HU: Final = -1300
AIR_END_HU: Final = -200
"""Air, lung and foam with their noise. What lies below is a fill of the background."""

NO_AIR_SHARE: Final = 0.005
"""A volume with less of it shows no air."""

MIN_BRIGHT_SHARE: Final = 0.05
THIN_BONE_HU: Final = (151, 850)
MIN_BRIGHT_TO_BONE: Final = 1.0
MIN_BRIGHT_TO_BONE_UNSIGNED: Final = 0.65
"""What lies where brain would be without its intercept: the least share of all, and the least ratio
to what lies in the range of thin bone, which is lower where nothing is negative. On 106 real series
the ratio is 0.6 at most, and on whole heads 2.7 and more where the intercept is taken away."""

MIN_DENSE_SHARE: Final = 0.1
"""Dense bone as a share of that brain, at least, where a skull is around it."""

LIGHTEST_AIR_HU: Final = 32
"""Air of -1000 HU without its intercept is 24 or 0, brain in its place about 35."""

MIN_DARK_SHARE: Final = 0.02
"""Air that was shifted below air, as a share of all. It is noisy, a fill has one value; the edge of
a fill in an image of half the matrix is 0.8 %."""

MIN_DARK_TO_FILL: Final = 1.0
MIN_DARK_SHARE_ALONE: Final = 0.005
"""The same of tissue that lies below air while air does not: more than the most frequent value
there. On 66 real slices it is a 25th of the fill at most."""

PEAK_START_HU: Final = 250
PEAK_WIDTH_HU: Final = 100
MIN_PEAK_TO_BODY: Final = 0.3
MAX_SOFT_TO_PEAK: Final = 0.25
"""Tissue at a wrong height beside air at its place, as without the slope: where it starts, its
width, the least ratio to all that is denser than fat, and the largest of soft tissue to it. On 106
real series and their slices these ratios are 0.2 and 1.3."""

SCREEN_HU: Final = (0, 255)
MIN_BACKGROUND_SHARE: Final = 0.1
MIN_WHITE_SHARE: Final = 0.005
"""The ends of a picture of 8 bits, how much of it lies at one of them, and how much is brighter
than soft tissue: a brain without skull on a background of 0 has less."""

MIN_BONE_SHARE: Final = 0.005
"""A volume with less of it shows no bone."""


def sample_step(n_slices: int, rows: int, columns: int) -> int:
    """The step of the grid, in pixels, on which the slices of a volume are looked at."""
    return max(1, isqrt(n_slices * rows * columns // SAMPLE_PIXELS))


def sample_hu(stored: StoredValues, slope: float, intercept: float, step: int) -> np.ndarray:
    """HU (N,) float64 of a slice on a grid of `step` pixels, without declared padding."""
    values = stored.values[::step, ::step]
    if stored.is_padding is not None:
        values = values[~stored.is_padding[::step, ::step]]
    return values.ravel() * slope + intercept


def implausibility(samples: Sequence[np.ndarray], is_unspecified: bool) -> str:
    """Say what shows that values are not HU; an empty string where nothing does.

    Args:
        samples: HU (N,) of each slice, from `sample_hu`.
        is_unspecified: whether RescaleType leaves the unit open. Then the values have to show by
            themselves that they are HU, which a map does not.
    """
    hu = _Distribution(np.concatenate(samples))
    if not hu.n:
        return ""
    return (
        _too_bright(hu)
        or _saturated(hu)
        or _lost_intercept(hu)
        or _double_intercept(hu)
        or _below_air(hu)
        or _displaced_tissue(hu)
        or _picture(hu)
        or (_no_sign_of_hu(hu) if is_unspecified else "")
    )


class _Distribution:
    """How often each HU occurs among `n` values."""

    def __init__(self, hu: np.ndarray) -> None:
        whole = np.rint(hu).clip(LOWEST_HU, LARGEST_HU).astype(np.int32)
        self.n = len(whole)
        self._counts = np.bincount(whole - LOWEST_HU, minlength=LARGEST_HU - LOWEST_HU + 1)
        self._up_to = np.concatenate(([0], np.cumsum(self._counts)))

    def count(self, low: int, high: int) -> int:
        """How many values lie from `low` to `high`, both included."""
        return int(self._up_to[high + 1 - LOWEST_HU] - self._up_to[low - LOWEST_HU])

    def share(self, low: int, high: int) -> float:
        """`count` as a share of all values."""
        return self.count(low, high) / self.n

    def most_frequent(self, low: int, high: int) -> float:
        """The largest share of one value among those from `low` to `high`."""
        return int(self._counts[low - LOWEST_HU : high + 1 - LOWEST_HU].max()) / self.n

    def share_without_fill(self, low: int, high: int) -> float:
        """`share` without the most frequent HU of the range."""
        return self.share(low, high) - self.most_frequent(low, high)

    def densest(self, start: int, width: int) -> int:
        """The first of the `width` HU, from `start` on, that most values have."""
        up_to = self._up_to[start - LOWEST_HU :]
        return start + int(np.argmax(up_to[width:] - up_to[:-width]))

    def median(self, low: int, high: int) -> int:
        """The median of the values from `low` to `high`; `low` where there are none."""
        middle = self._up_to[low - LOWEST_HU] + self.count(low, high) / 2
        return max(low, int(np.searchsorted(self._up_to, middle)) - 1 + LOWEST_HU)


def _too_bright(hu: _Distribution) -> str:
    """Values beyond the scale, in more of the volume than metal fills."""
    share = hu.share(HIGHEST_HU + 1, LARGEST_HU)
    least = MIN_HIGH_SHARE if _has_air(hu) else MIN_HIGH_SHARE_WITHOUT_AIR
    if share < least:
        return ""
    return f"{share:.0%} of the pixels lie above {HIGHEST_HU} HU, more than metal fills"


def _saturated(hu: _Distribution) -> str:
    """One value beyond the densest bone, in more of the volume than metal fills."""
    share = hu.most_frequent(SATURATED_START_HU, LARGEST_HU)
    if share < MIN_HIGH_SHARE:
        return ""
    return f"{share:.0%} of the pixels have one value beyond bone, as the white of a window"


def _lost_intercept(hu: _Distribution) -> str:
    """No air, and brain where it would be without its intercept.

    Bone of an honest image reaches there too, but more of it is thinner. And where brain should be
    there is little, or it is air: a bit darker than brain, with a skull beyond the bright values.
    """
    if _has_air(hu):
        return ""
    low, high = OFFSETS_HU[0] + BRAIN_HU[0], OFFSETS_HU[1] + BRAIN_HU[1]
    bright = hu.share(low, high)
    thin_bone = hu.share(*THIN_BONE_HU)
    dense = hu.share(high + 1, LARGEST_HU)
    has_negative = hu.count(LOWEST_HU, -1) > 0
    least_ratio = MIN_BRIGHT_TO_BONE if has_negative else MIN_BRIGHT_TO_BONE_UNSIGNED
    if bright < max(MIN_BRIGHT_SHARE, least_ratio * thin_bone):
        return ""
    is_empty = hu.share_without_fill(*SOFT_TISSUE_HU) < bright
    is_dark = not has_negative or hu.median(*SOFT_TISSUE_HU) < LIGHTEST_AIR_HU
    if not (is_empty or (is_dark and dense >= MIN_DENSE_SHARE * bright)):
        return ""
    return (
        f"no pixel is air, and {bright:.0%} lie between {low} and {high} HU: soft tissue without "
        "its RescaleIntercept (0028,1052)"
    )


def _double_intercept(hu: _Distribution) -> str:
    """Air far below air, and brain where air should be."""
    dark = hu.share_without_fill(LOWEST_HU, AIR_START_HU)
    low, high = BRAIN_HU[0] - OFFSETS_HU[1], BRAIN_HU[1] - OFFSETS_HU[0]
    displaced = hu.share(low, high)
    if dark < MIN_DARK_SHARE or displaced <= 2 * hu.share(*SOFT_TISSUE_HU):
        return ""
    return (
        f"{dark:.0%} of the pixels lie below {AIR_START_HU} HU, lower than air, and "
        f"{displaced:.0%} lie between {low} and {high} HU: soft tissue whose RescaleIntercept "
        "(0028,1052) counts twice"
    )


def _below_air(hu: _Distribution) -> str:
    """More that is spread below air than a fill of the background has at its edges.

    So looks bone or brain whose highest bit was read as a sign, and a head whose intercept is far
    too low.
    """
    dark = hu.share_without_fill(LOWEST_HU, AIR_START_HU)
    fill = hu.most_frequent(LOWEST_HU, AIR_START_HU)
    if dark < MIN_DARK_SHARE_ALONE or dark < MIN_DARK_TO_FILL * fill:
        return ""
    return f"{dark:.1%} of the pixels lie below {AIR_START_HU} HU, lower than air, and are no fill"


def _displaced_tissue(hu: _Distribution) -> str:
    """Tissue of a narrow range far above soft tissue, with bone beyond it, and no soft tissue."""
    start = hu.densest(PEAK_START_HU, PEAK_WIDTH_HU)
    end = start + PEAK_WIDTH_HU - 1
    peak = hu.share_without_fill(start, end)
    bone = hu.share(min(end + PEAK_WIDTH_HU, LARGEST_HU), LARGEST_HU)
    body = hu.share(AIR_END_HU, LARGEST_HU)
    if peak < max(MIN_BRIGHT_SHARE, MIN_PEAK_TO_BODY * body) or bone < MIN_DENSE_SHARE * peak:
        return ""
    if hu.share(*SOFT_TISSUE_HU) > MAX_SOFT_TO_PEAK * peak:
        return ""
    return f"{peak:.0%} of the pixels lie between {start} and {end} HU, and no soft tissue is seen"


def _picture(hu: _Distribution) -> str:
    """The values of a screen, with a large background and some that is brighter than tissue."""
    black, white = SCREEN_HU
    background = max(hu.share(black, black), hu.share(white, white))
    if hu.share(black, white) < 1 or background < MIN_BACKGROUND_SHARE:
        return ""
    if hu.share(SOFT_TISSUE_HU[1] + 1, white) < MIN_WHITE_SHARE:
        return ""
    return f"all pixels lie between {black} and {white}, as in a picture of a window"


def _no_sign_of_hu(hu: _Distribution) -> str:
    """Neither air, nor bone beside something negative: a map of any unit may look so."""
    has_bone = hu.share(SOFT_TISSUE_HU[1] + 1, HIGHEST_HU) >= MIN_BONE_SHARE
    if _has_air(hu) or (has_bone and hu.share(LOWEST_HU, -1) > 0):
        return ""
    return (
        "neither air nor a head without air is seen, and RescaleType (0028,1054) leaves the "
        "unit open"
    )


def _has_air(hu: _Distribution) -> bool:
    return hu.share(AIR_START_HU, AIR_END_HU) >= NO_AIR_SHARE
