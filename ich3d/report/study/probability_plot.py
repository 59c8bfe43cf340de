"""Probability along the head as lines that a page draws itself, so that they follow its colours and its
reader's steps: a panel a label, in percent of the panel's width and height."""

from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import MaxNLocator

from ich3d.core.labels import ANY, FLAG_AT, LABELS, STAGES, SUBTYPES, label_index
from ich3d.inference.scoring import SeriesPrediction
from ich3d.report.run.example_series import slabs_mm

SHOWN_ORDER = (ANY, *SUBTYPES)


@dataclass(frozen=True)
class Panel:
    """One label: the `points` of each stage's line, and the words for who does not see them."""

    label: str
    points: dict[str, str]
    alt: str


@dataclass(frozen=True)
class ProbabilityPlot:
    """The panels of a series in `SHOWN_ORDER`. `x` (Z,) is where each slice lies, `flagged` are bands (start,
    width), `ticks` (place, z in mm); `flag_y` is the height of the threshold."""

    panels: list[Panel]
    x: list[float]
    flagged: list[tuple[float, float]]
    ticks: list[tuple[float, str]]
    flag_y: float


def make_probability_plot(item: SeriesPrediction) -> ProbabilityPlot:
    """The lines of one scored series, inferior at the left."""
    z_mm = np.array(item.stored.z_mm)
    slabs = slabs_mm(z_mm)
    low, high = slabs[0, 0], slabs[-1, 1]
    x, bands = (100 * (place - low) / (high - low) for place in (z_mm, slabs))
    flagged = item.prob["stack"][:, label_index(ANY)] >= FLAG_AT
    ticks = [tick for tick in MaxNLocator(6).tick_values(low, high) if low <= tick <= high]
    return ProbabilityPlot(
        panels=[_panel(item, label, x) for label in SHOWN_ORDER],
        x=[round(float(place), 2) for place in x],
        flagged=[(round(a, 2), round(b - a, 2)) for a, b in bands[flagged].tolist()],
        ticks=[(round(float(100 * (tick - low) / (high - low)), 2), f"{tick:g}") for tick in ticks],
        flag_y=_y(FLAG_AT),
    )


def _panel(item: SeriesPrediction, label: str, x: np.ndarray) -> Panel:
    k = LABELS.index(label)
    points = {
        stage: " ".join(
            f"{a:.2f},{_y(p):.2f}" for a, p in zip(x, item.prob[stage][:, k], strict=True)
        )
        for stage in STAGES
    }
    stack = item.prob["stack"][:, k]
    top = int(stack.argmax())
    where = f"slice {top}, z {item.stored.z_mm[top]:.1f} mm"
    return Panel(
        label,
        points,
        f"Probability of {label} along z; the stack's highest is {stack[top]:.3f}, in {where}.",
    )


def _y(prob: float) -> float:
    """Height from the top, a little inside the panel, so that lines at 0 and 1 are seen whole."""
    return 96 - 92 * float(prob)
