"""Why a file is no slice, why a series is no volume, and what was odd about one that is.

One vocabulary for `inspect`, `Rejected`, `rejected.csv`, `slices.csv` and `failures.csv`.
"""

from enum import StrEnum


class IssueCode(StrEnum):
    """A reason; its value is what is written to files."""

    # Left out: nothing is wrong, it is no part of a CT volume.
    NOT_DICOM = "not_dicom"
    NOT_CT = "not_ct"
    LOCALIZER = "localizer"
    NO_IMAGE = "no_image"
    DUPLICATE = "duplicate"

    # Rejected: it should have been a volume, or a part of one.
    EMPTY_FILE = "empty_file"
    UNREADABLE = "unreadable"
    NO_UID = "no_uid"
    NO_POSITION = "no_position"
    NO_ORIENTATION = "no_orientation"
    NO_PIXEL_SPACING = "no_pixel_spacing"
    NO_RESCALE = "no_rescale"
    TRUNCATED_PIXELS = "truncated_pixels"
    UNDECODABLE = "undecodable"
    MIXED_GEOMETRY = "mixed_geometry"
    MIXED_PATIENTS = "mixed_patients"
    SAME_POSITION = "same_position"
    NOT_AXIAL = "not_axial"
    NO_HEAD = "no_head"

    # No DICOM results: the volume was scored, and its files cannot be referred to.
    INVALID_UID = "invalid_uid"

    # Warnings: the volume stands, and says so.
    IRREGULAR_SPACING = "irregular_spacing"
    HU_CLIPPED = "hu_clipped"
    WRAP_MENDED = "wrap_mended"
    SHIFTED_SLICE = "shifted_slice"
    INCOMPLETE = "incomplete"
    SINGLE_SLICE = "single_slice"
    SEVERAL_VOLUMES = "several_volumes"
    INTERLEAVED = "interleaved"
    REPEATED_SOP_UID = "repeated_sop_uid"
    NO_SERIES_UID = "no_series_uid"


def join(
    codes: "set[IssueCode] | frozenset[IssueCode] | list[IssueCode] | tuple[IssueCode, ...]",
) -> str:
    """Codes sorted and joined with `|`, the form of every `codes` column."""
    return "|".join(sorted({code.value for code in codes}))
