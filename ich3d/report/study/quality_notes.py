"""What was odd about a scored series, and what of it the training set did not hold, in words."""

from typing import Final

from ich3d.core.issues import IssueCode
from ich3d.inference.scoring import SeriesPrediction
from ich3d.model.folder import Model

CODE_SAYS: Final = {
    IssueCode.IRREGULAR_SPACING: "The steps between its slices are uneven, or slices are missing.",
    IssueCode.HU_CLIPPED: "HU beyond 16 bits were clipped.",
    IssueCode.WRAP_MENDED: "Signed 12-bit values that were held as unsigned were unwrapped.",
    IssueCode.SHIFTED_SLICE: "Some slices are shifted in their plane against the ones below.",
    IssueCode.DUPLICATE: "Copies of some of its slices were left out.",
    IssueCode.SAME_POSITION: "Another slice at the position of one of its slices was left out.",
    IssueCode.INCOMPLETE: "Some of its files could not be used and were left out.",
    IssueCode.SINGLE_SLICE: "It has one slice, so that nothing around it was read.",
    IssueCode.SEVERAL_VOLUMES: "Its SeriesInstanceUID holds several volumes; this is one of them.",
    IssueCode.INTERLEAVED: "A header field changes to and fro along its slices: it may be two series in one.",
    IssueCode.REPEATED_SOP_UID: "A SOPInstanceUID occurs in more than one file.",
    IssueCode.NO_SERIES_UID: "It has no SeriesInstanceUID.",
}
"""What each warning means; another code stands for itself."""

_FACT_SAYS: Final = {
    "n_slices": "The number of slices",
    "spacing_mm": "The step between slices in mm",
    "largest_gap_mm": "The largest gap between slices in mm",
    "tilt_deg": "The tilt in degrees",
    "rows": "The number of rows of a slice",
    "columns": "The number of columns of a slice",
    "pixel_mm": "The size of a pixel in mm",
}


def quality_notes(model: Model, item: SeriesPrediction) -> list[str]:
    """One sentence a code, and one a fact that lies outside what the model was trained on."""
    codes = [
        CODE_SAYS.get(IssueCode(code), f"It has the code {code}.")
        for code in item.stored.codes.split("|")
        if code
    ]
    return [*codes, *(_out_of_range(model, item, name) for name in item.out_of_range)]


def _out_of_range(model: Model, item: SeriesPrediction, name: str) -> str:
    low, _, high = model.fingerprint["ranges"][name]
    trained = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
    return (
        f"{_FACT_SAYS[name]} is {item.stored.facts[name]:.4g}; the model was trained on {trained}."
    )
