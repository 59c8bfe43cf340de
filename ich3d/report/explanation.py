"""One slice's explanation as a table, a picture and a sentence."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ich3d.core.windows import window
from ich3d.core.workspace import replacing, write_csv
from ich3d.explain.explanation import SLICE, Explanation
from ich3d.report.figures import COLOR, FAINT
from ich3d.stack.booster import AVERAGE, START

COLUMNS = ["stage", "offset_mm", "slice_index", "what", "contribution"]
MOST_COVER = 0.6  # opacity of the heat where it is strongest
MOST_PARTS = 4  # that one sentence tells
_READS = {
    START: "the context score that it corrects",
    AVERAGE: "what it adds to any slice",
    "own": "the slice's own scores",
    "neighbour": "its neighbours' scores",
    "near": "the slices near it together",
    "series": "the whole series",
    "place": "the slice's place in the head",
}


def write_explanation(found: Explanation, out: Path) -> tuple[Path, Path]:
    """Write `explanation.csv` and `explanation.png` to the folder `out`; their paths."""
    csv, png = out / "explanation.csv", out / "explanation.png"
    write_csv(csv, as_table(found))
    figure = draw(found)
    with replacing(png) as partial:
        figure.savefig(partial, format="png", dpi=150, facecolor="white")
    return csv, png


def as_table(found: Explanation) -> pd.DataFrame:
    """Both stages' parts (`COLUMNS`), offsets in mm, contributions in logits; a stage's rows add up to its
    logit, the stacker's before its calibration."""
    table = pd.concat([found.context.assign(stage="context"), found.stacker.assign(stage="stack")])
    return table[COLUMNS].round({"offset_mm": 4, "contribution": 7})


def sentence(found: Explanation) -> str:
    """What moved the label, in plain English."""
    number = (
        f"Slice {found.slice_index} ({found.sop_uid}) scores {found.prob:.3f} for {found.label}"
    )
    return f"{number}: {moved(found)}."


def moved(found: Explanation) -> str:
    """What moved the label, as a clause that follows what its score is."""
    if not found.kept:
        stacker = "no fold kept a stacker for this label, so the context score stands"
    else:
        stacker = f"the stacker, {_share(found)}, drew {_drawn(found.stacker)}"
    return f"the context model drew {_drawn(found.context)}; {stacker}"


def leaned_on(found: Explanation) -> str:
    """The strongest parts of the stacker's logit; empty where no fold kept a stacker."""
    if not found.kept:
        return ""
    parts = (
        found.stacker.groupby("what")["contribution"].sum().sort_values(key=abs, ascending=False)
    )
    words = [
        f"{_READS[str(what)]} ({part:+.2f})" for what, part in parts.items() if abs(part) >= 0.005
    ]
    return f"the stacker leaned on {', '.join(words[:MOST_PARTS])}"


def _drawn(table: pd.DataFrame) -> str:
    """What the slice and its neighbours moved the logit by, and which of these did most, if any did."""
    around = _neighbours(table)
    own = table.loc[table["offset_mm"] == 0, "contribution"].sum()
    words = f"{own:+z.2f} from the slice itself and {around['contribution'].sum():+z.2f} from its neighbours"
    most = around.sort_values("contribution", key=abs)[["offset_mm", "contribution"]].tail(1)
    for offset, part in most.round(2).to_numpy():
        if part:
            words += f", most from {abs(offset):.1f} mm {'above' if offset > 0 else 'below'} ({part:+.2f})"
    return words


def _share(found: Explanation) -> str:
    return f"kept in {len(found.kept)} of {len(found.folds)} folds"


def _neighbours(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["offset_mm"].notna() & (table["offset_mm"] != 0)]


def draw(found: Explanation) -> Figure:
    """The slice in the brain window, the same under its heat, and what each neighbour moved."""
    with mpl.rc_context(
        {"font.size": 8, "axes.titlesize": 8, "axes.spines.top": False, "axes.spines.right": False}
    ):
        figure = Figure(figsize=(12, 4.2), layout="constrained")
        axes = figure.subplot_mosaic(
            [["slice", "heat", "context"], ["slice", "heat", "stack"]], width_ratios=[1, 1, 1.8]
        )
        grey = window("brain").apply(found.hu)
        _picture(
            axes["slice"],
            grey,
            f"slice {found.slice_index} of 0 to {found.n_slices - 1}, from below, brain",
        )
        sign = "signs" if found.heat.any() else "no sign"
        _picture(axes["heat"], grey, f"{sign} of {found.label} ({found.prob:.3f}) to the encoder")
        axes["heat"].imshow(
            found.heat, cmap="inferno", vmin=0, vmax=1, alpha=MOST_COVER * found.heat
        )
        _moves(axes["context"], found.context, COLOR["context"], "context")
        _moves(axes["stack"], found.stacker, COLOR["stack"], f"stacker, {_share(found)}")
        axes["stack"].set_xlabel("offset of the neighbour in mm, positive toward superior")
    return figure


def _picture(axes: Axes, grey: np.ndarray, title: str) -> None:
    axes.imshow(grey, cmap="gray", vmin=0, vmax=1)
    axes.set_title(title, loc="left")
    axes.set_axis_off()


def _moves(axes: Axes, table: pd.DataFrame, color: str, name: str) -> None:
    """A stem a neighbour, by its offset; what is no neighbour's stands in the title."""
    around = _neighbours(table)
    axes.axhline(0, color=FAINT, lw=0.8)
    axes.vlines(around["offset_mm"], 0, around["contribution"], color=color, lw=1.5)
    axes.plot(around["offset_mm"], around["contribution"], "o", color=color, ms=4)
    rest = (
        table.drop(index=around.index).set_index("what")["contribution"].rename({SLICE: "itself"})
    )
    parts = ", ".join(f"{what} {part:+z.2f}" for what, part in rest.items())
    axes.set_title(f"{name}\n{parts}", loc="left")
    axes.set_ylabel("moved the logit by")
