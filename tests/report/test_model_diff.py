"""Two models and one folder of studies: what differs in them, and in what they answer."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ich3d.config.root import Config
from ich3d.core.labels import LABELS, label_index
from ich3d.core.metrics import auc, weighted_log_loss
from ich3d.core.workspace import Workspace
from ich3d.evaluation.predictions import label_scores
from ich3d.model.folder import Model, write_model
from ich3d.report.model_diff import write_model_diff
from ich3d.sources import read_labels
from ich3d.stack.booster import Stacker


@pytest.fixture(scope="module")
def changed(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of the run without its stackers, on another grid, under another seed."""
    folder = tmp_path_factory.mktemp("changed") / "model"
    config = replace(model.config, seed=7, prepare=replace(model.config.prepare, matrix=56))
    folds = [replace(fold, stacker=Stacker.empty()) for fold in model.fold_models]
    fingerprint = {**model.fingerprint, "patients": 99}
    write_model(folder, config, fingerprint, folds)
    return folder


@pytest.fixture(scope="module")
def labels(finished_run: Config) -> pd.DataFrame:
    source = Workspace(Path(finished_run.workspace)).source("phantom")
    return read_labels(source / "labels.csv")


@pytest.fixture(scope="module")
def studies(finished_run: Config) -> Path:
    """The phantoms of the run that have labels."""
    return Workspace(Path(finished_run.workspace)).source("phantom")


def test_what_differs_is_told_with_and_without_labels(
    model_folder: Path, changed: Path, studies: Path, labels: pd.DataFrame, tmp_path: Path
) -> None:
    text = write_model_diff(model_folder, changed, [studies], tmp_path, labels)
    tree = json.loads((tmp_path / "diff.json").read_text())
    assert not tree["is_same"]
    assert tree["config"]["seed"] == [0, 7]
    assert tree["config"]["prepare.matrix"] == [48, 56]
    assert tree["data"]["patients"][1] == 99
    assert "preprocessing_sha256" in tree["data"]
    assert not any(name.startswith(("encoder/", "context/")) for name in tree["files"])
    assert tree["files"]
    assert "seed: 0 -> 7" in text

    slices = pd.read_csv(tmp_path / "slices.csv")
    for name in ("a", "b"):
        own = pd.read_csv(tmp_path / name / "slices.csv")
        np.testing.assert_array_equal(slices[f"{name}_any"], own["stack_any"].dropna())
    is_flagged = slices[["a_any", "b_any"]] >= 0.5
    assert tree["flips"] == int((is_flagged["a_any"] != is_flagged["b_any"]).sum())
    assert tree["slices"] == len(slices)

    # The values are those that each prediction alone has.
    scores = [label_scores(tmp_path / name, labels, None) for name in ("a", "b")]
    used = ~scores[0].truth.table["sop_uid"].isin(scores[0].unscored).to_numpy()
    target, k = scores[0].truth.target[used], label_index("any")
    first, second = (one.prob["stack"][used] for one in scores)
    expected = weighted_log_loss(second, target) - weighted_log_loss(first, target)
    assert tree["labelled"]["log_loss"]["value"] == pytest.approx(expected)
    gain = auc(second[:, k], target[:, k]) - auc(first[:, k], target[:, k])
    assert tree["labelled"]["auc_any"]["value"] == pytest.approx(gain)
    assert tree["labelled"]["log_loss"]["low"] <= expected <= tree["labelled"]["log_loss"]["high"]
    assert tree["labelled"]["n_groups"] == 6

    page = (tmp_path / "diff.html").read_text()
    assert "prefers-color-scheme: dark" in page
    assert "7 of 7 scored series are of patients whom A or B was trained on" in page
    assert "http" not in page
    assert "not a medical device" in page

    write_model_diff(model_folder, changed, [studies], tmp_path)
    assert json.loads((tmp_path / "diff.json").read_text())["labelled"] is None


def test_of_one_model_nothing_differs(
    model_folder: Path, studies: Path, labels: pd.DataFrame, tmp_path: Path
) -> None:
    text = write_model_diff(model_folder, model_folder, [studies], tmp_path, labels)
    assert text == "Nothing differs: both are the same model."
    tree = json.loads((tmp_path / "diff.json").read_text())
    assert tree["is_same"]
    assert all(tree[part] == {} for part in ("data", "config", "files", "figures"))
    assert tree["flips"] == 0
    assert tree["labelled"]["log_loss"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    slices = pd.read_csv(tmp_path / "slices.csv")
    for label in LABELS:
        np.testing.assert_array_equal(slices[f"a_{label}"], slices[f"b_{label}"])
