"""From an ordered series to its volume in Hounsfield units; every slice is decoded once."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from ich3d.core.arguments import require_type
from ich3d.core.issues import IssueCode
from ich3d.core.text import pluralize
from ich3d.core.types import Issue, Rejected, Series, SliceHeader, Volume
from ich3d.dicom.geometry import affine_mm
from ich3d.dicom.headers.units import is_unspecified
from ich3d.dicom.pixels.plausibility import (
    BRAIN_HU,
    implausibility,
    sample_hu,
    sample_step,
)
from ich3d.dicom.pixels.rescale import to_hu
from ich3d.dicom.pixels.stored import StoredValues, read_slices
from ich3d.dicom.pixels.wrapping import (
    WRAPPED_BITS,
    looks_wrapped,
    may_be_wrapped,
    unwrap,
)

MIN_STRAY_SHARE: Final = 1e-4
"""Share of pixels with data in bits that are called unused: more than damage explains."""


def load_volume(series: Series) -> Volume | Rejected:
    """Decode `series` to `hu` (Z, Y, X) int16, Hounsfield units, slices ascending along the normal.

    The volume's `issues` are those of the series, and what only the pixels show: ENCODING_MENDED,
    WRAP_MENDED, PADDING_IGNORED, HU_CLIPPED and IMPLAUSIBLE_HU. A series with a slice that cannot
    be decoded is rejected; the detail names the first such file. DataError where `series` is no
    `Series`.

    Examples:
        >>> from ich3d.dicom.index import index
        >>> (series,) = index("study").series
        >>> load_volume(series).hu.dtype
        dtype('int16')
    """
    require_type("series", series, Series)
    pixels = _VolumePixels(series)
    suspects: dict[int, StoredValues] = {}
    for index, stored in enumerate(read_slices(series.headers)):
        if isinstance(stored, Issue):
            return series.reject(stored)
        header = series.headers[index]
        if may_be_wrapped(header, stored.values):
            suspects[index] = stored
        else:
            pixels.add(index, stored, header.slope, header.intercept)

    wrap_issues = _add_suspects(pixels, suspects)
    issues = (*series.issues, *wrap_issues, *pixels.issues())
    return Volume(series=series, hu=pixels.hu, affine_mm=affine_mm(series), issues=issues)


class _VolumePixels:
    """The HU of a volume while its slices are added, and what is seen on the way.

    Attributes:
        series: the series.
        hu: (Z, Y, X) int16, Hounsfield units of the slices that were added.
    """

    def __init__(self, series: Series) -> None:
        first = series.headers[0]
        self.series = series
        self.hu = np.empty((len(series), first.rows, first.columns), dtype=np.int16)
        self._n_clipped = np.zeros(len(series), dtype=np.int64)  # (Z,)
        self._n_stray = np.zeros(len(series), dtype=np.int64)  # (Z,)
        self._ignored_limit: list[str] = []
        self._deviations: dict[str, list[str]] = defaultdict(list)
        self._samples: dict[int, np.ndarray] = {}
        self._step = sample_step(*self.hu.shape)

    def add(self, index: int, stored: StoredValues, slope: float, intercept: float) -> None:
        """Rescale slice `index`."""
        self.hu[index], self._n_clipped[index] = to_hu(stored, slope, intercept)
        self._n_stray[index] = stored.n_stray
        self._samples[index] = sample_hu(stored, slope, intercept, self._step)
        if stored.deviation:
            self._deviations[stored.deviation].append(self.series.headers[index].name)
        if stored.ignored_limit:
            self._ignored_limit.append(self.series.headers[index].name)

    def issues(self) -> list[Issue]:
        """The warnings about the pixels of all slices."""
        return [
            *_encoding_issues(self._deviations),
            *_padding_issues(self._ignored_limit),
            *_clip_issues(self.series, self._n_clipped),
            *_implausible_issues(self.series, self._samples, self._n_stray, self.hu.size),
        ]


def _add_suspects(pixels: _VolumePixels, suspects: Mapping[int, StoredValues]) -> list[Issue]:
    """Add the slices that may be wrapped, unwrapped where they are; a warning about those.

    All are judged together: one scanner wrote them, and some slices show little air.
    """
    issues = []
    headers = pixels.series.headers
    for bits in WRAPPED_BITS:
        of_bits = {i: s for i, s in suspects.items() if headers[i].bits_stored == bits}
        if not of_bits:
            continue
        is_wrapped = looks_wrapped([stored.values for stored in of_bits.values()], bits)
        for index, stored in of_bits.items():
            header = headers[index]
            if is_wrapped:
                # Wrapped 12-bit values are HU whatever small intercept the header has.
                intercept = 0.0 if bits == 12 else header.intercept
                pixels.add(index, unwrap(stored, bits), 1.0, intercept)
            else:
                pixels.add(index, stored, header.slope, header.intercept)
        if is_wrapped:
            n_slices = pluralize(len(of_bits), "slice")
            detail = f"signed {bits}-bit values, held as unsigned in {n_slices}, were unwrapped"
            issues.append(Issue(IssueCode.WRAP_MENDED, detail))
    return issues


def _padding_issues(names: Sequence[str]) -> Sequence[Issue]:
    """The warning about slices `names` whose range of padding was ignored."""
    if not names:
        return ()
    limit = "PixelPaddingRangeLimit (0028,0121) makes padding of HU that a body has"
    more = f"; and {pluralize(len(names) - 1, 'more slice')}" if len(names) > 1 else ""
    return (Issue(IssueCode.PADDING_IGNORED, f"{names[0]}: {limit}, and is ignored{more}"),)


def _implausible_issues(
    series: Series, samples: Mapping[int, np.ndarray], n_stray: np.ndarray, n_pixels: int
) -> Sequence[Issue]:
    """The doubt whether a volume is in HU.

    Args:
        series: the series.
        samples: HU of each slice by its index, from `sample_hu`.
        n_stray: pixels of each slice with data in unused bits (Z,).
        n_pixels: pixels of the volume.
    """
    if n_stray.sum() >= MIN_STRAY_SHARE * n_pixels:
        name = series.headers[int(np.argmax(n_stray))].name
        problem = (
            f"{n_stray.sum() / n_pixels:.2%} of the pixels need more bits than BitsStored "
            f"(0028,0101) and HighBit (0028,0102) give them, most of them in {name}"
        )
    else:
        problem = _narrow_range(series.headers) or _implausibility(series, samples)
    if not problem:
        return ()
    return (Issue(IssueCode.IMPLAUSIBLE_HU, f"the values do not look like HU: {problem}"),)


def _narrow_range(headers: Sequence[SliceHeader]) -> str:
    """Why the bits of a slice cannot hold the HU of brain; empty where they can."""
    for header in headers:
        bits = header.bits_stored - header.signed
        ends = [header.slope * value + header.intercept for value in (0, (1 << bits) - 1)]
        if max(ends) < BRAIN_HU[1]:
            highest = f"{max(ends):.0f} HU are the most that its BitsStored (0028,0101) can hold"
            return f"{header.name}: {highest}"
    return ""


def _implausibility(series: Series, samples: Mapping[int, np.ndarray]) -> str:
    """What shows that values are not HU. Slices of different rescale or bits are judged apart."""
    alike: dict[object, list[int]] = defaultdict(list)
    for index, header in enumerate(series.headers):
        encoding = (header.slope, header.intercept, header.signed, header.bits_stored)
        alike[encoding, header.rescale_type].append(index)

    for indices in alike.values():
        first = series.headers[indices[0]]
        problem = implausibility(
            [samples[index] for index in indices], is_unspecified(first.rescale_type)
        )
        if problem and len(alike) > 1:
            return f"in {pluralize(len(indices), 'slice')}, such as {first.name}, {problem}"
        if problem:
            return problem
    return ""


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


def _clip_issues(series: Series, n_clipped: np.ndarray) -> Sequence[Issue]:
    """The warning about HU beyond 16 bits; `n_clipped` (Z,) counts the clipped pixels."""
    counts = zip(n_clipped.tolist(), series.headers, strict=True)
    clipped = [(count, header.name) for count, header in counts if count]
    if not clipped:
        return ()

    count, name = max(clipped)
    where = f"{pluralize(len(clipped), 'slice')}, most in {name} in {pluralize(count, 'pixel')}"
    return (Issue(IssueCode.HU_CLIPPED, f"HU beyond 16 bits were clipped in {where}"),)
