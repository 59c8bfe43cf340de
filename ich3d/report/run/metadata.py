"""What the files of a run tell: how it was made, what the stackers decided, what could not be used."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd

from ich3d.core.labels import LABELS
from ich3d.core.workspace import Workspace, read_csv, read_json
from ich3d.evaluation.ground_truth import GroundTruth


def run_metadata(workspace: Workspace, truth: GroundTruth) -> dict[str, str]:
    """What was run, from `run.json`: name and value."""
    run = read_json(workspace.run)
    config, packages = run["config"], run["packages"]
    finished = datetime.fromisoformat(run["finished"])
    return {
        "data source": config["source"]["kind"],
        "series": f"{truth.table['volume_id'].nunique()}",
        "slices": f"{len(truth.table)}",
        **left_out(truth),
        "patient groups": f"{truth.table['group_id'].nunique()}",
        "folds": f"{config['prepare']['folds']}",
        "seed": f"{config['seed']}",
        "device": f"{run['device']}, {run['threads']} threads, precision {config['precision']}",
        "versions": ", ".join(
            [
                f"ich3d {run['ich3d']}",
                f"python {run['python']}",
                *(f"{k} {v}" for k, v in packages.items()),
            ]
        ),
        "finished": f"{finished:%Y-%m-%d %H:%M} UTC",
    }


def left_out(truth: GroundTruth) -> dict[str, str]:
    """Which labels have no truth and so count nowhere: name and value, nothing where all have."""
    unknown = ", ".join(truth.unknown_labels)
    return {"without labels": f"{unknown}: left out of the weighted log loss"} if unknown else {}


def run_config(workspace: Workspace) -> str:
    """The run's whole config as YAML, from which `ich3d train` makes the same run."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(read_json(workspace.run)["config"]))


@dataclass(frozen=True)
class Decision:
    """What a stacker did for one label of one fold, and the inner losses that decided it."""

    is_kept: bool
    stacker_loss: float
    context_loss: float
    se: float


def decisions(workspace: Workspace, folds: list[int]) -> dict[str, dict[int, Decision]]:
    """Every label's decision in every fold, as the saved model has them."""
    by_fold = {fold: read_json(workspace.model / "stack" / f"fold{fold}.json") for fold in folds}
    return {
        label: {fold: _decision(tree[label]) for fold, tree in by_fold.items()} for label in LABELS
    }


def _decision(fields: dict[str, Any]) -> Decision:
    return Decision(
        is_kept=fields["is_kept"],
        stacker_loss=fields["inner_loss"],
        context_loss=fields["inner_start_loss"],
        se=fields["inner_se"],
    )


def histories(
    workspace: Workspace, stage: str, folds: list[int]
) -> dict[int, list[dict[str, float]]]:
    """The losses by epoch of each fold's network, of the first one where several were trained."""
    return {
        fold: read_json(workspace.stage(stage, fold) / "member0" / "history.json") for fold in folds
    }


@dataclass(frozen=True)
class Quality:
    """What could not be used, and what was odd about what was: (subject, detail) pairs by reason."""

    rejected: dict[str, list[tuple[str, str]]]
    unmatched: dict[str, list[tuple[str, str]]]
    series_codes: dict[str, int]


def quality(workspace: Workspace) -> Quality:
    """What `rejected.csv`, `unmatched.csv` and `inspect.csv` hold."""
    rejected = read_csv(workspace.rejected, text=("subject", "path", "code", "detail"))
    unmatched = read_csv(workspace.unmatched, text=("sop_uid", "lacks", "detail"))
    series = read_csv(workspace.inspect, text=("codes",))
    found = Counter(code for joined in series["codes"] for code in joined.split("|") if code)
    return Quality(
        rejected=_by_reason(rejected, "code", "subject"),
        unmatched=_by_reason(unmatched, "lacks", "sop_uid"),
        series_codes=dict(sorted(found.items())),
    )


def _by_reason(table: pd.DataFrame, reason: str, subject: str) -> dict[str, list[tuple[str, str]]]:
    items: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for why, what, detail in zip(table[reason], table[subject], table["detail"], strict=True):
        items[str(why)].append((str(what), str(detail)))
    return dict(sorted(items.items()))
