"""The two 8-bit pictures of CT-ICH slices, a brain and a bone window: which belong together, and their HU.

CT-ICH 1.0.0 ships every slice as two JPEGs (M. D. Hssayeni et al., PhysioNet 2020): a brain window
of centre 40 and width 120, one grey level 0.47 HU, and a bone window of centre 700 and width 3200,
one grey level 12.5 HU. The first is fine but saturates; beyond it the second tells bone from air.
"""

from typing import Final

import numpy as np

from ich3d.core.windows import Window

BRAIN: Final = Window(40, 120)
BONE_WIDTH: Final = 3200.0
# The centre of the published description, and the other one that a patient was exported with.
BONE_CENTERS: Final = (700.0, 800.0)
AIR_HU: Final = -1000
# JPEG moves a saturated grey level by a step or two: the outermost three levels count as saturated.
LOWEST, HIGHEST = 3, 252
# Beside an edge JPEG ringing moves it further, and bone would be speckled with 95 HU. So where the
# bone window reads this far (four of its levels) beyond the brain window, it is believed.
BEYOND_HU: Final = 50.0
# Two windows of one section differ by half a bone level (6 HU) plus JPEG noise, here two levels.
TOLERANCE_HU: Final = 25.0
# Share of pixels that must agree. Over 40 patients, pictures of one section reach 0.97 or more; those
# of patient 81, paired by number although they show other sections, 0.32 to 0.88.
MIN_AGREEMENT: Final = 0.93
# How far the pictures of two windows may be numbered apart.
MAX_SHIFT: Final = 3

Greys = dict[int, np.ndarray]
"""Slice number to grey levels uint8 (Y, X) of one window."""


def brain_hu(brain: np.ndarray) -> np.ndarray:
    """HU float32 of brain-window grey levels, right where `LOWEST <= brain <= HIGHEST`."""
    return _unwindow(brain, BRAIN)


def bone_hu(bone: np.ndarray, center: float) -> np.ndarray:
    """HU float32 of bone-window grey levels that were exported with `center`."""
    return _unwindow(bone, Window(center, BONE_WIDTH))


def measured_center(brain: np.ndarray, bone: np.ndarray) -> float:
    """The bone window's centre in HU as one slice shows it: the centre at which the median pixel
    has equal HU in both windows; NaN where no pixel is inside the brain window."""
    inside = (brain >= LOWEST) & (brain <= HIGHEST)
    if not inside.any():
        return float("nan")
    return float(np.median(brain_hu(brain[inside]) - bone_hu(bone[inside], 0.0)))


def nearest_center(measured: float) -> float:
    """The known centre nearest to `measured`; whether it fits is what `agreement` tells."""
    return min(BONE_CENTERS, key=lambda center: abs(center - measured))


def agreement(brain: np.ndarray, bone: np.ndarray, center: float) -> float:
    """Share of pixels whose two windows tell the same HU within `TOLERANCE_HU`, the bone window
    cut to the brain window's range. Air, which is black in both, does not count; 0 where all is air."""
    seen_in_bone = np.clip(bone_hu(bone, center), BRAIN.low, BRAIN.high)
    not_air = (brain >= LOWEST) | (seen_in_bone > BRAIN.low)
    if not not_air.any():
        return 0.0
    difference = np.abs(brain_hu(brain) - seen_in_bone)[not_air]
    return float(np.mean(difference <= TOLERANCE_HU))


def bone_shift(brain: Greys, bone: Greys) -> int:
    """What to add to a brain picture's number to find the bone picture of the same section.

    Zero unless the windows then disagree; else the shift of at most `MAX_SHIFT` at which they agree
    best, if they do. The bone pictures of patient 81 are numbered two further than its brain pictures.
    """
    if _median_agreement(brain, bone, 0) >= MIN_AGREEMENT:
        return 0
    shares = {
        shift: _median_agreement(brain, bone, shift) for shift in range(-MAX_SHIFT, MAX_SHIFT + 1)
    }
    best = max(shares, key=lambda shift: (shares[shift], -abs(shift)))
    return best if shares[best] >= MIN_AGREEMENT else 0


def _median_agreement(brain: Greys, bone: Greys, shift: int) -> float:
    pairs = [
        (grey, bone[number + shift]) for number, grey in brain.items() if number + shift in bone
    ]
    centers = [measured_center(*pair) for pair in pairs]
    if not np.isfinite(centers).any():
        return 0.0
    center = nearest_center(float(np.nanmedian(centers)))
    return float(np.median([agreement(*pair, center) for pair in pairs]))


def rebuilt_hu(brain: np.ndarray, bone: np.ndarray, center: float) -> np.ndarray:
    """HU int16 (Y, X) of one slice from both windows, uint8 (Y, X) each.

    The brain window answers unless it is saturated or the bone window reads beyond it by
    `BEYOND_HU`; then the bone window does. Where the two name different sides, a saturated brain
    window holds the answer to its side: at most -20 HU where black, at least 100 HU where white.
    The bone window's own floor is written as air, -1000 HU; its ceiling (2300 HU at centre 700) stands.
    """
    fine, coarse = brain_hu(brain), bone_hu(bone, center)
    black, white = brain < LOWEST, brain > HIGHEST
    beyond = (coarse < BRAIN.low - BEYOND_HU) | (coarse > BRAIN.high + BEYOND_HU)
    coarse[bone < LOWEST] = AIR_HU
    coarse[black] = np.minimum(coarse[black], BRAIN.low)
    coarse[white] = np.maximum(coarse[white], BRAIN.high)
    return np.rint(np.where(black | white | beyond, coarse, fine)).astype(np.int16)


def _unwindow(grey: np.ndarray, window: Window) -> np.ndarray:
    scaled: np.ndarray = grey.astype(np.float32) * np.float32(window.width / 255)
    return scaled + np.float32(window.low)
