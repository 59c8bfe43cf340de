"""The result table: the metrics of every row, paired differences between rows, and 95 % intervals.

A row that was trained with several seeds has the mean of its seeds' metrics. The draws of patient
groups are the same for every row and every seed, so that differences are paired.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ich3d.config.ablation import STACKED
from ich3d.core.bootstrap import Interval, PatientBootstrap, interval
from ich3d.core.ground_truth import GroundTruth
from ich3d.core.labels import ANY, LABELS
from ich3d.core.metrics import (
    auc,
    average_precision,
    calibration_error,
    incoherent_share,
    label_log_loss,
    weighted_log_loss,
    weighted_mean,
)
from ich3d.core.text import pluralize
from ich3d.evaluation.claims import MIN_WITH_LABEL, Verdict, verdict
from ich3d.stack.booster import coherent

FEW_PATIENTS = MIN_WITH_LABEL
"""With fewer positive patients than this, a label's AUC is shown without an interval."""


@dataclass(frozen=True)
class ResultRow:
    """One row of the table. Dictionaries are keyed by label, `any` included.

    Attributes:
        name: what the table calls the row.
        seeds: with how many seeds it was trained.
        weighted_log_loss: RSNA 2019's score.
        spread: SD of the weighted log loss over seeds, NaN for one seed.
        log_loss, auc, average_precision, calibration_error: of slices, for each label.
        series_auc: AUC of series, each scored by its highest slice.
        incoherent: share of slices that score `any` below a subtype, before this is corrected.
        against: the row that this one is compared with, None without a comparison.
        difference: of the weighted log loss, paired: this row minus `against`.
        log_loss_difference, auc_difference: the same for each label, empty without a comparison.
        verdict: what `difference` shows (`evaluation.claims`), None without a comparison.
        label_verdicts: the same for each label's log loss, empty without a comparison.
    """

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
    verdict: Verdict | None = None
    label_verdicts: dict[str, Verdict] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """A finished table: its rows, the table in Markdown, and the path of the page that shows it."""

    rows: list[ResultRow]
    table: str
    page: Path


def compare(
    prob: Mapping[str, np.ndarray],
    against: Mapping[str, str],
    truth: GroundTruth,
    draws: int,
    seed: int,
) -> list[ResultRow]:
    """Compute the metrics of every row and its differences to another row.

    Args:
        prob: probabilities (S, N, K) of each row for S seeds, N slices and K labels.
        against: the row that each row is compared with; a row that names itself is not compared.
        truth: the labels of the N slices.
        draws: how often patient groups are resampled for the intervals.
        seed: seed of the resampling.

    Returns:
        One `ResultRow` for each row of `prob`, in the same order.
    """
    bootstrap = truth.bootstrap(draws, seed)

    # Not every row depends on the seed: an encoder has the same scores beside each of its stackers.
    prob = {name: runs[:1] if (runs == runs[0]).all() else runs for name, runs in prob.items()}
    metrics = {
        name: _RowMetrics.of(as_served(name, runs), truth, bootstrap) for name, runs in prob.items()
    }
    return [_result_row(name, prob[name], metrics, against.get(name), truth) for name in prob]


def as_served(name: str, prob: np.ndarray) -> np.ndarray:
    """Scores (..., K) as a user gets them: a stacker's `any` is raised to its largest subtype."""
    return coherent(prob) if name.endswith(STACKED) else prob


