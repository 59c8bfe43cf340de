"""Every row in figures: the metric and its parts, paired differences, 95 % intervals.

A row trained with several seeds is judged by the mean of its seeds' figures; the draws of patient groups are
the same for every row and seed, so that differences are paired.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ich3d.config.ablation import STACKED
from ich3d.core.labels import LABELS
from ich3d.core.metrics import (
    auc,
    average_precision,
    calibration_error,
    incoherent_share,
    label_log_loss,
    weighted_log_loss,
    weighted_mean,
)
from ich3d.evaluation.bootstrap import Interval, PatientBootstrap, interval
from ich3d.evaluation.ground_truth import GroundTruth
from ich3d.stack.booster import coherent

FEW_PATIENTS = 8  # positive patients below which a label is shown without a claim


@dataclass(frozen=True)
class ResultRow:
    """One row of the table. Differences are to the row `against`, paired; `spread` is the SD of the weighted
    log loss over seeds, NaN of one; `incoherent` the share of slices with `any` below a subtype before it is
    mended. Labels have `any` among them; `series_auc` scores a series by its highest slice."""

    name: str
    seeds: int
    weighted_log_loss: Interval
    spread: float
    log_loss: dict[str, Interval]
    auc: dict[str, Interval]
    series_auc: dict[str, Interval]
    average_precision: dict[str, float]
    calibration_error: dict[str, float]
    incoherent: float
    against: str | None
    difference: Interval | None
    log_loss_difference: dict[str, Interval]
    auc_difference: dict[str, Interval]


@dataclass(frozen=True)
class Result:
    """A finished table: its lines, the same in markdown, and the page that shows them."""

    lines: list[ResultRow]
    table: str
    page: Path


def compare(
    prob: Mapping[str, np.ndarray],
    against: Mapping[str, str],
    truth: GroundTruth,
    draws: int,
    seed: int,
) -> list[ResultRow]:
    """All rows (S, N, K), each with its differences to the row that `against` names; to itself, none."""
    slices = truth.bootstrap(draws, seed)
    # Seeds do not touch every row: an encoder's scores are the same beside each of its stackers.
    prob = {name: runs[:1] if (runs == runs[0]).all() else runs for name, runs in prob.items()}
    figures = {
        name: _Figures.of(as_served(name, runs), truth, slices) for name, runs in prob.items()
    }
    return [_line(name, prob[name], figures, against.get(name), truth) for name in prob]


def as_served(name: str, prob: np.ndarray) -> np.ndarray:
    """A row's scores as a user would get them: a stacker's `any` is raised to its largest subtype."""
    return coherent(prob) if name.endswith(STACKED) else prob


@dataclass(frozen=True)
class _Figures:
    """A row's figures averaged over its seeds, and the same in each draw: loss (K,), (R, K), AUC alike."""

    prob: np.ndarray
    loss: np.ndarray
    loss_draws: np.ndarray
    auc: np.ndarray
    auc_draws: np.ndarray
    series_auc: np.ndarray
    series_auc_draws: np.ndarray

    @classmethod
    def of(cls, prob: np.ndarray, truth: GroundTruth, slices: PatientBootstrap) -> "_Figures":
        target = truth.target
        names, first, index = np.unique(truth.volume, return_index=True, return_inverse=True)
        has = np.full((len(names), target.shape[1]), -np.inf)
        np.maximum.at(has, index, np.nan_to_num(target, nan=-np.inf))
        has[np.isinf(has)] = np.nan
        whole = PatientBootstrap(slices.counts, slices.row_group[first])
        highest = np.zeros((len(prob), *has.shape))
        for run, most in zip(prob, highest, strict=True):
            np.maximum.at(most, index, run)
        return cls(
            prob=prob,
            loss=np.mean([label_log_loss(run, target) for run in prob], axis=0),
            loss_draws=np.mean([slices.label_log_loss(run, target) for run in prob], axis=0),
            auc=_by_label(auc, prob, target),
            auc_draws=_by_label(slices.auc, prob, target),
            series_auc=_by_label(auc, highest, has),
            series_auc_draws=_by_label(whole.auc, highest, has),
        )


def _by_label(
    figure: Callable[[np.ndarray, np.ndarray], Any], prob: np.ndarray, target: np.ndarray
) -> np.ndarray:
    """`figure` of each label's (N,), averaged over seeds: (K,), or (R, K) of draws."""
    columns = [
        np.mean([figure(run[:, k], target[:, k]) for run in prob], axis=0)
        for k in range(len(LABELS))
    ]
    return np.stack(columns, axis=-1)


