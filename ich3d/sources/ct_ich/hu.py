"""Hounsfield units from the two 8-bit images of a CT-ICH slice, and whether both match.

CT-ICH 1.0.0 holds two JPEG images per slice (M. D. Hssayeni et al., PhysioNet 2020): a brain
window of centre 40 and width 120, in which one grey level is 0.47 HU, and a bone window of
centre 700 and width 3200, in which one grey level is 12.5 HU. The brain window is precise but
saturates; beyond its range the bone window tells bone from air.
"""

from typing import Final

import numpy as np

from ich3d.core.hounsfield import OPEN_AIR_HU
from ich3d.core.windows import Window

BRAIN: Final = Window(40, 120)
BONE_WIDTH: Final = 3200.0
# The centre of the published description, and the other one that was used for some patients.
BONE_CENTERS: Final = (700.0, 800.0)

# JPEG changes a saturated grey level by a step or two: the outermost three levels count as
# saturated.
LOWEST, HIGHEST = 3, 252

# Ringing of JPEG beside an edge changes a saturated level by more, and bone would show speckles
# of 95 HU. So where the bone window lies this far (four of its levels) beyond the brain window's
# range, the bone window is used.
BEYOND_HU: Final = 50.0

# Two windows of one slice differ by half a bone level (6 HU) plus JPEG noise, here two levels.
TOLERANCE_HU: Final = 25.0

# Fraction of pixels that must agree. Over 40 patients, images of one slice reach 0.97 or more;
# those of patient 81, which are paired by number although they show different slices, reach 0.32
# to 0.88.
MIN_AGREEMENT: Final = 0.93

# Largest difference between the numbers of the two images of one slice.
MAX_SHIFT: Final = 3

GreyImages = dict[int, np.ndarray]
"""Grey levels uint8 (Y, X) of one window, by the number in the file's name."""


def brain_hu(brain: np.ndarray) -> np.ndarray:
    """HU float32 of grey levels `brain` uint8 (any shape); valid where they are not saturated."""
    return _unwindow(brain, BRAIN)


def bone_hu(bone: np.ndarray, center: float) -> np.ndarray:
    """HU float32 of grey levels `bone` uint8 (any shape) of a bone window with `center` in HU."""
    return _unwindow(bone, Window(center, BONE_WIDTH))


def estimate_center(brain: np.ndarray, bone: np.ndarray) -> float:
    """The bone window's centre in HU, estimated from both images uint8 (Y, X) of one slice.

    At this centre the median pixel has equal HU in both windows. NaN where all pixels of the brain
    window are saturated.
    """
    unsaturated = (brain >= LOWEST) & (brain <= HIGHEST)
    if not unsaturated.any():
        return float("nan")
    return float(np.median(brain_hu(brain[unsaturated]) - bone_hu(bone[unsaturated], 0.0)))


def nearest_center(center: float) -> float:
    """The known centre in HU nearest to an estimated one; `agreement` tells whether it fits."""
    return min(BONE_CENTERS, key=lambda known: abs(known - center))


def agreement(brain: np.ndarray, bone: np.ndarray, center: float) -> float:
    """Fraction 0..1 of pixels with the same HU in both images uint8 (Y, X), within `TOLERANCE_HU`.

    The bone window, of `center` in HU, is clipped to the brain window's range. Air is black in both
    images and is excluded; the result is 0 where all pixels are air.
    """
    clipped_bone_hu = np.clip(bone_hu(bone, center), BRAIN.low, BRAIN.high)
    not_air = (brain >= LOWEST) | (clipped_bone_hu > BRAIN.low)
    if not not_air.any():
        return 0.0
    difference = np.abs(brain_hu(brain) - clipped_bone_hu)[not_air]
    return float(np.mean(difference <= TOLERANCE_HU))


def estimate_shift(brain: GreyImages, bone: GreyImages) -> int:
    """What to add to the number of a brain image to get the bone image of the same slice.

    Zero where the windows agree with that; otherwise the shift, of at most `MAX_SHIFT`, at which
    they agree best, and zero where they agree at none. The bone images of patient 81 are
    numbered two higher than its brain images.
    """
    if _median_agreement(brain, bone, 0) >= MIN_AGREEMENT:
        return 0

    shifts = range(-MAX_SHIFT, MAX_SHIFT + 1)
    agreement_at = {shift: _median_agreement(brain, bone, shift) for shift in shifts}
    best = max(shifts, key=lambda shift: (agreement_at[shift], -abs(shift)))
    return best if agreement_at[best] >= MIN_AGREEMENT else 0


def _median_agreement(brain: GreyImages, bone: GreyImages, shift: int) -> float:
    """Median over slices of the `agreement` of brain image n with bone image n + `shift`."""
    pairs = [
        (image, bone[number + shift]) for number, image in brain.items() if number + shift in bone
    ]
    centers = [estimate_center(*pair) for pair in pairs]
    if not np.isfinite(centers).any():
        return 0.0
    center = nearest_center(float(np.nanmedian(centers)))
    return float(np.median([agreement(*pair, center) for pair in pairs]))


def rebuild_hu(brain: np.ndarray, bone: np.ndarray, center: float) -> np.ndarray:
    """HU int16 (Y, X) of one slice from its two images uint8 (Y, X); `center` is the bone window's.

    The brain window gives the value, unless it is saturated or the bone window lies beyond it by
    `BEYOND_HU`; then the bone window does. A saturated brain window still limits the value to its
    side: at most -20 HU where it is black, at least 100 HU where it is white. The lowest levels
        of the
    bone window are written as air, -1000 HU; its highest level (2300 HU at centre 700) is kept.
    """
    fine, coarse = brain_hu(brain), bone_hu(bone, center)
    black, white = brain < LOWEST, brain > HIGHEST
    beyond = (coarse < BRAIN.low - BEYOND_HU) | (coarse > BRAIN.high + BEYOND_HU)

    coarse[bone < LOWEST] = OPEN_AIR_HU
    coarse[black] = np.minimum(coarse[black], BRAIN.low)
    coarse[white] = np.maximum(coarse[white], BRAIN.high)
    return np.rint(np.where(black | white | beyond, coarse, fine)).astype(np.int16)


def _unwindow(grey: np.ndarray, window: Window) -> np.ndarray:
    """HU float32 of grey levels 0..255 shown in `window`."""
    scaled: np.ndarray = grey.astype(np.float32) * np.float32(window.width / 255)
    return scaled + np.float32(window.low)
