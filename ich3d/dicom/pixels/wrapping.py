"""TODO."""

from typing import Final

import numpy as np

from ich3d.core.types import SliceHeader
from ich3d.dicom.pixels.stored import Stored

WRAP: Final = 4096


WRAP_SHIFT: Final = 1000


WRAP_INTERCEPT: Final = -100


WRAP_SHARE: Final = 0.05


WRAP_RATIO: Final = 1.5


def may_be_wrapped(header: SliceHeader) -> bool:
    """Whether the header is one of those whose 12-bit values may be two's complement in disguise.

    In the RSNA 2019 data some images hold signed HU with BitsStored 12, PixelRepresentation 0 and an
    intercept near 0, so that -1000 reads 3096. The public rule looks at these three alone.
    """
    return (
        header.bits_stored == 12
        and not header.signed
        and header.slope == 1
        and header.intercept > WRAP_INTERCEPT
    )


def looks_wrapped(stored: list[np.ndarray]) -> bool:
    """Whether 12-bit values of slices that `may_be_wrapped` are wrapped HU.

    The header does not decide it: values that start at 0 with an intercept of 0 are as lawful, and the
    public rule would ruin them. The evidence is air. Every head CT shows some, and wrapped it lies in
    3072..4095, where an honest image has nothing but metal: so wrapped means that at least 5 % of all
    pixels lie there, and clearly more than in 2048..3071, the densest bone, which honest values pass.
    """
    top = sum(int(np.count_nonzero(values >= 3072)) for values in stored)
    below = sum(int(np.count_nonzero((values >= 2048) & (values < 3072))) for values in stored)
    total = sum(values.size for values in stored)
    return top >= WRAP_SHARE * total and top > WRAP_RATIO * below


def unwrapped(stored: Stored) -> Stored:
    """Wrapped values as the HU they stand for: add 1000, wrap at 4096, take 1000 off again.

    Source: the rule that RSNA 2019 entrants share; -1000 HU is the lowest value it gives back.
    """
    return Stored((stored.values.astype(np.int32) + WRAP_SHIFT) % WRAP - WRAP_SHIFT, stored.padding)
