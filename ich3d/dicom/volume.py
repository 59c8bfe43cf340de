"""From an ordered series to its volume in Hounsfield units; every slice is decoded once."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from ich3d.core.issues import IssueCode
from ich3d.core.text import pluralize
from ich3d.core.types import Issue, Rejected, Series, Volume
from ich3d.dicom.geometry import affine_mm
from ich3d.dicom.pixels.rescale import to_hu
from ich3d.dicom.pixels.stored import StoredValues, read_slices
from ich3d.dicom.pixels.wrapping import looks_wrapped, may_be_wrapped, unwrap


def load_volume(series: Series) -> Volume | Rejected:
    """Decode `series` to `hu` (Z, Y, X) int16, Hounsfield units, slices ascending along the normal.

    The volume's `issues` are those of the series, and what only the pixels show: ENCODING_MENDED,
    WRAP_MENDED and HU_CLIPPED. A series with a slice that cannot be decoded is rejected; the detail
    names the first such file.

    Example:
        >>> from pathlib import Path
        >>> from ich3d.dicom.index import index
        >>> (series,) = index(Path("study")).series
        >>> load_volume(series).hu.dtype
        dtype('int16')
    """
    first = series.headers[0]
    hu = np.empty((len(series), first.rows, first.columns), dtype=np.int16)  # (Z, Y, X)
    n_clipped = np.zeros(len(series), dtype=np.int64)  # (Z,)
    suspects: dict[int, StoredValues] = {}
    deviations: dict[str, list[str]] = defaultdict(list)

    for index, stored in enumerate(read_slices(series.headers)):
        if isinstance(stored, Issue):
            return series.reject(stored)
        header = series.headers[index]
        if stored.deviation:
            deviations[stored.deviation].append(header.name)
        if may_be_wrapped(header):
            suspects[index] = stored
        else:
            hu[index], n_clipped[index] = to_hu(stored, header.slope, header.intercept)

    # All suspects are judged together: one scanner wrote them, and some slices show little air.
    is_wrapped = bool(suspects) and looks_wrapped([stored.values for stored in suspects.values()])
    for index, stored in suspects.items():
        header = series.headers[index]
        if is_wrapped:
            hu[index], n_clipped[index] = to_hu(unwrap(stored), slope=1.0, intercept=0.0)
        else:
            hu[index], n_clipped[index] = to_hu(stored, header.slope, header.intercept)

    wrap_issues = _wrap_issues(len(suspects)) if is_wrapped else ()
    clip_issues = _clip_issues(series, n_clipped)
    issues = (*series.issues, *_encoding_issues(deviations), *wrap_issues, *clip_issues)
    return Volume(series=series, hu=hu, affine_mm=affine_mm(series), issues=issues)


def _encoding_issues(deviations: Mapping[str, Sequence[str]]) -> Sequence[Issue]:
    """Warnings about files that break a rule of their encoding; slice names by what is wrong."""
    return tuple(
        Issue(
            IssueCode.ENCODING_MENDED,
            f"{names[0]}: {deviation}; the pixels of {pluralize(len(names), 'such slice')} "
            "were read all the same",
        )
        for deviation, names in deviations.items()
    )


def _wrap_issues(n_slices: int) -> Sequence[Issue]:
    """The warning about wrapped values in a number of slices."""
    slices = pluralize(n_slices, "slice")
    detail = f"signed 12-bit values, held as unsigned in {slices}, were unwrapped"
    return (Issue(IssueCode.WRAP_MENDED, detail),)


def _clip_issues(series: Series, n_clipped: np.ndarray) -> Sequence[Issue]:
    """The warning about HU beyond 16 bits; `n_clipped` (Z,) counts the clipped pixels."""
    counts = zip(n_clipped.tolist(), series.headers, strict=True)
    clipped = [(count, header.name) for count, header in counts if count]
    if not clipped:
        return ()

    count, name = max(clipped)
    where = f"{pluralize(len(clipped), 'slice')}, most in {name} in {pluralize(count, 'pixel')}"
    return (Issue(IssueCode.HU_CLIPPED, f"HU beyond 16 bits were clipped in {where}"),)
