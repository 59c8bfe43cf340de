"""An ordered series to its HU volume."""

import numpy as np

from ich3d.core.codes import Code
from ich3d.core.types import Reason, Rejected, Series, SliceHeader, Volume
from ich3d.core.words import counted
from ich3d.dicom import pixels
from ich3d.dicom.series import affine_mm, rejected


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
        zip(series.headers, pixels.read_each(series.headers), strict=True)
    ):
        if isinstance(stored, Reason):
            return rejected(series, stored)
        if header in mended:
            hu[index], count = pixels.to_hu(pixels.unwrapped(stored), 1.0, 0.0)
        else:
            hu[index], count = pixels.to_hu(stored, header.slope, header.intercept)
        if count:
            clipped.append((count, header.name))
    reasons = (*series.reasons, *_pixel_reasons(len(mended), clipped))
    return Volume(series=series, hu=hu, affine_mm=affine_mm(series), reasons=reasons)


def _wrapped_slices(series: Series) -> frozenset[SliceHeader] | Reason:
    """The slices whose 12-bit values are wrapped; the whole series gives the evidence, for one writer
    made it."""
    suspects = [header for header in series.headers if pixels.may_be_wrapped(header)]
    stored = []
    for one in pixels.read_each(suspects):
        match one:
            case Reason() as reason:
                return reason
            case pixels.Stored(values, _):
                stored.append(values.astype(np.uint16))
    return frozenset(suspects if suspects and pixels.looks_wrapped(stored) else ())


def _pixel_reasons(n_mended: int, clipped: list[tuple[int, str]]) -> list[Reason]:
    reasons = []
    if n_mended:
        detail = f"signed 12-bit values, held as unsigned in {counted(n_mended, 'slice')}, were unwrapped"
        reasons.append(Reason(Code.WRAP_MENDED, detail))
    if clipped:
        count, name = max(clipped)
        where = f"{counted(len(clipped), 'slice')}, most in {name} in {counted(count, 'pixel')}"
        detail = f"HU beyond 16 bits were clipped in {where}"
        reasons.append(Reason(Code.HU_CLIPPED, detail))
    return reasons