@dataclass(frozen=True)
class _RowMetrics:
    """A row's scores `prob` (S, N, K), and its metrics averaged over seeds.

    Each metric is there on all patients (K,), and in each draw of the bootstrap (R, K).
    """

    prob: np.ndarray
    loss: np.ndarray
    loss_draws: np.ndarray
    auc: np.ndarray
    auc_draws: np.ndarray
    series_auc: np.ndarray
    series_auc_draws: np.ndarray

    @classmethod
    def of(cls, prob: np.ndarray, truth: GroundTruth, bootstrap: PatientBootstrap) -> "_RowMetrics":
        target = truth.target
        names, first, series = np.unique(truth.volume, return_index=True, return_inverse=True)

        # Each series has the labels and the scores of its highest slice.
        series_target = _series_maximum(np.nan_to_num(target, nan=-np.inf), series, len(names))
        series_target[np.isinf(series_target)] = np.nan
        series_prob = np.stack([_series_maximum(run, series, len(names)) for run in prob])
        series_bootstrap = PatientBootstrap(bootstrap.counts, bootstrap.row_group[first])

        return cls(
            prob=prob,
            loss=np.mean([label_log_loss(run, target) for run in prob], axis=0),
            loss_draws=np.mean([bootstrap.label_log_loss(run, target) for run in prob], axis=0),
            auc=_by_label(auc, prob, target),
            auc_draws=_by_label(bootstrap.auc, prob, target),
            series_auc=_by_label(auc, series_prob, series_target),
            series_auc_draws=_by_label(series_bootstrap.auc, series_prob, series_target),
        )


def _series_maximum(values: np.ndarray, series: np.ndarray, count: int) -> np.ndarray:
    """Largest value (M, K) in each of `count` M series, of `values` (N, K) in the series (N,)."""
    largest = np.full((count, values.shape[1]), -np.inf)
    np.maximum.at(largest, series, values)
    return largest


def _by_label(
    metric: Callable[[np.ndarray, np.ndarray], Any], prob: np.ndarray, target: np.ndarray
) -> np.ndarray:
    """A metric of one label (N,) for every label, averaged over seeds: (K,), or (R, K) of draws."""
    columns = [
        np.mean([metric(run[:, k], target[:, k]) for run in prob], axis=0)
        for k in range(len(LABELS))
    ]
    return np.stack(columns, axis=-1)


def _result_row(
    name: str,
    raw_prob: np.ndarray,
    metrics: Mapping[str, _RowMetrics],
    against: str | None,
    truth: GroundTruth,
) -> ResultRow:
    """The row called `name`; `raw_prob` (S, N, K) are its scores before `as_served`."""
    row = metrics[name]
    reference = None if against is None or against == name else metrics.get(against)
    seed_losses = [weighted_log_loss(run, truth.target) for run in row.prob]
    difference, log_loss_difference, auc_difference = _differences(row, reference)
    patients, with_label = truth.n_patients, truth.positive_patients
    overall, by_label = None, {}
    if reference is not None and difference is not None:
        loss = float(weighted_mean(reference.loss))
        overall = verdict(difference, loss, patients, with_label[ANY])
        by_label = {
            label: verdict(log_loss_difference[label], loss, patients, with_label[label])
            for label, loss in zip(LABELS, reference.loss, strict=True)
        }

    return ResultRow(
        name=name,
        seeds=len(raw_prob),
        weighted_log_loss=interval(weighted_mean(row.loss), weighted_mean(row.loss_draws)),
        spread=float(np.std(seed_losses, ddof=1)) if len(seed_losses) > 1 else float("nan"),
        log_loss=_intervals(row.loss, row.loss_draws),
        auc=_intervals(row.auc, row.auc_draws),
        series_auc=_intervals(row.series_auc, row.series_auc_draws),
        average_precision=_values(average_precision, row.prob, truth.target),
        calibration_error=_values(calibration_error, row.prob, truth.target),
        incoherent=float(np.mean([incoherent_share(run) for run in raw_prob])),
        against=None if reference is None else against,
        difference=difference,
        log_loss_difference=log_loss_difference,
        auc_difference=auc_difference,
        verdict=overall,
        label_verdicts=by_label,
    )


def _differences(
    row: _RowMetrics, reference: _RowMetrics | None
) -> tuple[Interval | None, dict[str, Interval], dict[str, Interval]]:
    """Row minus reference: weighted log loss, log loss of each label, AUC of each label."""
    if reference is None:
        return None, {}, {}
    loss, loss_draws = row.loss - reference.loss, row.loss_draws - reference.loss_draws
    auc, auc_draws = row.auc - reference.auc, row.auc_draws - reference.auc_draws
    return (
        interval(weighted_mean(loss), weighted_mean(loss_draws)),
        _intervals(loss, loss_draws),
        _intervals(auc, auc_draws),
    )


