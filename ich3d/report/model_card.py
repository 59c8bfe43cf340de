"""The card of a trained model: what it is, what it was trained on, how well it does, its limits.

`ich3d card` writes it as Markdown, and its figures as JSON. All figures are computed from the
out-of-fold scores of the run that trained the model, or read from evaluations of the model itself.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from ich3d.config.load import as_dict
from ich3d.config.schema import IMAGENET
from ich3d.core.bootstrap import Interval
from ich3d.core.errors import DataError, ModelError
from ich3d.core.labels import ANY, FLAG_AT, LABELS
from ich3d.core.operating_point import OperatingPoint, operating_points
from ich3d.core.outputs import refusal
from ich3d.core.text import pluralize
from ich3d.core.workspace import Workspace, read_csv, read_json, replacing, write_json
from ich3d.evaluation.run import OutOfFold, out_of_fold
from ich3d.evaluation.table import ResultRow, auc_cell, markdown, tidy
from ich3d.model.info import info
from ich3d.model.manifest import Manifest, read_manifest
from ich3d.model.starter import CARD, FIGURES, MODEL, STARTER
from ich3d.report.evaluation_page import points_markdown, points_table, share_cell

THRESHOLDS: Final = (0.1, 0.2, 0.3, FLAG_AT)
"""Thresholds at which the card shows `any`; the other labels are shown at the last one."""

_SERVED: Final = "stack"
"""The stage whose scores are the answer."""

_CONFIG_SECTIONS: Final = ("seed", "precision", "source", "prepare", "slices", "context", "stack")
_NETWORK: Final = "encoder/network.safetensors"


@dataclass(frozen=True)
class FurtherFigures:
    """An evaluation of the model itself by `ich3d evaluate`.

    Attributes:
        name: what the card calls it.
        table: the rows of its `evaluation.csv`.
        points: the rows of its `evaluation_points.csv`.
        slices: number of slices that the model scored.
        series: number of series that the model scored.
    """

    name: str
    table: pd.DataFrame
    points: pd.DataFrame
    slices: int
    series: int

    @classmethod
    def read(cls, name: str, path: Path, model_sha256: str) -> "FurtherFigures":
        """Read what `ich3d evaluate` wrote into an output folder of `ich3d predict`.

        Args:
            name: what the card calls the evaluation.
            path: the file `evaluation.csv` in that folder.
            model_sha256: the hash of the model that the card is about.

        Raises:
            DataError: a file is missing.
            ModelError: the predictions are of another model, or of some of its folds.
        """
        table = read_csv(path, text=("row", "metric", "label"))
        folder = path.parent
        run = read_json(folder / "run.json")
        if run["model_sha256"] != model_sha256:
            raise ModelError(f"the predictions in {folder} are those of another model")
        if len(run["folds"]) != run["folds_of_model"]:
            raise ModelError(f"the predictions in {folder} are those of some folds alone")
        return cls(
            name=name,
            table=table,
            points=read_csv(folder / "evaluation_points.csv", text=("level", "label")),
            slices=run["slices"],
            series=run["series"],
        )

    def interval(self, metric: str, label: str, row: str = _SERVED) -> Interval:
        """A metric of one row; `label` is empty for metrics over all labels."""
        table = self.table
        is_it = (table["row"] == row) & (table["metric"] == metric) & (table["label"] == label)
        if not is_it.any():
            raise DataError(f"the evaluation {self.name} has no {metric} of the row {row}")
        value, low, high = table.loc[is_it, ["value", "low", "high"]].to_numpy(float)[0]
        return Interval(value, low, high)

    def point(self, level: str, label: str) -> OperatingPoint:
        """The operating point of a label; `level` is `slices` or `series`."""
        points = self.points
        row = points[(points["level"] == level) & (points["label"] == label)].iloc[0]
        sensitivity, specificity = (
            Interval(row[name], row[f"{name}_low"], row[f"{name}_high"])
            for name in ("sensitivity", "specificity")
        )
        counts = int(row["n_positive"]), int(row["n_negative"])
        return OperatingPoint(level, label, *counts, sensitivity, specificity)

    @property
    def all_points(self) -> list[OperatingPoint]:
        """All operating points: those of slices, then those of series where series are known."""
        keys = zip(self.points["level"], self.points["label"], strict=True)
        return [self.point(level, label) for level, label in keys]

    @property
    def threshold(self) -> float:
        """The threshold of the operating points."""
        return float(self.points["threshold"].iloc[0])


def write_card(
    model: Path,
    run: Path | None = None,
    evaluations: Mapping[str, Path] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write `MODEL_CARD.md` and `card.json` beside a model folder.

    Args:
        model: the model folder.
        run: the run folder that trained it, with its out-of-fold scores; None takes the folder
            that holds the model, as it is in a run folder.
        evaluations: by name, files `evaluation.csv` that `ich3d evaluate` wrote into an output
            folder of `ich3d predict` with this model.
        overwrite: whether the card of another model is replaced.

    Returns:
        The path of the card.

    Raises:
        ModelError: the model is not that of the run, or predictions are those of another model.
        DataError: the run is not finished, a file is missing, or the card of another model lies
            there and `overwrite` is not set.
    """
    manifest = read_manifest(model)
    folder = model.absolute().parent
    if (folder / FIGURES).exists() and not overwrite:
        described = read_json(folder / FIGURES).get("model_sha256")
        if described != manifest.sha256:
            raise refusal(folder / CARD, "the card of another model")
    workspace = Workspace(model.absolute().parent if run is None else run)
    if not workspace.run.is_file():
        raise DataError(
            f"{workspace.root} holds no finished run: name the run folder that {model} was trained "
            "in after --run"
        )
    scores = out_of_fold(workspace)
    if read_manifest(workspace.model).files != manifest.files:
        raise ModelError(f"{model} is not the model that was trained in {workspace.root}")
    further = [
        FurtherFigures.read(name, path, manifest.sha256)
        for name, path in (evaluations or {}).items()
    ]

    facts = read_json(workspace.run)
    draws, seed = facts["config"]["report"]["resamples"], facts["config"]["seed"]
    rows = scores.result_rows(draws, seed)
    points = {
        threshold: operating_points(scores.prob[_SERVED], scores.truth, threshold, draws, seed)
        for threshold in THRESHOLDS
    }

    content = _content(model, manifest, facts, scores, rows, points, further)
    with replacing(folder / CARD) as partial:
        partial.write_text(_template().render(content), encoding="utf-8")
    write_json(folder / FIGURES, _figures(manifest, scores, rows, points, further))
    return folder / CARD


