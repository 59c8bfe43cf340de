"""The attributes that tell two sweeps over one part of the body apart, and where they change.

Two sweeps under one SeriesInstanceUID may lie at the same positions, between each other, or head to
tail. Then their slices look like one volume, and only these attributes show that they are not.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import groupby, pairwise
from operator import attrgetter
from typing import Final

from ich3d.core.types import SliceHeader
from ich3d.dicom.geometry import slice_thickness_mm

MIN_CLEAN_SLICES: Final = 3
"""Fewest slices of a volume where a SeriesInstanceUID holds more than one."""

LONGEST_PAUSE_S: Final = 30.0
"""Slices whose AcquisitionTimes are further apart, in seconds, are of two sweeps: within one, a
scanner pauses to move the table and for some seconds to cool its tube."""

THICKNESS_TOLERANCE: Final = 0.1
"""Largest relative step between the SliceThicknesses of one sweep."""

_DAY_S: Final = 86400.0
_TIME: Final = re.compile(r"(\d{8}(?=\d{4}))?(\d\d):?(\d\d)?:?(\d\d(?:\.\d*)?)?")
_TOO_FEW_TO_DIFFER_ALL: Final = 5


@lru_cache(maxsize=1024)
def _number(text: str) -> str:
    """A number in one spelling: 120, 120.0 and +120 are the same; other text as it is."""
    try:
        return str(float(text))
    except ValueError:
        return text


SWEEP_ATTRIBUTES: Final[dict[str, Callable[[SliceHeader], str]]] = {
    "FrameOfReferenceUID": attrgetter("frame_of_reference"),
    "StackID": attrgetter("stack_id"),
    "SeriesNumber": attrgetter("series_number"),
    "TemporalPositionIndex": attrgetter("temporal_position"),
    "NominalPercentageOfCardiacPhase": attrgetter("cardiac_phase"),
    "SeriesTime": attrgetter("series_time"),
    "ConvolutionKernel": attrgetter("kernel"),
    "KVP": attrgetter("kvp"),
    "SliceThickness": attrgetter("thickness"),
    "ContrastBolusAgent": attrgetter("contrast_agent"),
    "AcquisitionNumber": attrgetter("acquisition_number"),
    "AcquisitionTime": attrgetter("acquisition_time"),
    "SeriesDescription": attrgetter("series_description"),
    "ImageType": attrgetter("image_type"),
}
"""Attributes in which sweeps may differ, in the order in which they are tried."""

_ONE_SPELLING: Final[dict[str, Callable[[str], str]]] = {
    "SeriesNumber": _number,
    "SeriesTime": _number,
    "KVP": _number,
    "ContrastBolusAgent": str.upper,
    "AcquisitionNumber": _number,
    "AcquisitionTime": _number,
    "SeriesDescription": str.upper,
}
"""How different spellings of one value of an attribute become one."""

_MANY_IN_ONE_SWEEP: Final = (
    "AcquisitionNumber",
    "AcquisitionTime",
    "SeriesDescription",
    "ImageType",
)
"""Attributes that may change along one sweep: one sweep of a head may have 21 AcquisitionNumbers.
Of these only the time says that sweeps lie head to tail, where it pauses."""

_UNRELIABLE: Final = ("AcquisitionNumber", "AcquisitionTime")
"""Attributes that scanners write in so many ways that they never warn of anything."""


def sweep_labels(keyword: str, slices: Sequence[SliceHeader]) -> list[str]:
    """A label for each slice; slices with the same label may be one sweep.

    It is the value of the attribute. AcquisitionTime may differ for each slice of a sweep: there
    the label says whether a slice lies before or after the longest pause. SliceThickness may have
    been computed for each slice: values within `THICKNESS_TOLERANCE` have one label.
    """
    if keyword == "SliceThickness":
        return _thickness_labels(slices)
    if keyword != "AcquisitionTime":
        return _values(keyword, slices)
    seconds = _acquisition_seconds(slices)
    _, begin = _longest_pause(seconds)
    return ["" if second is None else str(second > begin) for second in seconds]


def _values(keyword: str, slices: Sequence[SliceHeader]) -> list[str]:
    """The value of an attribute of each slice, in one spelling."""
    values = [SWEEP_ATTRIBUTES[keyword](header) for header in slices]
    return list(map(_ONE_SPELLING.get(keyword, str), values))


def separating(slices: Sequence[SliceHeader]) -> list[str]:
    """Keywords of the attributes that speak for several sweeps among the sorted slices.

    An attribute speaks so where it returns to an earlier value, as the kernels H31, H60, H31 do. A
    single change along the stack (H31, H31, H60) speaks so too, unless the attribute may change
    within a sweep. An attribute that is another one for each of many slices says nothing.
    """
    return [keyword for keyword in SWEEP_ATTRIBUTES if _separates(keyword, slices)]


def warned_of(slices: Sequence[SliceHeader]) -> list[str]:
    """The keywords of `separating` that deserve a warning where the slices stay one volume."""
    return [keyword for keyword in separating(slices) if keyword not in _UNRELIABLE]


def mixed_attribute(slices: Sequence[SliceHeader]) -> str | None:
    """The first attribute by which two sweeps are mixed in the sorted slices.

    Two of its values have enough slices for a sweep of their own. None where there is no such
    attribute: single slices with another value are no sweep.
    """
    for keyword in separating(slices):
        if keyword == "AcquisitionTime":  # a pause is no proof, a time that comes back is
            labels = _values(keyword, slices)
            is_mixed = _returns(labels)
        else:
            labels = sweep_labels(keyword, slices)
            is_mixed = keyword not in _MANY_IN_ONE_SWEEP
        counts = Counter(labels)
        if is_mixed and sum(count >= MIN_CLEAN_SLICES for count in counts.values()) > 1:
            return keyword
    return None


def _returns(labels: Sequence[str]) -> bool:
    """Whether an earlier label comes back along the slices."""
    return len(list(groupby(labels))) > len(set(labels))


def _separates(keyword: str, slices: Sequence[SliceHeader]) -> bool:
    if len(set(map(SWEEP_ATTRIBUTES[keyword], slices))) == 1:
        return False
    labels = sweep_labels(keyword, slices)
    values = set(labels)
    if len(values) == 1 or len(values) == len(slices) >= _TOO_FEW_TO_DIFFER_ALL:
        return False
    if _returns(labels):
        return True
    if keyword == "AcquisitionTime":
        length, _ = _longest_pause(_acquisition_seconds(slices))
        return length > LONGEST_PAUSE_S
    return keyword not in _MANY_IN_ONE_SWEEP


def _thickness_labels(slices: Sequence[SliceHeader]) -> list[str]:
    """The smallest of the thicknesses in mm that are about that of a slice; empty where missing."""
    thicknesses = [slice_thickness_mm(header) for header in slices]
    label_of: dict[float | None, str] = {None: ""}
    previous_mm, label = 0.0, ""
    for thickness_mm in sorted({mm for mm in thicknesses if mm is not None}):
        if thickness_mm > previous_mm * (1 + THICKNESS_TOLERANCE):
            label = str(thickness_mm)
        label_of[thickness_mm] = label
        previous_mm = thickness_mm
    return [label_of[thickness_mm] for thickness_mm in thicknesses]


@lru_cache(maxsize=1024)
def _seconds(time: str) -> float | None:
    """A DICOM time, or date and time, in seconds (PS3.5 6.2, VR TM and DT); None if it is none."""
    found = _TIME.match(time)
    if found is None:
        return None
    date, hours, minutes, seconds = found.groups()
    try:
        days = datetime.strptime(date, "%Y%m%d").toordinal() if date else 0
    except ValueError:
        return None
    return days * _DAY_S + int(hours) * 3600.0 + int(minutes or 0) * 60.0 + float(seconds or 0)


def _acquisition_seconds(slices: Sequence[SliceHeader]) -> list[float | None]:
    """AcquisitionTime of each slice in seconds. Without dates, it goes on after midnight."""
    seconds = [_seconds(header.acquisition_time) for header in slices]
    times = sorted({second for second in seconds if second is not None})
    midnights = [before for before, after in pairwise(times) if after - before > _DAY_S / 2]
    if not midnights or times[-1] > _DAY_S:
        return seconds
    return [
        second + _DAY_S if second is not None and second <= midnights[-1] else second
        for second in seconds
    ]


def _longest_pause(seconds: Sequence[float | None]) -> tuple[float, float]:
    """Length of the longest pause between slices, and the time at which it begins, in seconds."""
    times = sorted({second for second in seconds if second is not None})
    return max(((after - before, before) for before, after in pairwise(times)), default=(0.0, 0.0))
