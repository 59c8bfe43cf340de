"""The pictures of an ablation: what each row is worth, and how it differs from the row beside it."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ich3d.core.labels import LABELS
from ich3d.evaluation.bootstrap import Interval
from ich3d.evaluation.table import FEW_PATIENTS, ResultRow
from ich3d.report.figures import FAINT, INK, WIDTH_IN, Picture, plain, svg

# Colours that the colour-blind tell apart (Okabe and Ito 2008); the words in the table say it again.
BETTER, WORSE, OPEN = "#0072B2", "#D55E00", "#767676"


def forest(lines: Sequence[ResultRow]) -> Picture:
    """Weighted log loss of every row, and beside it the paired difference, with 95 % intervals."""
    figure = Figure(figsize=(WIDTH_IN * 1.3, 1.0 + 0.27 * len(lines)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1, 1])
    for place, line in enumerate(lines):
        _mark(left, place, line.weighted_log_loss, INK)
        if line.difference is not None:
            _mark(right, place, line.difference, _color(line.difference))
    left.set_yticks(range(len(lines)), [line.name for line in lines])
    left.invert_yaxis()
    left.set_xlabel("weighted log loss (lower is better)")
    right.axvline(0, color=INK, lw=0.8)
    right.set_xlabel("paired difference to its row (left of zero is better)")
    for axes in (left, right):
        axes.grid(axis="x", color="#dddddd")
        plain(axes)
    said = "; ".join(f"{line.name} {line.weighted_log_loss}" for line in lines)
    return svg(figure, f"Weighted log loss of each row with its 95 % interval: {said}.")


def by_label(lines: Sequence[ResultRow], positive: dict[str, int]) -> Picture:
    """AUC of every row, a panel a label; labels that few patients have in grey and without intervals."""
    figure = Figure(figsize=(WIDTH_IN * 1.5, 1.2 + 0.2 * len(lines)), layout="constrained")
    panels = figure.subplots(1, len(LABELS), sharey=True)
    for axes, label in zip(panels, LABELS, strict=True):
        few = positive[label] < FEW_PATIENTS
        for place, line in enumerate(lines):
            found = line.auc[label]
            axes.plot(found.value, place, "o", color=FAINT if few else BETTER, ms=4)
            if not few:
                axes.plot([found.low, found.high], [place, place], color=BETTER, lw=1.4)
        axes.axvline(0.5, color="#bbbbbb", lw=0.8)
        axes.set_title(
            f"{label}\n{positive[label]} patients", fontsize=8, color=FAINT if few else INK
        )
        axes.set_xlabel("AUC")
        axes.grid(axis="x", color="#eeeeee")
        plain(axes)
    panels[0].set_yticks(range(len(lines)), [line.name for line in lines])
    panels[0].invert_yaxis()
    panels[0].tick_params(labelsize=7)
    return svg(
        figure,
        "Area under the ROC curve of each row, a panel a label; the figures are in the table.",
    )


def _mark(axes: Axes, place: int, found: Interval, color: str) -> None:
    axes.plot([found.low, found.high], [place, place], color=color, lw=1.8)
    axes.plot(found.value, place, "o", color=color, ms=5)


def _color(difference: Interval) -> str:
    if not difference.excludes_zero:
        return OPEN
    return BETTER if difference.high < 0 else WORSE
