"""The output of `ich3d explain`: the explanation of one slice as table, figure and sentence."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ich3d.core.text import pluralize
from ich3d.core.windows import window
from ich3d.core.workspace import replacing, write_csv
from ich3d.explain.explanation import BASELINE, SLICE, Explanation
from ich3d.report.drawing import FAINT
from ich3d.report.figures import STAGE_COLOR
from ich3d.stack.booster import AVERAGE, START

OUTPUTS = ("explanation.csv", "explanation.png")
COLUMNS = ["stage", "offset_mm", "slice_index", "what", "contribution"]
MAX_HEAT_OPACITY = 0.6
MAX_PARTS = 4  # in the clause on the stacker
SMALLEST_PART = 0.005  # in logits; a smaller contribution would be printed as 0.00
# What the parts of the stacker's logit are called in sentences and figures.
_PART_NAMES = {
    START: "the weighted mean of encoder, context model and Hounsfield units",
    AVERAGE: "the same for every slice",
    "own": "the slice's own scores",
    "neighbour": "its neighbours' scores",
    "near": "the slices near it together",
    "series": "the whole series",
    "place": "the slice's position in the head",
    "hu": "what Hounsfield units say of it",
}


_WEIGHTED = "but the weighted mean of encoder, context model and Hounsfield units"


def write_explanation(explanation: Explanation, out: Path) -> tuple[Path, Path]:
    """Write `explanation.csv` and `explanation.png` to the folder `out`; returns both paths."""
    csv, png = out / "explanation.csv", out / "explanation.png"
    write_csv(csv, explanation_table(explanation))
    figure = explanation_figure(explanation)
    with replacing(png) as partial:
        figure.savefig(partial, format="png", dpi=150, facecolor="white")
    return csv, png


def explanation_table(explanation: Explanation) -> pd.DataFrame:
    """The contributions to both stages' logits: columns `COLUMNS`, offsets in mm.

    The rows of a stage add up to its logit; those of the stacker to its logit before calibration.
    """
    context = explanation.context.assign(stage="context")
    stacker = explanation.stacker.assign(stage="stack")
    return pd.concat([context, stacker])[COLUMNS].round({"offset_mm": 4, "contribution": 7})


def summary_sentence(explanation: Explanation) -> str:
    """The score of the slice and the contributions to it, in one sentence."""
    return (
        f"Slice {explanation.slice_index} ({explanation.sop_uid}) scores {explanation.prob:.3f} "
        f"for {explanation.label}: {contributions_clause(explanation)}."
    )


def contributions_clause(explanation: Explanation) -> str:
    """What the slice and its neighbours contribute in both stages, in log-odds."""
    if not explanation.shows_brain:
        return "it shows no brain, so every stage gives it next to nothing"
    context = f"the context model counts {_slice_and_neighbours(explanation.context)}"
    if not explanation.kept:
        return f"{context}; for this label the stacker has no trees, {_WEIGHTED}"
    stacker = _slice_and_neighbours(explanation.stacker)
    return f"{context}; the stacker's trees, {_kept_folds(explanation)}, count {stacker}"


def stacker_clause(explanation: Explanation) -> str:
    """The largest contributions to the stacker's logit; empty where no fold kept trees."""
    if not explanation.kept:
        return ""
    sums = explanation.stacker.groupby("what")["contribution"].sum()
    sums = sums.sort_values(key=abs, ascending=False)
    parts = [
        f"{_PART_NAMES[str(what)]} ({contribution:+.2f})"
        for what, contribution in sums.items()
        if abs(contribution) >= SMALLEST_PART
    ]
    return f"what counts most in the stacker: {', '.join(parts[:MAX_PARTS])}"


def _slice_and_neighbours(table: pd.DataFrame) -> str:
    """The contributions of the slice itself and of its neighbours, and the largest neighbour's."""
    neighbours = _neighbours(table)
    itself = table.loc[table["offset_mm"] == 0, "contribution"].sum()
    total = neighbours["contribution"].sum()
    text = f"{itself:+z.2f} for the slice itself and {total:+z.2f} for its neighbours"

    largest = neighbours.sort_values("contribution", key=abs)[["offset_mm", "contribution"]].tail(1)
    for offset_mm, contribution in largest.round(2).to_numpy():
        if contribution:
            side = "above" if offset_mm > 0 else "below"
            text += f", most for the one {abs(offset_mm):.1f} mm {side} ({contribution:+.2f})"
    return text


def _kept_folds(explanation: Explanation) -> str:
    return f"used in {len(explanation.kept)} of {pluralize(len(explanation.folds), 'fold')}"


def _neighbours(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of other slices than the explained one."""
    return table[table["offset_mm"].notna() & (table["offset_mm"] != 0)]


def explanation_figure(explanation: Explanation) -> Figure:
    """The slice in the brain window, the same with its heat map, and all contributions."""
    with mpl.rc_context(
        {"font.size": 8, "axes.titlesize": 8, "axes.spines.top": False, "axes.spines.right": False}
    ):
        figure = Figure(figsize=(12, 4.2), layout="constrained")
        axes = figure.subplot_mosaic(
            [["slice", "heat", "context"], ["slice", "heat", "stack"]], width_ratios=[1, 1, 1.8]
        )
        _draw_images(axes["slice"], axes["heat"], explanation)
        stacker = f"stacker; trees {_kept_folds(explanation)}"
        _draw_contributions(axes["context"], explanation.context, "context", "context")
        _draw_contributions(axes["stack"], explanation.stacker, "stack", stacker)
        axes["stack"].set_xlabel("neighbour: mm above (+) or below (-) the slice")
    return figure


def _draw_images(left: Axes, right: Axes, explanation: Explanation) -> None:
    """The slice at the left, and with the heat map of the encoder at the right."""
    grey = window("brain").apply(explanation.hu)  # (H, W)
    last = explanation.n_slices - 1
    _draw_image(left, grey, f"slice {explanation.slice_index} of 0 to {last}, from below, brain")

    signs = "signs" if explanation.heat.any() else "no sign"
    title = f"{signs} of {explanation.label} ({explanation.prob:.3f}) to the encoder"
    _draw_image(right, grey, title)
    opacity = MAX_HEAT_OPACITY * explanation.heat
    right.imshow(explanation.heat, cmap="inferno", vmin=0, vmax=1, alpha=opacity)


def _draw_image(axes: Axes, grey: np.ndarray, title: str) -> None:
    axes.imshow(grey, cmap="gray", vmin=0, vmax=1)
    axes.set_title(title, loc="left")
    axes.set_axis_off()


def _draw_contributions(axes: Axes, table: pd.DataFrame, stage: str, name: str) -> None:
    """A stem for each neighbour at its offset; contributions without an offset are in the title."""
    neighbours, color = _neighbours(table), STAGE_COLOR[stage]
    offsets_mm, contributions = neighbours["offset_mm"], neighbours["contribution"]
    axes.axhline(0, color=FAINT, lw=0.8)
    axes.vlines(offsets_mm, 0, contributions, color=color, lw=1.5)
    axes.plot(offsets_mm, contributions, "o", color=color, ms=4)

    others = table.drop(index=neighbours.index).set_index("what")["contribution"]
    others = others.rename({SLICE: "the slice itself", BASELINE: "average slices", **_PART_NAMES})
    parts = ", ".join(f"{what} {contribution:+z.2f}" for what, contribution in others.items())
    axes.set_title(f"{name}\n{parts}", loc="left")
    axes.set_ylabel("log-odds")
