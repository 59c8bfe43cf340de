"""Figures of the fingerprint of a data set, drawn from the tree of `fingerprint.json`."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ich3d.core.labels import LABELS
from ich3d.report.drawing import INK, WIDTH_IN, EmbeddedImage, as_svg, style_axes

# Colours that colour-blind readers can tell apart (Okabe and Ito 2008).
BAR_COLOR = "#0072B2"
LEVELS: Final = ("slices", "series", "patients")

BRAIN_HU: Final = (-20, 100)
"""The HU of brain, fluid and blood, which the second panel of HU shows."""

NUMBERS: Final = {
    "slices": "slices in a series",
    "slice_distance_mm": "distance between slices, mm",
    "slice_thickness_mm": "SliceThickness, mm",
    "pixel_spacing_mm": "pixel spacing, mm",
    "field_of_view_mm": "field of view, mm",
    "tilt_deg": "gantry tilt, degrees",
    "kvp": "KVP",
    "brain_cm2": "area inside the skull of a slice, cm²",
    "brain_median_hu": "median HU there",
}
"""The numbers of a fingerprint and what they are, in the order in which they are shown."""


def label_bars(labels: Mapping[str, Any]) -> EmbeddedImage:
    """The share of labelled slices, series and patients that have each label, and their number."""
    figure = Figure(figsize=(WIDTH_IN, 2.4), layout="constrained")
    panels = figure.subplots(1, len(LEVELS), sharey=True)
    told = []
    for axes, level in zip(panels, LEVELS, strict=True):
        labelled, counts = labels[level]["labelled"], labels[level]["with_label"]
        shares = [100 * counts[label] / max(1, labelled) for label in LABELS]
        axes.barh(range(len(LABELS)), shares, color=BAR_COLOR, height=0.65)
        for y, (label, share) in enumerate(zip(LABELS, shares, strict=True)):
            axes.annotate(
                f" {counts[label]}", (share, y), va="center", fontsize=8, color=INK
            )  # the number stands behind its bar
        axes.set_xlim(0, 1.25 * max(*shares, 1))
        axes.set_xlabel(f"% of {labelled} labelled {level}")
        style_axes(axes)
        told.append(f"{level} {', '.join(f'{name} {counts[name]}' for name in LABELS)}")
    panels[0].set_yticks(range(len(LABELS)), LABELS)
    panels[0].invert_yaxis()
    return as_svg(figure, f"How many have each label: {'; '.join(told)}.")


def together_maps(labels: Mapping[str, Any]) -> EmbeddedImage:
    """Slices and patients with two labels at once; shaded by the share of the row's label."""
    figure = Figure(figsize=(WIDTH_IN, 3.1), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, level in zip(panels, ("slices", "patients"), strict=True):
        pairs = labels[level]["together"]
        counts = np.array([[pairs[row][column] for column in LABELS] for row in LABELS])
        shares = counts / np.diag(counts).clip(min=1)[:, None]
        _draw_map(axes, shares, [[str(count) for count in row] for row in counts.tolist()])
        axes.set_xticks(range(len(LABELS)), LABELS, rotation=40, ha="right")
        axes.set_yticks(range(len(LABELS)), LABELS)
        axes.set_title(f"{level} with both labels", loc="left", fontsize=9, color=INK)
    return as_svg(
        figure, "How many slices, and how many patients, have two labels at once; the table of "
        "numbers is in fingerprint.json.",
    )  # fmt: skip


def fold_maps(folds: Sequence[Mapping[str, Any]]) -> EmbeddedImage:
    """The share of each label's patients and slices that lies in each fold."""
    figure = Figure(figsize=(WIDTH_IN, 1.2 + 0.28 * len(folds)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    told = []
    for axes, level in zip(panels, ("patients", "slices"), strict=True):
        counts = np.array([[fold["labels"][level][label] for label in LABELS] for fold in folds])
        shares = counts / counts.sum(axis=0).clip(min=1)
        texts = [[f"{100 * share:.0f}" for share in row] for row in shares.tolist()]
        _draw_map(axes, shares, texts)
        axes.set_xticks(range(len(LABELS)), LABELS, rotation=40, ha="right")
        axes.set_yticks(range(len(folds)), [f"fold {fold['fold']}" for fold in folds])
        axes.set_title(f"% of each label's {level}", loc="left", fontsize=9, color=INK)
        told.append(f"{level} {100 * shares.min():.0f} to {100 * shares.max():.0f} %")
    return as_svg(figure, f"Share of each label in each fold: {'; '.join(told)}.")


def number_histograms(numbers: Mapping[str, Any]) -> EmbeddedImage | None:
    """A histogram of each number that is known of a series or slice; None where none is."""
    known = [name for name in NUMBERS if numbers[name]["known"]]
    if not known:
        return None
    columns = 3
    rows = -(-len(known) // columns)
    figure = Figure(figsize=(WIDTH_IN, 1.5 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, name in zip(panels, known, strict=False):
        histogram = numbers[name]["histogram"]
        axes.stairs(histogram["counts"], histogram["edges"], fill=True, color=BAR_COLOR)
        axes.set_xlabel(NUMBERS[name])
        axes.yaxis.get_major_locator().set_params(integer=True, nbins=3)
        style_axes(axes)
    for axes in panels[len(known) :]:
        axes.set_visible(False)
    medians = (f"{NUMBERS[name]} {numbers[name]['quantiles']['50%']:g}" for name in known)
    return as_svg(figure, f"Histograms; the medians are: {', '.join(medians)}.")


def hu_histograms(hu: Mapping[str, Any]) -> EmbeddedImage:
    """How often each HU occurs in the prepared series: all of them, and those of brain."""
    edges, counts = np.array(hu["histogram"]["edges"]), np.array(hu["histogram"]["counts"])
    figure = Figure(figsize=(WIDTH_IN, 2.2), layout="constrained")
    everything, brain = figure.subplots(1, 2)
    everything.stairs(counts, edges, fill=True, color=BAR_COLOR)
    everything.set_yscale("log")
    everything.set_xlabel("HU (log scale of pixels)")
    low, high = BRAIN_HU
    is_shown = (edges[:-1] >= low) & (edges[:-1] < high)
    shown = edges[np.append(is_shown, False) | np.append(False, is_shown)]
    brain.stairs(counts[is_shown], shown, fill=True, color=BAR_COLOR)
    brain.set_yticks([])
    brain.set_xlabel("HU of fluid, brain and blood")
    for axes in (everything, brain):
        style_axes(axes)
    most = edges[:-1][is_shown][counts[is_shown].argmax()]
    return as_svg(figure, f"Histogram of HU; from {low} to {high} HU most pixels are near {most}.")


def _draw_map(axes: Axes, shares: np.ndarray, texts: Sequence[Sequence[str]]) -> None:
    """Shares 0..1 (R, C) as shades of blue, with a text in each cell."""
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, cells in enumerate(texts):
        for column, text in enumerate(cells):
            color = "white" if shares[row, column] > 0.6 else INK
            axes.annotate(text, (column, row), ha="center", va="center", fontsize=8, color=color)
    axes.spines[:].set_visible(False)
    axes.tick_params(labelsize=8, length=0)
