"""What each stage is worth, from the cached out-of-fold scores of a finished run.

Rows: base rate, position only, then encoder and context, each without and with a stacker on it. The
stacker on the encoder alone never sees a context score.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from ich3d.context.batch import context_input
from ich3d.core.config import Config
from ich3d.core.console import Progress, quiet
from ich3d.core.metrics import sigmoid
from ich3d.core.seeds import derive
from ich3d.core.types import SliceEmbeddings
from ich3d.core.workspace import Workspace, read_csv, replacing, write_csv
from ich3d.pipeline.train import read_embeddings
from ich3d.results import (
    OutOfFold,
    Row,
    compare,
    markdown,
    on_lookalikes,
    out_of_fold,
    require_same_run,
    tidy,
)
from ich3d.stack.booster import StackRows, fit_stack, score_stack
from ich3d.stack.features import build_features

PAIRS = {
    "position only": "base rate",
    "encoder": "position only",
    "encoder + stacker": "encoder",
    "context": "encoder",
    "context + stacker": "context",
}


def ablate(config: Config, progress: Progress = quiet) -> list[Row]:
    """The ablation of the run in the config's workspace, also written there as CSV and markdown.
    Of phantoms, how each stage does on look-alikes is written too.

    DataError where the run is not finished, or was trained with another config.
    """
    workspace = Workspace(Path(config.workspace))
    require_same_run(config, workspace)
    result = out_of_fold(workspace)
    rows = {
        "base rate": result.rows["base rate"],
        "position only": result.rows["position only"],
        "encoder": result.rows["encoder"],
        "encoder + stacker": stacked_encoder(result, read_embeddings(config), config, progress),
        "context": result.rows["context"],
        "context + stacker": result.rows["stack"],
    }
    lines = compare(result, rows, PAIRS, result.resampling(config.report.resamples, config.seed))
    write_csv(workspace.ablation.with_suffix(".csv"), tidy(lines))
    with replacing(workspace.ablation.with_suffix(".md")) as partial:
        partial.write_text(markdown(lines) + "\n")
    if config.source.kind == "phantom":
        truth = read_csv(workspace.source("phantom") / "truth.csv", text=("sop_uid", "lookalike"))
        write_csv(workspace.lookalikes, on_lookalikes(result, truth))
    return lines


def stacked_encoder(
    result: OutOfFold,
    embedded: Mapping[str, SliceEmbeddings],
    config: Config,
    progress: Progress = quiet,
) -> np.ndarray:
    """Out-of-fold probabilities (N, K) of a stacker on the encoder alone, its logits read as context does."""
    encoder = result.rows["encoder"].astype(np.float32)
    z_mm, blocks = result.table["z_mm"].to_numpy(), []
    for name, index in result.table.groupby("volume_id", sort=False).indices.items():
        series = context_input(embedded[str(name)], z_mm[index])
        features = build_features({"encoder": sigmoid(series.logits)}, z_mm[index], config.stack.reach_mm)
        blocks.append(features.set_index(index))
    rows = StackRows(
        features=pd.concat(blocks).sort_index(),
        start=encoder,
        target=result.target,
        group=result.table["group_id"].to_numpy(),
        fold=result.fold,
    )
    prob = np.empty_like(encoder)
    for fold in progress(list(np.unique(result.fold)), "stacker on encoder"):
        test = result.fold == fold
        stack = fit_stack(
            _subset(rows, ~test), config.stack, derive(config.seed, "stack on encoder", int(fold))
        )
        prob[test] = score_stack(stack, rows.features[test], encoder[test])
    return prob


def _subset(rows: StackRows, keep: np.ndarray) -> StackRows:
    return replace(
        rows,
        features=rows.features[keep].reset_index(drop=True),
        start=rows.start[keep],
        target=rows.target[keep],
        group=rows.group[keep],
        fold=rows.fold[keep],
    )
