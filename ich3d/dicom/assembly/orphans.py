"""Slices that name no series and yet fit one that does: both are volumes, and both say so."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ich3d.core.issues import IssueCode
from ich3d.core.types import Reason, Series
from ich3d.dicom.assembly.stacks import differences
from ich3d.dicom.geometry import SAME_PLACE_MM, STEP_TOLERANCE, ascending, irregular_steps, project
from ich3d.dicom.headers.elements import tag_text


def cross_reference_orphans(series: Sequence[Series]) -> tuple[Series, ...]:
    """`series`, of which those that name no SeriesInstanceUID and those that they fit tell of each other.

    A slice that lost its UID is a volume by itself, and whoever reads the series that it came from would
    not look for it there.
    """
    found = list(series)
    nameless = [k for k, one in enumerate(found) if _is_nameless(one)]
    named = [k for k, one in enumerate(found) if not _is_nameless(one)]
    for k in nameless:
        for other in named:
            if _fits(found[k], found[other]):
                stray, host = found[k], found[other]
                found[k] = _with(stray, IssueCode.NO_SERIES_UID, _of_host(stray, host))
                found[other] = _with(host, IssueCode.INCOMPLETE, _of_stray(stray))
    return tuple(found)


def _is_nameless(series: Series) -> bool:
    return any(reason.code is IssueCode.NO_SERIES_UID for reason in series.reasons)


def _fits(stray: Series, host: Series) -> bool:
    """Whether the slices of both make one stack with the steps of `host`, in its gaps or at its ends."""
    one, other = stray.headers[0], host.headers[0]
    if (
        one.patient_id != other.patient_id
        or any(differences(one, other).values())
        or host.spacing_mm is None
    ):
        return False
    together = ascending((*host.headers, *stray.headers))
    steps = np.diff(project(together))
    keeps_step = abs(np.median(steps) - host.spacing_mm) <= STEP_TOLERANCE * host.spacing_mm
    fits = len(irregular_steps(together)) <= len(irregular_steps(host.headers))
    return bool(steps.min() >= SAME_PLACE_MM and keeps_step and fits)


def _of_host(stray: Series, host: Series) -> str:
    return f"{stray.headers[0].name}: study, geometry and place are those of a slice of {host.volume_id}"


def _of_stray(stray: Series) -> str:
    names = ", ".join(stray.paths)
    return (
        f"left out: {names}: {tag_text('SeriesInstanceUID')} is missing, all else fits this series"
    )


def _with(series: Series, code: IssueCode, detail: str) -> Series:
    return replace(series, reasons=(*series.reasons, Reason(code, detail)))
