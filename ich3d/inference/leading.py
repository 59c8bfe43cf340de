"""Which series of a study speaks for it: the plain one with a soft kernel."""

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Final, NamedTuple

from ich3d.core.issues import IssueCode
from ich3d.core.types import Series
from ich3d.dicom.assembly.series_kind import has_sharp_kernel

USUAL_STEP_MM: Final = 5.0
"""The usual step between the slices of a head CT, in mm."""

MOST_OF_THE_HEAD: Final = 0.9
"""A series covers as much as another one where it is at least this share as long."""


class Criterion(NamedTuple):
    """What a series should be, in words, and a cost that is lowest for such a series."""

    words: str
    cost: Callable[[Series, float], float]  # given the length of the longest series in mm


CRITERIA: Final = (
    Criterion("no contrast agent", lambda series, _: _has(series, IssueCode.CONTRAST)),
    Criterion("soft kernel", lambda series, _: has_sharp_kernel(series.headers[0])),
    Criterion("covers the head", lambda series, longest_mm: _is_short(series, longest_mm)),
    Criterion("not derived", lambda series, _: _has(series, IssueCode.DERIVED)),
    Criterion("no slice missing", lambda series, _: not series.is_regular),
    Criterion("step nearest to 5 mm", lambda series, _: _step_error_mm(series)),
)
"""In order of weight."""


def leading_series(
    all_series: Iterable[Series], study_of: Callable[[Series], str]
) -> dict[str, str]:
    """The series that speaks for each study, as volume_id and the reason.

    Args:
        all_series: the scored series; those of a study next to each other.
        study_of: what identifies the study of a series.

    Returns:
        By volume_id of each leading series, why it is that one: in what it is better than the
        other series of its study.
    """
    studies = [list(study) for _, study in groupby(all_series, key=study_of)]
    return dict(map(_choose, studies))


def _choose(study: Sequence[Series]) -> tuple[str, str]:
    """volume_id of the leading series of one study, and the reason."""
    if len(study) == 1:
        return study[0].volume_id, "the only series"

    left = sorted(study, key=lambda series: series.volume_id)
    reasons = []
    for criterion in CRITERIA:
        longest_mm = max(map(_length_mm, left))
        costs = [criterion.cost(series, longest_mm) for series in left]
        best = [series for series, cost in zip(left, costs, strict=True) if cost == min(costs)]
        if len(best) < len(left):
            reasons.append(criterion.words)
        left = best
    if len(left) > 1:
        reasons.append("first of equal ones")
    return left[0].volume_id, ", ".join(reasons)


def _has(series: Series, code: IssueCode) -> bool:
    return any(issue.code is code for issue in series.issues)


def _length_mm(series: Series) -> float:
    return float(series.z_mm[-1] - series.z_mm[0])


def _is_short(series: Series, longest_mm: float) -> bool:
    return _length_mm(series) < MOST_OF_THE_HEAD * longest_mm


def _step_error_mm(series: Series) -> float:
    """Distance of the step from the usual one, in whole tenths of a millimetre."""
    return round(abs((series.spacing_mm or 0.0) - USUAL_STEP_MM), 1)
