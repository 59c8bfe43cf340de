"""The codes for everything that can be wrong with a DICOM file, a series or a volume.

One list serves `ich3d inspect`, `Rejected` and `Issue`, and the `code` and `codes` columns of
`rejected.csv`, `slices.csv`, `series.csv` and `failures.csv`.
"""

from collections.abc import Iterable
from enum import StrEnum


class IssueCode(StrEnum):
    """What is wrong; the value is the text that is written to files."""

    # Left out: the file is no part of a CT volume, and nothing is wrong with that.
    NOT_DICOM = "not_dicom"
    NOT_CT = "not_ct"
    LOCALIZER = "localizer"
    NO_IMAGE = "no_image"
    NOT_HU = "not_hu"
    DUPLICATE = "duplicate"

    # Rejected: the file or series should have been a CT volume, but cannot be used.
    EMPTY_FILE = "empty_file"
    UNREADABLE = "unreadable"
    TOO_LARGE = "too_large"
    OUTSIDE_LINK = "outside_link"
    NO_UID = "no_uid"
    NO_POSITION = "no_position"
    NO_ORIENTATION = "no_orientation"
    NO_PIXEL_SPACING = "no_pixel_spacing"
    NO_RESCALE = "no_rescale"
    TRUNCATED_PIXELS = "truncated_pixels"
    UNDECODABLE = "undecodable"
    MIXED_GEOMETRY = "mixed_geometry"
    MIXED_PATIENTS = "mixed_patients"
    MIXED_SWEEPS = "mixed_sweeps"
    SAME_POSITION = "same_position"
    NOT_AXIAL = "not_axial"
    NO_HEAD = "no_head"
    KILLED_WORKER = "killed_worker"

    # No DICOM results: the volume was scored, but its UIDs cannot be referenced (PS3.5 9.1).
    INVALID_UID = "invalid_uid"

    # Doubt: inspect and convert warn, and the volume is scored under the lenient policy alone.
    IMPLAUSIBLE_HU = "implausible_hu"

    # Warnings: the volume is used, and the issue is reported with it.
    IRREGULAR_SPACING = "irregular_spacing"
    HU_CLIPPED = "hu_clipped"
    WRAP_MENDED = "wrap_mended"
    PADDING_IGNORED = "padding_ignored"
    UNSPECIFIED_UNIT = "unspecified_unit"
    ENCODING_MENDED = "encoding_mended"
    SHIFTED_SLICE = "shifted_slice"
    INCOMPLETE = "incomplete"
    SINGLE_SLICE = "single_slice"
    SEVERAL_VOLUMES = "several_volumes"
    INTERLEAVED = "interleaved"
    REPEATED_SOP_UID = "repeated_sop_uid"
    NO_SERIES_UID = "no_series_uid"
    UID_PER_SLICE = "uid_per_slice"
    DERIVED = "derived"
    CONTRAST = "contrast"
    INEXACT_ORIENTATION = "inexact_orientation"
    ROUNDED_POSITIONS = "rounded_positions"


def join(codes: Iterable[IssueCode]) -> str:
    """The value of a `codes` column: unique codes in alphabetical order, separated by `|`.

    >>> join([IssueCode.INCOMPLETE, IssueCode.HU_CLIPPED, IssueCode.INCOMPLETE])
    'hu_clipped|incomplete'
    """
    return "|".join(sorted({code.value for code in codes}))
