"""What was odd about a scored series, and what of it the training set did not hold, in words."""

from typing import Final

from ich3d.core.codes import Code
from ich3d.pipeline.model import Model
from ich3d.pipeline.predict import Predicted

CODE_SAYS: Final = {
    Code.IRREGULAR_SPACING: "The steps between its slices are uneven, or slices are missing.",
    Code.HU_CLIPPED: "HU beyond 16 bits were clipped.",
    Code.WRAP_MENDED: "Signed 12-bit values that were held as unsigned were unwrapped.",
    Code.SHIFTED_SLICE: "Some slices are shifted in their plane against the ones below.",
    Code.DUPLICATE: "Copies of some of its slices were left out.",
    Code.SAME_POSITION: "Another slice at the position of one of its slices was left out.",
    Code.INCOMPLETE: "Some of its files could not be used and were left out.",
    Code.SINGLE_SLICE: "It has one slice, so that nothing around it was read.",
    Code.SEVERAL_VOLUMES: "Its SeriesInstanceUID holds several volumes; this is one of them.",
    Code.INTERLEAVED: "A header field changes to and fro along its slices: it may be two series in one.",
    Code.REPEATED_SOP_UID: "A SOPInstanceUID occurs in more than one file.",
    Code.NO_SERIES_UID: "It has no SeriesInstanceUID.",
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


def quality_notes(model: Model, item: Predicted) -> list[str]:
    """One sentence a code, and one a fact that lies outside what the model was trained on."""
    codes = [
        CODE_SAYS.get(Code(code), f"It has the code {code}.") for code in item.stored.codes.split("|") if code
    ]
    return [*codes, *(_out_of_range(model, item, name) for name in item.out_of_range)]


def _out_of_range(model: Model, item: Predicted, name: str) -> str:
    low, _, high = model.fingerprint["ranges"][name]
    trained = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
    return f"{_FACT_SAYS[name]} is {item.stored.facts[name]:.4g}; the model was trained on {trained}."
