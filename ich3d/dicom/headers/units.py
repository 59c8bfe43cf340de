"""Whether a header says that pixel values are Hounsfield units (HU) or something else.

CT Image Storage also holds maps that are computed from CT images: iodine in mg/ml, blood flow,
effective atomic numbers. RescaleType names the unit (PS3.3 C.11.1.1.2); ImageType and FrameType
name the map (PS3.3 C.8.2.1.1.1 and C.8.15.3.1).
"""

import re
from functools import lru_cache
from typing import Final

from pydicom.uid import (
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

from ich3d.dicom.headers.elements import Elements, InvalidHeader, tag_text

_HU_TYPES: Final = re.compile("HU|H\\.U\\.|HOUN[SD]+FIELD([ _]?UNITS?)?( ?\\(HU\\))?")
"""Texts of RescaleType for HU; it may be absent in CT images (PS3.3 C.8.2.1)."""

_UNSPECIFIED_TYPES: Final = frozenset({"US", "UNSPECIFIED", "UNKNOWN", "NONE", "N/A"})
"""Texts of RescaleType for a unit that is not specified. SimpleITK writes `US` over HU too."""

_MAPS: Final = frozenset(
    {
        # Multi-energy CT (PS3.3 C.8.2.1.1.1). VMI and MAT_REMOVED are in HU and not listed.
        "MAT_SPECIFIC", "MAT_FRACTIONAL", "MAT_VALUE_BASED", "MAT_MODIFIED", "EFF_ATOMIC_NUM",
        "ELECTRON_DENSITY", "RHO_Z",
        # Perfusion. PERFUSION is not listed: the images that maps are computed from say so too.
        "PERFUSION_MAP",
    }
)  # fmt: skip
"""Third and later values of ImageType and FrameType that name a map."""

_MAP_WORDS: Final = frozenset(
    {
        "IODINE", "ZEFF", "CBF", "CBV", "RCBF", "RCBV", "MTT", "TTP", "TMAX", "TTD", "TTS",
        "PERMEABILITY",
    }
)  # fmt: skip
"""Words in these values that name one too, as in DE_IODINE or CBF_RGB."""

_REMOVED_WORDS: Final = frozenset({"NO", "REMOVED", "SUPPRESSED", "VNC", "WITHOUT"})
"""Words beside them that name an image without that material, which is in HU."""

_SECONDARY_CAPTURES: Final = (
    SecondaryCaptureImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
)
"""SOP classes of pictures that were taken of a screen, and of other converted images."""

_SCREEN_BITS: Final = 8
"""A Secondary Capture of at most so many bits is a picture of a window, as on a screen."""


def not_hu_problem(elements: Elements) -> str:
    """Say what shows that the values of a file or frame are not HU; empty where nothing does."""
    rescale_type = elements.text("RescaleType")
    is_hu = bool(_HU_TYPES.fullmatch(rescale_type.upper()))
    if rescale_type and not (is_hu or is_unspecified(rescale_type)):
        return f"{tag_text('RescaleType')} is {rescale_type}: the values are not HU"

    for keyword in ("ImageType", "FrameType"):
        named = _named_map(elements.text(keyword))
        if named:
            return f"{tag_text(keyword)} names a map, {named}: the values are not HU"

    if elements.sop_class in _SECONDARY_CAPTURES and _is_screen(elements):
        return (
            f"{tag_text('SOPClassUID')} is that of a Secondary Capture with {_SCREEN_BITS} bits "
            "a pixel or less: it shows a window, and the values are not HU"
        )
    return ""


@lru_cache(maxsize=256)
def _named_map(image_type: str) -> str:
    """The map that an ImageType or FrameType names; empty where it names none."""
    values = [value.strip() for value in image_type.upper().split("\\")[2:]]
    words = [set(re.split("[^A-Z]+", value)) for value in values]
    counts = _REMOVED_WORDS.isdisjoint(set().union(*words))
    for value, words_of_value in zip(values, words, strict=True):
        if value in _MAPS or (counts and not words_of_value.isdisjoint(_MAP_WORDS)):
            return value
    return ""


def is_unspecified(rescale_type: str) -> bool:
    """Whether a RescaleType says that the unit is not specified."""
    return rescale_type.upper() in _UNSPECIFIED_TYPES


def _is_screen(elements: Elements) -> bool:
    """Whether pixels have no more bits than a screen; files without BitsStored are invalid."""
    try:
        return elements.unsigned_short("BitsStored") <= _SCREEN_BITS
    except InvalidHeader:
        return False
