"""Sentences on a scored series: its issues, and how it differs from the training set."""

from typing import Final

from ich3d.core.issues import IssueCode
from ich3d.inference.scoring import SeriesPrediction
from ich3d.model.folder import Model

ISSUE_TEXT: Final = {
    IssueCode.IRREGULAR_SPACING: "The slices are unevenly spaced, or slices are missing.",
    IssueCode.HU_CLIPPED: "Hounsfield units beyond 16 bits were clipped.",
    IssueCode.ENCODING_MENDED: "The files break a rule of their encoding; their pixels are exact.",
    IssueCode.WRAP_MENDED: "Signed values that were stored as unsigned were corrected.",
    IssueCode.IMPLAUSIBLE_HU: "Its values do not look like Hounsfield units: trust no score.",
    IssueCode.UNSPECIFIED_UNIT: "Its files leave the unit of values open; they were read as HU.",
    IssueCode.PADDING_IGNORED: "Its files declare values of a body as padding: that was ignored.",
    IssueCode.NOT_HU: "Frames of its files that hold no Hounsfield units were left out.",
    IssueCode.SHIFTED_SLICE: "Some slices are shifted within their plane against the slices below.",
    IssueCode.DUPLICATE: "Copies of some of its slices were left out.",
    IssueCode.SAME_POSITION: "A second slice at the position of one of its slices was left out.",
    IssueCode.INCOMPLETE: "Some of its files could not be used and were left out.",
    IssueCode.SINGLE_SLICE: "It has a single slice, so the model had no neighbours to read.",
    IssueCode.SEVERAL_VOLUMES: "Its SeriesInstanceUID holds several volumes; this is one of them.",
    IssueCode.INTERLEAVED: "A header attribute of some slices differs: it may be two in one.",
    IssueCode.REPEATED_SOP_UID: "A SOPInstanceUID occurs in more than one file.",
    IssueCode.NO_SERIES_UID: "It has no SeriesInstanceUID.",
    IssueCode.UID_PER_SLICE: "Each of its slices has a SeriesInstanceUID of its own.",
    IssueCode.DERIVED: "It holds projections or reformats, not the slices of a scan.",
    IssueCode.CONTRAST: "Contrast agent was given: enhanced vessels may look like blood.",
    IssueCode.INEXACT_ORIENTATION: "Its orientation is rounded, or differs a little by slice.",
    IssueCode.ROUNDED_POSITIONS: "Its positions are rounded; equal steps were taken.",
}
"""What each warning means. Another issue is shown by its code."""

UNTOLD: Final = frozenset({"rows", "columns"})
"""Slices are resampled by the size of their pixels, so the number of pixels makes no difference."""

_ACQUISITION_TEXT: Final = {
    "n_slices": "The number of slices",
    "spacing_mm": "The distance between slices in mm",
    "largest_gap_mm": "The largest gap between slices in mm",
    "tilt_deg": "The gantry tilt in degrees",
    "pixel_mm": "The size of a pixel in mm",
}


def quality_notes(model: Model, prediction: SeriesPrediction) -> list[str]:
    """One sentence for each issue, and one for each value outside the range of the training set.

    Small differences are in no note (`inference.scoring.RANGE_MARGIN`), nor is what is `UNTOLD`.
    """
    codes = sorted({issue.code for issue in prediction.series.issues})
    issues = [ISSUE_TEXT.get(code, f"It has the issue {code}.") for code in codes]
    out_of_range = [
        _range_note(model, prediction, name)
        for name in prediction.out_of_range
        if name not in UNTOLD
    ]
    return [*issues, *out_of_range]


def _range_note(model: Model, prediction: SeriesPrediction, name: str) -> str:
    low, _, high = model.fingerprint["ranges"][name]
    trained = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
    value = getattr(prediction.series.acquisition, name)
    return f"{_ACQUISITION_TEXT[name]} is {value:.4g}; the model was trained on {trained}."
