"""Figures as data URIs: drawn without pyplot, so that no backend or window is chosen for anyone."""

from base64 import b64encode
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from ich3d.core.labels import LABELS, STAGES
from ich3d.evaluation.table import ResultRow
from ich3d.report.run.example_series import ExampleSeries

WIDTH_IN = 7.2
THUMBNAIL_PX = 192
INK, FAINT, TRUTH = "#222222", "#767676", "#FAF5B8"
# Colours that the colour-blind tell apart (Okabe and Ito 2008); the line style says it again.
COLOR = dict(zip(STAGES, ("#D55E00", "#0072B2", "#000000"), strict=True))
STYLE = dict(zip(STAGES, (":", "--", "-"), strict=True))


@dataclass(frozen=True)
class Picture:
    """A data URI and the words that stand for it where it is not seen."""

    src: str
    alt: str


def grey_picture(grey: np.ndarray, alt: str) -> Picture:
    """Grey values 0..1 (H, W) as a PNG of at most `THUMBNAIL_PX` a side."""
    image = Image.fromarray(np.round(grey * 255).astype(np.uint8))
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    png = BytesIO()
    image.save(png, format="PNG", optimize=True)
    return Picture(data_uri("image/png", png), alt)


def forest(lines: list[ResultRow]) -> Picture:
    """Weighted log loss of every row: a dot, its 95 % interval, and both in figures."""
    names = [line.name for line in lines]
    losses = [line.weighted_log_loss for line in lines]
    figure = Figure(figsize=(WIDTH_IN, 0.9 + 0.38 * len(lines)), layout="constrained")
    axes = figure.add_subplot()
    for place, (name, loss) in enumerate(zip(names, losses, strict=True)):
        color = COLOR.get(name, FAINT)
        axes.plot([loss.low, loss.high], [place, place], color=color, lw=2)
        axes.plot(loss.value, place, "o", color=color, ms=7)
        axes.annotate(
            str(loss),
            (1.02, place),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=9,
            color=INK,
        )
    axes.set_yticks(range(len(lines)), names)
    axes.margins(y=0.12)
    axes.invert_yaxis()
    axes.set_xlabel("weighted log loss (lower is better)")
    axes.grid(axis="x", color="#dddddd")
    plain(axes)
    said = "; ".join(f"{name} {loss}" for name, loss in zip(names, losses, strict=True))
    return svg(figure, f"Weighted log loss of each row with its 95 % interval: {said}.")


def traces(trace: ExampleSeries) -> Picture:
    """Probability along the head, a panel a label: `any`, then the subtypes that occur; truth shaded."""
    labels = trace.shown_labels
    figure = Figure(figsize=(WIDTH_IN, 0.7 + 1.2 * len(labels)), layout="constrained")
    panels = figure.subplots(len(labels), sharex=True, squeeze=False)[:, 0]
    for axes, label in zip(panels, labels, strict=True):
        _trace_panel(axes, trace, label)
    for number, index in enumerate(trace.strip, start=1):
        panels[-1].annotate(
            str(number), (trace.z_mm[index], 0), (0, -4), textcoords="offset points", ha="center", va="top",
            fontsize=7, color=FAINT,
        )  # fmt: skip
    panels[-1].tick_params(axis="x", pad=14, length=0)
    panels[-1].set_xlabel(
        "z in mm, inferior to superior; small numbers are the slices of the strip"
    )
    words = f"Probability along z by encoder, context and stack, the true slices shaded: {', '.join(labels)}."
    return svg(figure, words)


def _trace_panel(axes: Axes, trace: ExampleSeries, label: str) -> None:
    k = LABELS.index(label)
    for low, high in trace.true_spans_mm(label):
        axes.axvspan(low, high, color=TRUTH, lw=0.5)
    for stage in reversed(STAGES):  # the dotted line last, so that equal scores hide none
        axes.plot(trace.z_mm, trace.prob[stage][:, k], STYLE[stage], color=COLOR[stage], lw=1.8)
    ends = [float(trace.prob[stage][-1, k]) for stage in STAGES]
    for stage, height in zip(STAGES, _spread(ends, gap=0.17), strict=True):
        axes.annotate(
            stage,
            (1.01, height),
            xycoords="axes fraction",
            va="center",
            fontsize=8,
            color=COLOR[stage],
        )
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.5, 1])
    axes.set_title(label, loc="left", fontsize=9, color=INK)
    plain(axes)


def curves(stage: str, histories: dict[int, list[dict[str, float]]]) -> Picture:
    """Training and inner loss by epoch of one stage, a panel a fold; a dot marks the epoch that was kept."""
    figure = Figure(figsize=(WIDTH_IN, 2.0), layout="constrained")
    panels = figure.subplots(1, len(histories), sharey=True, squeeze=False)[0]
    kept = []
    for axes, (fold, history) in zip(panels, histories.items(), strict=True):
        epochs = [row["epoch"] + 1 for row in history]
        inner = [row["inner_loss"] for row in history]
        best = [row["is_kept"] for row in history].index(True)
        kept.append(f"fold {fold} {inner[best]:.4f} in epoch {epochs[best]:.0f}")
        axes.plot(
            epochs, [row["loss"] for row in history], "--", color=FAINT, lw=1.4, label="training"
        )
        axes.plot(epochs, inner, color=COLOR["context"], lw=1.6, label="inner patients")
        axes.plot(epochs[best], inner[best], "o", color=COLOR["context"], ms=5)
        axes.set_title(f"fold {fold}", loc="left", fontsize=9, color=INK)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        plain(axes)
    panels[0].set_ylabel(f"{stage} loss")
    named = panels[0].get_legend_handles_labels()
    figure.legend(*named, loc="outside upper right", ncols=2, frameon=False, fontsize=8)
    return svg(
        figure, f"Losses of the {stage} by epoch; the inner loss that was kept: {', '.join(kept)}."
    )


def _spread(heights: list[float], gap: float) -> list[float]:
    """The heights moved up as little as keeps them `gap` apart, in their own order."""
    placed = list(heights)
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    for lower, upper in pairwise(order):
        placed[upper] = max(placed[upper], placed[lower] + gap)
    over = max(0.0, max(placed) - 1)
    return [height - over for height in placed]


def plain(axes: Axes) -> None:
    """Small figures and no box."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.xaxis.label.set_fontsize(8)
    axes.yaxis.label.set_fontsize(8)


def svg(figure: Figure, alt: str) -> Picture:
    """The figure as SVG, equal bytes for equal input: no date, and ids from a fixed salt."""
    data = BytesIO()
    with mpl.rc_context({"svg.hashsalt": "ich3d"}):
        figure.savefig(data, format="svg", metadata={"Date": None}, facecolor="white")
    return Picture(data_uri("image/svg+xml", data), alt)


def data_uri(kind: str, data: BytesIO) -> str:
    return f"data:{kind};base64,{b64encode(data.getvalue()).decode()}"
