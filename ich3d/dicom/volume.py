"""An ordered series to its HU volume."""

import numpy as np

from ich3d.core.issues import IssueCode
from ich3d.core.text import pluralize
from ich3d.core.types import Reason, Rejected, Series, SliceHeader, Volume
from ich3d.dicom.geometry import affine_mm, rejected
from ich3d.dicom.pixels.rescale import to_hu
from ich3d.dicom.pixels.stored import Stored, read_each
from ich3d.dicom.pixels.wrapping import looks_wrapped, may_be_wrapped, unwrapped


def load_volume(series: Series) -> Volume | Rejected:
    """The HU of `series`, int16 (Z, Y, X), slices ascending along the normal.

    `reasons` are those of the series and what reading the pixels adds: HU_CLIPPED, WRAP_MENDED.
    Rejected names the first file whose pixels cannot be decoded.
    """
    mended = _wrapped_slices(series)
    if isinstance(mended, Reason):
        return rejected(series, mended)
    first = series.headers[0]
    hu = np.empty((len(series), first.rows, first.columns), dtype=np.int16)
    clipped: list[tuple[int, str]] = []
    for index, (header, stored) in enumerate(
        zip(series.headers, read_each(series.headers), strict=True)
    ):
        if isinstance(stored, Reason):
            return rejected(series, stored)
        if header in mended:
            hu[index], count = to_hu(unwrapped(stored), 1.0, 0.0)
        else:
            hu[index], count = to_hu(stored, header.slope, header.intercept)
        if count:
            clipped.append((count, header.name))
    reasons = (*series.reasons, *_pixel_reasons(len(mended), clipped))
    return Volume(series=series, hu=hu, affine_mm=affine_mm(series), reasons=reasons)


def _wrapped_slices(series: Series) -> frozenset[SliceHeader] | Reason:
    """The slices whose 12-bit values are wrapped; the whole series gives the evidence, for one writer
    made it."""
    suspects = [header for header in series.headers if may_be_wrapped(header)]
    stored = []
    for one in read_each(suspects):
        match one:
            case Reason() as reason:
                return reason
            case Stored(values, _):
                stored.append(values.astype(np.uint16))
    return frozenset(suspects if suspects and looks_wrapped(stored) else ())


def _pixel_reasons(n_mended: int, clipped: list[tuple[int, str]]) -> list[Reason]:
    reasons = []
    if n_mended:
        detail = f"signed 12-bit values, held as unsigned in {pluralize(n_mended, 'slice')}, were unwrapped"
        reasons.append(Reason(IssueCode.WRAP_MENDED, detail))
    if clipped:
        count, name = max(clipped)
        where = f"{pluralize(len(clipped), 'slice')}, most in {name} in {pluralize(count, 'pixel')}"
        detail = f"HU beyond 16 bits were clipped in {where}"
        reasons.append(Reason(IssueCode.HU_CLIPPED, detail))
    return reasons
