"""Figures of an ablation: the loss of each row, its difference to another row, and AUC by label."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ich3d.core.bootstrap import Interval
from ich3d.core.labels import LABELS
from ich3d.core.text import pluralize
from ich3d.evaluation.claims import Verdict
from ich3d.evaluation.table import FEW_PATIENTS, ResultRow
from ich3d.report.drawing import FAINT, INK, WIDTH_IN, EmbeddedImage, as_svg, style_axes

# Colours that colour-blind readers can tell apart (Okabe and Ito 2008); the table says it in words.
BETTER_COLOR, WORSE_COLOR, UNDECIDED_COLOR = "#0072B2", "#D55E00", "#767676"
VERDICT_COLOR = {Verdict.GAIN: BETTER_COLOR, Verdict.WORSE: WORSE_COLOR}


def forest_plot(rows: Sequence[ResultRow]) -> EmbeddedImage:
    """Weighted log loss of every row, and beside it the paired difference, with 95 % intervals."""
    figure = Figure(figsize=(WIDTH_IN * 1.3, 1.0 + 0.27 * len(rows)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1, 1])
    for y, row in enumerate(rows):
        _draw_interval(left, y, row.weighted_log_loss, INK)
        if row.difference is not None:
            color = UNDECIDED_COLOR if row.verdict is None else VERDICT_COLOR.get(row.verdict)
            _draw_interval(right, y, row.difference, color or UNDECIDED_COLOR)

    left.set_yticks(range(len(rows)), [row.name for row in rows])
    left.invert_yaxis()
    left.set_xlabel("weighted log loss (lower is better)")
    right.axvline(0, color=INK, lw=0.8)
    right.set_xlabel("paired difference (left of zero is better)")
    for axes in (left, right):
        axes.grid(axis="x", color="#dddddd")
        style_axes(axes)

    values = "; ".join(f"{row.name} {row.weighted_log_loss}" for row in rows)
    return as_svg(figure, f"Weighted log loss of each row with its 95 % interval: {values}.")


def auc_by_label(rows: Sequence[ResultRow], positive: dict[str, int]) -> EmbeddedImage:
    """AUC of every row, a panel for each label.

    `positive` counts the patients with each label; labels of few patients are grey and without
    intervals.
    """
    figure = Figure(figsize=(WIDTH_IN * 1.5, 1.2 + 0.2 * len(rows)), layout="constrained")
    panels = figure.subplots(1, len(LABELS), sharey=True)
    for axes, label in zip(panels, LABELS, strict=True):
        _draw_auc(axes, rows, label, positive[label])

    panels[0].set_yticks(range(len(rows)), [row.name for row in rows])
    panels[0].invert_yaxis()
    panels[0].tick_params(labelsize=7)
    return as_svg(
        figure,
        "Area under the ROC curve of each row, a panel for each label; the table has the numbers.",
    )


def _draw_auc(axes: Axes, rows: Sequence[ResultRow], label: str, patients: int) -> None:
    """One panel of `auc_by_label`."""
    has_few = patients < FEW_PATIENTS
    for y, row in enumerate(rows):
        auc = row.auc[label]
        axes.plot(auc.value, y, "o", color=FAINT if has_few else BETTER_COLOR, ms=4)
        if not has_few:
            axes.plot([auc.low, auc.high], [y, y], color=BETTER_COLOR, lw=1.4)

    axes.axvline(0.5, color="#bbbbbb", lw=0.8)  # a score that knows nothing
    title_color = FAINT if has_few else INK
    axes.set_title(f"{label}\n{pluralize(patients, 'patient')}", fontsize=8, color=title_color)
    axes.set_xlabel("AUC")
    axes.grid(axis="x", color="#eeeeee")
    style_axes(axes)


def _draw_interval(axes: Axes, y: int, interval: Interval, color: str) -> None:
    axes.plot([interval.low, interval.high], [y, y], color=color, lw=1.8)
    axes.plot(interval.value, y, "o", color=color, ms=5)