def _line(
    name: str,
    raw: np.ndarray,
    figures: Mapping[str, _Figures],
    other: str | None,
    truth: GroundTruth,
) -> ResultRow:
    own, target = figures[name], truth.target
    than = None if other is None or other == name or other not in figures else figures[other]
    losses = [weighted_log_loss(run, target) for run in own.prob]

    def mean_of(figure: Callable[[np.ndarray, np.ndarray], float]) -> dict[str, float]:
        return dict(zip(LABELS, map(float, _by_label(figure, own.prob, target)), strict=True))

    return ResultRow(
        name=name,
        seeds=len(raw),
        weighted_log_loss=interval(weighted_mean(own.loss), weighted_mean(own.loss_draws)),
        spread=float(np.std(losses, ddof=1)) if len(losses) > 1 else float("nan"),
        log_loss=_intervals(own.loss, own.loss_draws),
        auc=_intervals(own.auc, own.auc_draws),
        series_auc=_intervals(own.series_auc, own.series_auc_draws),
        average_precision=mean_of(average_precision),
        calibration_error=mean_of(calibration_error),
        incoherent=float(np.mean([incoherent_share(run) for run in raw])),
        against=None if than is None else other,
        difference=None
        if than is None
        else interval(
            weighted_mean(own.loss - than.loss), weighted_mean(own.loss_draws - than.loss_draws)
        ),
        log_loss_difference={}
        if than is None
        else _intervals(own.loss - than.loss, own.loss_draws - than.loss_draws),
        auc_difference={}
        if than is None
        else _intervals(own.auc - than.auc, own.auc_draws - than.auc_draws),
    )


def _intervals(value: np.ndarray, draws: np.ndarray) -> dict[str, Interval]:
    return {label: interval(value[k], draws[:, k]) for k, label in enumerate(LABELS)}


def tidy(lines: list[ResultRow]) -> pd.DataFrame:
    """One line a figure: `row, metric, label, value, low, high`; a difference names the other row."""
    rows: list[dict[str, object]] = []

    def add(name: str, metric: str, label: str, found: Interval | float) -> None:
        ends = (
            vars(found)
            if isinstance(found, Interval)
            else {"value": found, "low": np.nan, "high": np.nan}
        )
        rows.append({"row": name, "metric": metric, "label": label, **ends})

    for line in lines:
        add(line.name, "weighted_log_loss", "", line.weighted_log_loss)
        add(line.name, "seeds", "", float(line.seeds))
        add(line.name, "spread over seeds", "", line.spread)
        add(line.name, "incoherent share", "", line.incoherent)
        if line.difference is not None:
            add(line.name, f"weighted_log_loss minus {line.against}", "", line.difference)
        for metric, by_label in _by_metric(line).items():
            for label, found in by_label.items():
                add(line.name, metric, label, found)
    return pd.DataFrame(rows)


def _by_metric(line: ResultRow) -> dict[str, Mapping[str, Interval | float]]:
    return {
        "log_loss": line.log_loss,
        "auc": line.auc,
        "series_auc": line.series_auc,
        "average_precision": line.average_precision,
        "calibration_error": line.calibration_error,
        f"log_loss minus {line.against}": line.log_loss_difference,
        f"auc minus {line.against}": line.auc_difference,
    }


def markdown(lines: list[ResultRow], truth: GroundTruth) -> str:
    """The table for people: weighted log loss, its spread over seeds if there are several, paired difference
    and AUC a label, 95 % intervals in brackets. A label that few patients have is shown without an interval,
    so that nobody reads a claim."""
    positive, has_seeds = truth.positive_patients, any(line.seeds > 1 for line in lines)
    head = ["row", "weighted log loss", *["SD over seeds"] * has_seeds, "difference (paired)"]
    head += [f"AUC {label} ({positive[label]} patients)" for label in LABELS]
    text = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for line in lines:
        paired = "" if line.difference is None else f"{line.difference:+} vs {line.against}"
        spread = "" if np.isnan(line.spread) else f"{line.spread:.4f}"
        cells = [line.name, str(line.weighted_log_loss), *[spread] * has_seeds, paired]
        cells += [auc_cell(line.auc[label], positive[label]) for label in LABELS]
        text.append(f"| {' | '.join(cells)} |")
    return "\n".join(text)


def auc_cell(found: Interval, patients: int) -> str:
    """`value (low to high)`; the value alone of a label that few patients have, a dash where it has none."""
    if np.isnan(found.value):
        return "-"
    if patients < FEW_PATIENTS:
        return f"{found.value:.3f}"
    return f"{found.value:.3f} ({found.low:.2f} to {found.high:.2f})"
