"""Figures of a run's page, as images inside the HTML."""

from io import BytesIO
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from ich3d.core.labels import LABELS, STAGES
from ich3d.evaluation.table import ResultRow
from ich3d.report.drawing import (
    FAINT,
    INK,
    WIDTH_IN,
    EmbeddedImage,
    as_svg,
    data_uri,
    style_axes,
)
from ich3d.report.run.example_series import ExampleSeries

THUMBNAIL_PX = 192
TRUTH_COLOR = "#FAF5B8"
# Colours that colour-blind readers can tell apart (Okabe and Ito 2008). The line styles differ too.
STAGE_COLOR = dict(zip(STAGES, ("#D55E00", "#0072B2", "#000000"), strict=True))
STAGE_STYLE = dict(zip(STAGES, (":", "--", "-"), strict=True))


def grey_png(grey: np.ndarray, alt: str) -> EmbeddedImage:
    """Grey values 0..1 (H, W) as a PNG of at most `THUMBNAIL_PX` pixels on each side."""
    image = Image.fromarray(np.round(grey * 255).astype(np.uint8))
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    png = BytesIO()
    image.save(png, format="PNG", optimize=True)
    return EmbeddedImage(data_uri("image/png", png), alt)


def forest_plot(rows: list[ResultRow]) -> EmbeddedImage:
    """Weighted log loss of every row: a dot, its 95 % interval, and both as numbers."""
    names = [row.name for row in rows]
    losses = [row.weighted_log_loss for row in rows]
    figure = Figure(figsize=(WIDTH_IN, 0.9 + 0.38 * len(rows)), layout="constrained")
    axes = figure.add_subplot()

    for y, (name, loss) in enumerate(zip(names, losses, strict=True)):
        color = STAGE_COLOR.get(name, FAINT)
        axes.plot([loss.low, loss.high], [y, y], color=color, lw=2)
        axes.plot(loss.value, y, "o", color=color, ms=7)
        axes.annotate(
            str(loss),
            (1.02, y),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=9,
            color=INK,
        )

    axes.set_yticks(range(len(rows)), names)
    axes.margins(y=0.12)
    axes.invert_yaxis()
    axes.set_xlabel("weighted log loss (lower is better)")
    axes.grid(axis="x", color="#dddddd")
    style_axes(axes)
    values = "; ".join(f"{name} {loss}" for name, loss in zip(names, losses, strict=True))
    return as_svg(figure, f"Weighted log loss of each row with its 95 % interval: {values}.")


def probability_curves(series: ExampleSeries) -> EmbeddedImage:
    """Probability along the head, a panel for each shown label; positive slices are shaded."""
    labels = series.shown_labels
    figure = Figure(figsize=(WIDTH_IN, 0.7 + 1.2 * len(labels)), layout="constrained")
    panels = figure.subplots(len(labels), sharex=True, squeeze=False)[:, 0]
    for axes, label in zip(panels, labels, strict=True):
        _draw_probabilities(axes, series, label)

    # Below the last panel, the numbers of the slices that are shown as images.
    for number, index in enumerate(series.shown_slices, start=1):
        panels[-1].annotate(
            str(number),
            (series.z_mm[index], 0),
            (0, -4),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=7,
            color=FAINT,
        )
    panels[-1].tick_params(axis="x", pad=14, length=0)
    panels[-1].set_xlabel(
        "z in mm, inferior to superior; the small numbers are those of the slices above"
    )
    return as_svg(
        figure,
        "Probability along z by encoder, context and stack, with the truly positive slices "
        f"shaded: {', '.join(labels)}.",
    )


def _draw_probabilities(axes: Axes, series: ExampleSeries, label: str) -> None:
    """One panel of `probability_curves`; the stages are named at the right end of their curves."""
    k = LABELS.index(label)
    for low, high in series.true_spans_mm(label):
        axes.axvspan(low, high, color=TRUTH_COLOR, lw=0.5)

    # The dotted line is drawn last, so that the other lines do not cover it where scores are equal.
    for stage in reversed(STAGES):
        prob = series.prob[stage][:, k]
        axes.plot(series.z_mm, prob, STAGE_STYLE[stage], color=STAGE_COLOR[stage], lw=1.8)

    ends = [float(series.prob[stage][-1, k]) for stage in STAGES]
    for stage, height in zip(STAGES, _separate(ends, gap=0.17), strict=True):
        axes.annotate(
            stage,
            (1.01, height),
            xycoords="axes fraction",
            va="center",
            fontsize=8,
            color=STAGE_COLOR[stage],
        )

    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.5, 1])
    axes.set_title(label, loc="left", fontsize=9, color=INK)
    style_axes(axes)


def learning_curves(stage: str, histories: dict[int, list[dict[str, float]]]) -> EmbeddedImage:
    """Training and validation loss by epoch of one stage, a panel for each fold.

    `histories[fold]` has a record for each epoch; a dot marks the epoch whose weights were kept.
    """
    figure = Figure(figsize=(WIDTH_IN, 2.0), layout="constrained")
    panels = figure.subplots(1, len(histories), sharey=True, squeeze=False)[0]
    kept = [
        f"fold {fold} {_draw_losses(axes, fold, history)}"
        for axes, (fold, history) in zip(panels, histories.items(), strict=True)
    ]
    panels[0].set_ylabel(f"{stage} loss")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper right", ncols=2, frameon=False, fontsize=8)
    return as_svg(
        figure,
        f"Losses of the {stage} by epoch; validation loss of the epoch that was kept: "
        f"{', '.join(kept)}.",
    )


def _draw_losses(axes: Axes, fold: int, history: list[dict[str, float]]) -> str:
    """One panel of `learning_curves`; returns which epoch was kept, in words."""
    epochs = [record["epoch"] + 1 for record in history]
    training = [record["loss"] for record in history]
    validation = [record["inner_loss"] for record in history]
    kept = [record["is_kept"] for record in history].index(True)

    color = STAGE_COLOR["context"]
    axes.plot(epochs, training, "--", color=FAINT, lw=1.4, label="training")
    axes.plot(epochs, validation, color=color, lw=1.6, label="validation patients")
    axes.plot(epochs[kept], validation[kept], "o", color=color, ms=5)
    axes.set_title(f"fold {fold}", loc="left", fontsize=9, color=INK)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    style_axes(axes)
    return f"{validation[kept]:.4f} in epoch {epochs[kept]:.0f}"


def _separate(heights: list[float], gap: float) -> list[float]:
    """Move heights (0..1) up until they are `gap` apart, in the same order; none ends above 1."""
    moved = list(heights)
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    for lower, upper in pairwise(order):
        moved[upper] = max(moved[upper], moved[lower] + gap)
    excess = max(0.0, max(moved) - 1)
    return [height - excess for height in moved]
