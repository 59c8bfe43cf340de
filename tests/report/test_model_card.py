"""The card of a model shows the figures of its run, and refuses those of another model."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from ich3d.config.root import Config
from ich3d.core.errors import DataError, ModelError
from ich3d.core.labels import FLAG_AT, LABELS
from ich3d.core.operating_point import operating_points
from ich3d.core.workspace import Workspace, read_csv, read_json
from ich3d.evaluation.predictions import label_scores
from ich3d.evaluation.run import out_of_fold
from ich3d.evaluation.table import markdown
from ich3d.inference.run import predict_to_folder
from ich3d.model.folder import load_model
from ich3d.model.manifest import read_manifest
from ich3d.model.starter import FIGURES
from ich3d.report.evaluation_page import points_markdown, write_evaluation
from ich3d.report.model_card import THRESHOLDS, write_card
from ich3d.sources import read_labels
from tests.helpers.manifests import edit_manifest
from tests.helpers.runs import copy_run, workspace_of


@pytest.fixture
def workspace(finished_run: Config, tmp_path: Path) -> Workspace:
    """A copy of the finished run."""
    return workspace_of(copy_run(finished_run, tmp_path / "run"))


def judged_prediction(workspace: Workspace, folder: Path) -> Path:
    """Predict the run's own studies, and judge that against their labels; `evaluation.csv`."""
    source = workspace.source("phantom")
    predict_to_folder(load_model(workspace.model), [source], folder)
    scores = label_scores(folder, read_labels(source / "labels.csv"), None)
    write_evaluation(scores, folder, 0.5, draws=10, seed=0)
    return folder / "evaluation.csv"


def test_the_card_shows_the_figures_of_the_run(finished_run: Config, workspace: Workspace) -> None:
    path = write_card(workspace.model)
    assert path == workspace.root / "MODEL_CARD.md"
    card = path.read_text(encoding="utf-8")

    result, draws = out_of_fold(workspace), finished_run.report.resamples
    rows = result.result_rows(draws, finished_run.seed)
    assert markdown(rows, result.truth) in card
    points = operating_points(result.prob["stack"], result.truth, FLAG_AT, draws, finished_run.seed)
    assert points_markdown(points) in card
    for threshold in THRESHOLDS:
        assert f"\n| {threshold} | " in card
    for label in LABELS:
        assert f"\n| {label} | {result.truth.positive_patients[label]} | " in card


def test_it_says_what_the_model_is_and_whose_the_figures_are(workspace: Workspace) -> None:
    card = write_card(workspace.model).read_text(encoding="utf-8")
    assert "not a medical device" in card
    assert "No patient took part" in card  # it was trained on phantoms
    assert read_manifest(workspace.model).sha256 in card
    assert "scored by the one fold that was not trained on that patient" in card
    assert "judged on patients of its own training set alone" in card
    assert "encoder: resnet10-half\n" in card  # the configuration
    assert "nan" not in card
    assert str(workspace.root) not in card


def test_the_figures_are_also_there_for_programs(workspace: Workspace) -> None:
    write_card(workspace.model)
    figures = read_json(workspace.root / FIGURES)
    table = read_csv(workspace.oof("stack"))
    assert figures["model_sha256"] == read_manifest(workspace.model).sha256
    assert figures["patients"] == table["group_id"].nunique()
    assert figures["slices"] == len(table)
    assert figures["evaluations"] == {}

    (loss,) = (
        record["value"]
        for record in figures["out_of_fold"]["metrics"]
        if (record["row"], record["metric"]) == ("stack", "weighted_log_loss")
    )
    assert loss == pytest.approx(read_json(workspace.run)["weighted_log_loss"]["stack"], abs=1e-5)
    points = figures["out_of_fold"]["operating_points"]
    assert len(points) == 2 * len(LABELS) * len(THRESHOLDS)


def test_an_evaluation_of_the_model_is_shown(workspace: Workspace, tmp_path: Path) -> None:
    evaluation = judged_prediction(workspace, tmp_path / "out")
    card = write_card(workspace.model, evaluations={"the same heads": evaluation})
    text = card.read_text(encoding="utf-8")
    table = pd.read_csv(evaluation, keep_default_na=False)
    is_loss = (table["row"] == "stack") & (table["metric"] == "weighted_log_loss")
    loss = float(table.loc[is_loss, "value"].iloc[0])
    section = text.partition("### the same heads\n")[2].partition("\n## ")[0]
    assert f"Weighted log loss {loss:.4f} (" in section
    assert "nan" not in section
    assert list(read_json(workspace.root / FIGURES)["evaluations"]) == ["the same heads"]


def test_an_evaluation_of_another_model_or_of_some_folds_is_refused(
    workspace: Workspace, tmp_path: Path
) -> None:
    evaluation = judged_prediction(workspace, tmp_path / "out")
    edit_manifest(workspace.model, lambda manifest: manifest.update(ich3d_version="0.0"))
    with pytest.raises(ModelError, match=r"the predictions in .*out are those of another model"):
        write_card(workspace.model, evaluations={"x": evaluation})

    shutil.rmtree(tmp_path / "out")
    source = workspace.source("phantom")
    predict_to_folder(load_model(workspace.model).fold(0), [source], tmp_path / "out")
    shutil.copy(workspace.oof("stack"), evaluation)
    with pytest.raises(ModelError, match="those of some folds alone"):
        write_card(workspace.model, evaluations={"x": evaluation})


def test_the_model_must_be_that_of_the_run(workspace: Workspace, tmp_path: Path) -> None:
    elsewhere = Path(shutil.copytree(workspace.model, tmp_path / "elsewhere" / "model"))
    card = write_card(elsewhere, workspace.root)
    assert card == tmp_path / "elsewhere" / "MODEL_CARD.md"
    with pytest.raises(DataError, match=r"holds no finished run: name the run folder"):
        write_card(elsewhere)

    def leave_out(manifest: dict[str, object]) -> None:
        files = manifest["files"]
        assert isinstance(files, dict)
        del files["context/fold0.safetensors"]

    edit_manifest(elsewhere, leave_out)
    (elsewhere / "context" / "fold0.safetensors").unlink()
    with pytest.raises(DataError, match="holds the card of another model"):
        write_card(elsewhere, workspace.root)
    with pytest.raises(ModelError, match="is not the model that was trained in"):
        write_card(elsewhere, workspace.root, overwrite=True)
    assert not (workspace.root / "MODEL_CARD.md").exists()
