"""Probability along the head, as coordinates for SVG.

The page draws the curves itself, so that they follow its colours and its current slice. Coordinates
are percentages of a panel's width, from inferior at the left, and of its height, from the top.
"""

from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import MaxNLocator

from ich3d.core.labels import ANY, FLAG_AT, STAGES, SUBTYPES, label_index
from ich3d.inference.scoring import SeriesPrediction
from ich3d.report.run.example_series import slabs_mm

SHOWN_ORDER = (ANY, *SUBTYPES)


@dataclass(frozen=True)
class Panel:
    """The curves of one label: the `points` of each stage's line, and `alt`, the same in words."""

    label: str
    points: dict[str, str]
    alt: str


@dataclass(frozen=True)
class ProbabilityPlot:
    """The panels of one series in `SHOWN_ORDER`, and what they share.

    Attributes:
        panels: the curves of each label.
        x: position of each slice (Z,).
        flagged: bands (start, width) of the flagged slices.
        ticks: (position, z in mm) of the labels of the axis.
        threshold_y: height of the probability at which a slice is flagged.
    """

    panels: list[Panel]
    x: list[float]
    flagged: list[tuple[float, float]]
    ticks: list[tuple[float, str]]
    threshold_y: float


def make_probability_plot(prediction: SeriesPrediction) -> ProbabilityPlot:
    """The plot of one scored series."""
    z_mm = prediction.series.z_mm
    slabs = slabs_mm(z_mm)  # (Z, 2)
    low, high = slabs[0, 0], slabs[-1, 1]
    x, bands = _percent(z_mm, low, high), _percent(slabs, low, high)

    is_flagged = prediction.prob["stack"][:, label_index(ANY)] >= FLAG_AT
    ticks_mm = np.array(MaxNLocator(6).tick_values(low, high))
    ticks_mm = ticks_mm[(ticks_mm >= low) & (ticks_mm <= high)]
    tick_positions = _percent(ticks_mm, low, high).tolist()
    return ProbabilityPlot(
        panels=[_panel(prediction, label, x) for label in SHOWN_ORDER],
        x=[round(float(position), 2) for position in x],
        flagged=[
            (round(start, 2), round(end - start, 2)) for start, end in bands[is_flagged].tolist()
        ],
        ticks=[
            (round(position, 2), f"{tick:g}")
            for position, tick in zip(tick_positions, ticks_mm, strict=True)
        ],
        threshold_y=_height(FLAG_AT),
    )


def _panel(prediction: SeriesPrediction, label: str, x: np.ndarray) -> Panel:
    k = label_index(label)
    points = {stage: _points(x, prediction.prob[stage][:, k]) for stage in STAGES}
    stack = prediction.prob["stack"][:, k]
    highest = int(stack.argmax())
    alt = (
        f"Probability of {label} along z; the highest of the stack is {stack[highest]:.3f}, "
        f"in slice {highest}, z {prediction.series.z_mm[highest]:.1f} mm."
    )
    return Panel(label, points, alt)


def _points(x: np.ndarray, prob: np.ndarray) -> str:
    """Positions (Z,) and probabilities (Z,) as the `points` of an SVG polyline."""
    pairs = zip(x, prob, strict=True)
    return " ".join(f"{position:.2f},{_height(score):.2f}" for position, score in pairs)


def _percent(z_mm: np.ndarray, low: float, high: float) -> np.ndarray:
    """Millimetres as percent of the width, which runs from `low` to `high`."""
    return 100 * (z_mm - low) / (high - low)


def _height(prob: float) -> float:
    """Percent from the top; 0 and 1 lie a little inside the panel, so that no line is cut."""
    return 96 - 92 * float(prob)
