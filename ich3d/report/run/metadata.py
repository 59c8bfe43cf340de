"""What the files of a run record: how it was made, the stackers' decisions, and data quality."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd

from ich3d.core.ground_truth import GroundTruth
from ich3d.core.labels import LABELS
from ich3d.core.text import pluralize
from ich3d.core.workspace import Workspace, read_csv, read_json
from ich3d.stack.booster import LabelStacker


def run_metadata(workspace: Workspace, truth: GroundTruth) -> dict[str, str]:
    """Name and value of what was run, from `run.json` and the slices of the run."""
    run = read_json(workspace.run)
    config = run["config"]
    packages = [f"{name} {version}" for name, version in run["packages"].items()]
    finished = datetime.fromisoformat(run["finished"])
    threads = pluralize(run["threads"], "thread")
    return {
        "data source": config["source"]["kind"],
        "series": f"{truth.table['volume_id'].nunique()}",
        "slices": f"{len(truth.table)}",
        **labels_without_truth(truth),
        "patient groups": f"{truth.table['group_id'].nunique()}",
        "folds": f"{config['prepare']['folds']}",
        "seed": f"{config['seed']}",
        "device": f"{run['device']}, {threads}, precision {config['precision']}",
        "versions": ", ".join([f"ich3d {run['ich3d']}", f"python {run['python']}", *packages]),
        "finished": f"{finished:%Y-%m-%d %H:%M} UTC",
    }


def labels_without_truth(truth: GroundTruth) -> dict[str, str]:
    """The metadata entry on labels without ground truth; empty where every label has some."""
    if not truth.unknown_labels:
        return {}
    names = ", ".join(truth.unknown_labels)
    return {"without ground truth": f"{names}: excluded from the weighted log loss"}


def run_config(workspace: Workspace) -> str:
    """The whole config of the run as YAML, from which `ich3d train` repeats the run."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(read_json(workspace.run)["config"]))


@dataclass(frozen=True)
class Decision:
    """Whether the stacker of one label and fold is used, and the log losses behind the decision.

    Losses are on validation patients; `se` is the standard error of their difference.
    """

    is_kept: bool
    stacker_loss: float
    context_loss: float
    se: float


def stacker_decisions(workspace: Workspace, folds: list[int]) -> dict[str, dict[int, Decision]]:
    """The decision for each label and fold, from the saved model."""
    by_fold = {fold: read_json(workspace.model / "stack" / f"fold{fold}.json") for fold in folds}
    return {
        label: {fold: _decision(stack[label]) for fold, stack in by_fold.items()}
        for label in LABELS
    }


def _decision(fields: dict[str, Any]) -> Decision:
    """The decision in one label's fields of a model folder's stack/fold<k>.json."""
    stacker = LabelStacker.from_dict({**fields, "trees": ""})
    return Decision(
        is_kept=stacker.is_kept,
        stacker_loss=stacker.validation_loss,
        context_loss=stacker.validation_start_loss,
        se=stacker.validation_gain_se,
    )


def histories(
    workspace: Workspace, stage: str, folds: list[int]
) -> dict[int, list[dict[str, float]]]:
    """The losses by epoch of each fold's network; of the first, where a fold has several.

    A frozen encoder is trained in no epochs, and its folds are left out.
    """
    paths = {fold: workspace.stage(stage, fold) / "member0" / "history.json" for fold in folds}
    return {fold: read_json(path) for fold, path in paths.items() if path.exists()}


@dataclass(frozen=True)
class DataQuality:
    """Files and slices that could not be used, and issues of the series that were used.

    `rejected` and `unmatched` hold (subject, detail) pairs by reason; `series_issues` counts the
    series that have an issue.
    """

    rejected: dict[str, list[tuple[str, str]]]
    unmatched: dict[str, list[tuple[str, str]]]
    series_issues: dict[str, int]


def data_quality(workspace: Workspace) -> DataQuality:
    """Read `rejected.csv`, `unmatched.csv` and `inspect.csv`."""
    rejected = read_csv(workspace.rejected, text=("subject", "path", "code", "detail"))
    unmatched = read_csv(workspace.unmatched, text=("sop_uid", "lacks", "detail"))
    series = read_csv(workspace.inspect, text=("codes",))
    issues = Counter(code for joined in series["codes"] for code in joined.split("|") if code)
    return DataQuality(
        rejected=_by_reason(rejected, "code", "subject"),
        unmatched=_by_reason(unmatched, "lacks", "sop_uid"),
        series_issues=dict(sorted(issues.items())),
    )


def _by_reason(
    table: pd.DataFrame, reason_column: str, subject_column: str
) -> dict[str, list[tuple[str, str]]]:
    """(subject, detail) of each line of a table, by the reason given there."""
    grouped: dict[str, list[tuple[str, str]]] = defaultdict(list)
    columns = table[reason_column], table[subject_column], table["detail"]
    for reason, subject, detail in zip(*columns, strict=True):
        grouped[str(reason)].append((str(subject), str(detail)))
    return dict(sorted(grouped.items()))