def _values(
    metric: Callable[[np.ndarray, np.ndarray], float], prob: np.ndarray, target: np.ndarray
) -> dict[str, float]:
    """A metric of one label (N,) for every label, averaged over the seeds of `prob` (S, N, K)."""
    return dict(zip(LABELS, map(float, _by_label(metric, prob, target)), strict=True))


def _intervals(value: np.ndarray, draws: np.ndarray) -> dict[str, Interval]:
    """The interval of each label from its value (K,) and its draws (R, K)."""
    return {label: interval(value[k], draws[:, k]) for k, label in enumerate(LABELS)}


def tidy(rows: list[ResultRow]) -> pd.DataFrame:
    """The table in long form: `row, metric, label, value, low, high`, one line for each number.

    `label` is empty where a metric covers all labels. The metric of a difference names the other
    row.
    """
    records: list[dict[str, object]] = []
    for row in rows:
        for metric, value in _overall_metrics(row).items():
            records.append(_record(row.name, metric, "", value))
        for metric, by_label in _label_metrics(row).items():
            records += [
                _record(row.name, metric, label, value) for label, value in by_label.items()
            ]
    return pd.DataFrame(records)


def _record(name: str, metric: str, label: str, value: Interval | float) -> dict[str, object]:
    """One line of `tidy`; `low` and `high` are NaN for a metric without an interval."""
    if not isinstance(value, Interval):
        value = Interval(value, np.nan, np.nan)
    return {"row": name, "metric": metric, "label": label, **vars(value)}


def _overall_metrics(row: ResultRow) -> dict[str, Interval | float]:
    metrics: dict[str, Interval | float] = {
        "weighted_log_loss": row.weighted_log_loss,
        "seeds": float(row.seeds),
        "spread over seeds": row.spread,
        "incoherent share": row.incoherent,
    }
    if row.difference is not None:
        metrics[f"weighted_log_loss minus {row.against}"] = row.difference
    return metrics


def _label_metrics(row: ResultRow) -> dict[str, Mapping[str, Interval | float]]:
    return {
        "log_loss": row.log_loss,
        "auc": row.auc,
        "series_auc": row.series_auc,
        "average_precision": row.average_precision,
        "calibration_error": row.calibration_error,
        f"log_loss minus {row.against}": row.log_loss_difference,
        f"auc minus {row.against}": row.auc_difference,
    }


def markdown(rows: list[ResultRow], truth: GroundTruth) -> str:
    """The table in Markdown: weighted log loss, paired difference, and the AUC of each label.

    95 % intervals are in brackets. The SD over seeds has a column where a row has several seeds. A
    label of few patients is shown without an interval, because it supports no conclusion.
    """
    positive = truth.positive_patients
    has_seeds = any(row.seeds > 1 for row in rows)
    header = ["row", "weighted log loss", *["SD over seeds"] * has_seeds, "difference (paired)"]
    header += [f"AUC {label} ({pluralize(positive[label], 'patient')})" for label in LABELS]

    text = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    for row in rows:
        difference = "" if row.difference is None else f"{row.difference:+} vs {row.against}"
        spread = "" if np.isnan(row.spread) else f"{row.spread:.4f}"
        cells = [row.name, str(row.weighted_log_loss), *[spread] * has_seeds, difference]
        cells += [auc_cell(row.auc[label], positive[label]) for label in LABELS]
        text.append(f"| {' | '.join(cells)} |")
    return "\n".join(text)


def auc_cell(value: Interval, patients: int) -> str:
    """`value (low to high)`; without the interval for fewer than `FEW_PATIENTS` positive patients,
    or where there is none. A dash where the AUC is not defined.
    """
    if np.isnan(value.value):
        return "-"
    if patients < FEW_PATIENTS or np.isnan(value.low):
        return f"{value.value:.3f}"
    return f"{value.value:.3f} ({value.low:.2f} to {value.high:.2f})"