def _template() -> Any:
    environment = Environment(
        loader=PackageLoader("ich3d"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("model_card.md.j2")


def _content(
    model: Path,
    manifest: Manifest,
    facts: Mapping[str, Any],
    scores: OutOfFold,
    rows: list[ResultRow],
    points: Mapping[float, list[OperatingPoint]],
    further: Sequence[FurtherFigures],
) -> dict[str, Any]:
    """The variables of `model_card.md.j2`."""
    (served,) = (row for row in rows if row.name == _SERVED)
    return {
        "is_starter": model.absolute() == STARTER / MODEL,
        "model": info(model),
        "config": _config_yaml(manifest),
        "is_imagenet": manifest.config.slices.weights == IMAGENET,
        "frozen": manifest.config.slices.frozen,
        "network_sha256": manifest.files.get(_NETWORK),
        "members": manifest.config.context.ensemble_size,
        "run": facts,
        "truth": scores.truth,
        "n_series": int(scores.truth.table["volume_id"].nunique()),
        "n_groups": int(scores.truth.table["group_id"].nunique()),
        "labels": LABELS,
        "positive": scores.truth.positive_patients,
        "positive_slices": dict(
            zip(LABELS, np.nansum(scores.truth.target, axis=0).astype(int).tolist(), strict=True)
        ),
        "draws": facts["config"]["report"]["resamples"],
        "table": markdown(rows, scores.truth),
        "base": rows[0],
        "served": served,
        "auc": auc_cell,
        "pluralize": pluralize,
        "share": share_cell,
        "flag_at": FLAG_AT,
        "points": points_markdown(points[FLAG_AT]),
        "points_markdown": points_markdown,
        "any_points": {
            threshold: {point.level: point for point in at_threshold if point.label == ANY}
            for threshold, at_threshold in points.items()
        },
        "further": further,
    }


def _config_yaml(manifest: Manifest) -> str:
    """The sections of the configuration that training depends on, as YAML."""
    from omegaconf import OmegaConf

    tree = as_dict(manifest.config)
    tree["source"] |= {"path": None, "labels": None}
    text: str = OmegaConf.to_yaml(OmegaConf.create({key: tree[key] for key in _CONFIG_SECTIONS}))
    return text


def _figures(
    manifest: Manifest,
    scores: OutOfFold,
    rows: list[ResultRow],
    points: Mapping[float, list[OperatingPoint]],
    further: Sequence[FurtherFigures],
) -> dict[str, Any]:
    """The content of `card.json`."""
    table = scores.truth.table
    return {
        "model_sha256": manifest.sha256,
        "source": manifest.config.source.kind,
        "patients": int(table["group_id"].nunique()),
        "series": int(table["volume_id"].nunique()),
        "slices": len(table),
        "flag_at": FLAG_AT,
        "out_of_fold": {
            "metrics": _records(tidy(rows)),
            "operating_points": _records(
                pd.concat([points_table(at, threshold) for threshold, at in points.items()])
            ),
        },
        "evaluations": {
            one.name: {
                "metrics": _records(one.table),
                "operating_points": _records(one.points),
            }
            for one in further
        },
    }


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A table as one dictionary a row; what is not defined is None. Five decimals."""
    records: list[dict[str, Any]] = json.loads(table.to_json(orient="records", double_precision=5))
    return records
