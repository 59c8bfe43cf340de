"""An ablation from its config to its table: what is trained, cached, resumed and refused."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file

from ich3d.ablation.run import ablate, rebuild
from ich3d.ablation.score_cache import (
    CachedScores,
    read_ground_truth,
    read_scores,
    scores_file,
    write_ground_truth,
    write_scores,
)
from ich3d.cli.parser import main
from ich3d.config.ablation import AblationConfig, AblationRow
from ich3d.config.load import as_dict
from ich3d.config.root import Config
from ich3d.config.schema import ReportConfig
from ich3d.core.errors import ConfigError, DataError
from ich3d.core.ground_truth import GroundTruth
from ich3d.core.labels import LABELS
from ich3d.core.workspace import Workspace, read_csv

ROWS = {
    "base rate": AblationRow(predictor="base rate", against="base rate"),
    "label continuity (oracle)": AblationRow(predictor="label continuity", against="base rate"),
    "encoder": AblationRow(predictor="encoder", against="base rate", stacker="both"),
    "rolling mean": AblationRow(predictor="rolling mean"),
    "within 1 slice": AblationRow(set=("context.window=1",)),
    "shuffled at test": AblationRow(set=("control.shuffle=test",), against="full BiGRU"),
    "differences too": AblationRow(set=("control.shuffle=with_differences",), against="full BiGRU"),
    "full BiGRU": AblationRow(stacker="both"),
    "forced": AblationRow(
        set=("control.force_stacker=true",), stacker="only", against="full BiGRU"
    ),
    "cut to 2 slices": AblationRow(
        set=("control.cut=2",), stacker="both", stacked_against="encoder"
    ),
    "few patients": AblationRow(predictor="encoder", set=("control.patients=3", "slices.epochs=1")),
}


@pytest.fixture(scope="module")
def ablated(finished_run: Config, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The config of an ablation over a copy of the finished run; its workspace is read-only."""
    folder = tmp_path_factory.mktemp("ablated") / "run"
    shutil.copytree(finished_run.workspace, folder)
    ablation = AblationConfig(seeds=2, reference="encoder", question="full BiGRU", rows=ROWS)
    config = replace(
        finished_run,
        workspace=str(folder),
        report=ReportConfig(resamples=10),
        ablation=ablation,
    )
    ablate(config)
    return config


@pytest.fixture
def copied(ablated: Config, tmp_path: Path) -> Config:
    """The same ablation in a workspace of its own."""
    folder = tmp_path / "run"
    shutil.copytree(ablated.workspace, folder)
    return replace(ablated, workspace=str(folder))


@pytest.fixture
def cached(ablated: Config, tmp_path: Path) -> Path:
    """A copy of the scores that the ablation cached."""
    folder = tmp_path / "cached"
    shutil.copytree(Workspace(Path(ablated.workspace)).scores, folder)
    return folder


def finished_stages(folder: Path) -> dict[str, int]:
    """When each stage of each fold was finished."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("done.json")}


def test_every_row_is_in_the_table_with_its_differences(ablated: Config) -> None:
    table = read_csv(Path(ablated.workspace) / "ablation.csv", text=("label",))
    assert list(table["row"].unique()) == [
        "base rate", "label continuity (oracle)", "encoder", "encoder + stacker", "rolling mean",
        "within 1 slice", "shuffled at test", "differences too", "full BiGRU",
        "full BiGRU + stacker", "forced + stacker", "cut to 2 slices",
        "cut to 2 slices + stacker", "few patients",
    ]  # fmt: skip

    prefix = "weighted_log_loss minus "
    compared = table[table["metric"].str.startswith(prefix)].set_index("row")["metric"]
    against = compared.str.removeprefix(prefix)
    assert against["within 1 slice"] == "encoder"
    assert against["full BiGRU + stacker"] == "full BiGRU"
    assert against["cut to 2 slices"] == against["cut to 2 slices + stacker"] == "encoder"
    assert "base rate" not in against
    assert (table["low"].dropna() <= table["high"].dropna()).all()


def test_a_stage_is_trained_only_for_other_inputs_than_the_runs(ablated: Config) -> None:
    folders = [path.parent.name for path in (Path(ablated.workspace) / "ablation").rglob("fold0")]
    encoders = [name for name in folders if name.startswith("encoder-")]
    contexts = [name for name in folders if name.startswith("context-")]
    assert len(encoders) == 1  # few patients
    assert len(contexts) == 3  # within 1 slice with two seeds, and the second seed of full BiGRU


def test_cached_scores_are_those_that_the_run_wrote(ablated: Config) -> None:
    workspace = Workspace(Path(ablated.workspace))
    cached = read_scores(scores_file(workspace.scores, "full BiGRU")).prob[0]
    columns = [f"prob_{label}" for label in LABELS]
    run = read_csv(workspace.oof("context"))[columns].to_numpy()
    np.testing.assert_allclose(cached, run, atol=1e-3)


def test_the_page_is_that_of_the_question(ablated: Config) -> None:
    page = (Path(ablated.workspace) / "ablation.html").read_text(encoding="utf-8")
    assert "Weighted log loss: full BiGRU" in page
    assert "6 patient groups" in page


def test_a_repeated_ablation_trains_nothing_and_gives_the_same_table(copied: Config) -> None:
    """Scores that are missing, unreadable or of other pixels are computed from kept stages."""
    folder = Path(copied.workspace)
    finished, table = finished_stages(folder), (folder / "ablation.csv").read_bytes()
    scores = Workspace(folder).scores
    missing = scores_file(scores, "shuffled at test")
    unreadable = scores_file(scores, "within 1 slice")
    other_pixels = scores_file(scores, "differences too")
    expected = {path: read_scores(path) for path in (missing, unreadable, other_pixels)}

    missing.unlink()
    unreadable.write_bytes(b"no scores")
    row = expected[other_pixels]
    provenance = replace(row.provenance, store=("other pixels", row.provenance.store[1]))
    write_scores(other_pixels, CachedScores(np.full_like(row.prob, 0.5), provenance))
    ablate(copied)

    assert finished_stages(folder) == finished
    assert (folder / "ablation.csv").read_bytes() == table
    for path, before in expected.items():
        assert read_scores(path).provenance == before.provenance
        np.testing.assert_array_equal(read_scores(path).prob, before.prob)


def test_cached_scores_are_not_computed_again(copied: Config) -> None:
    folder = Path(copied.workspace)
    scores = sorted(Workspace(folder).scores.glob("*.safetensors"))
    assert len(scores) >= 12  # those of another ablation may lie beside them
    before = [path.stat().st_mtime_ns for path in scores]
    ablate(copied)
    assert [path.stat().st_mtime_ns for path in scores] == before


@pytest.mark.parametrize("wrong", ["context.windw=1", "context.window=-4"])
def test_a_wrong_row_is_refused_before_anything_is_trained(
    ablated: Config, tmp_path: Path, wrong: str
) -> None:
    rows = {"full BiGRU": AblationRow(), "wrong": AblationRow(set=(wrong,))}
    ablation = AblationConfig(reference="full BiGRU", rows=rows)
    with pytest.raises(ConfigError, match="wrong"):
        ablate(replace(ablated, workspace=str(tmp_path / "run"), ablation=ablation))
    assert not (tmp_path / "run").exists()


def test_the_folds_of_a_finished_run_are_not_assigned_again(ablated: Config) -> None:
    folds = (Path(ablated.workspace) / "folds.csv").read_bytes()
    message = "holds a finished run with another seed: name another workspace"
    with pytest.raises(ConfigError, match=message):
        ablate(replace(ablated, seed=ablated.seed + 1))
    assert (Path(ablated.workspace) / "folds.csv").read_bytes() == folds


def test_the_table_is_rebuilt_from_cached_scores_alone(
    ablated: Config, cached: Path, tmp_path: Path
) -> None:
    result = rebuild(replace(ablated, workspace=str(tmp_path / "missing")), cached)
    assert result.page == cached / "ablation.html"
    table = Path(ablated.workspace) / "ablation.csv"
    assert (cached / "ablation.csv").read_bytes() == table.read_bytes()


def test_scores_of_another_config_are_refused(ablated: Config, cached: Path) -> None:
    other = replace(ablated, context=replace(ablated.context, hidden_size=8))
    with pytest.raises(DataError, match="was computed with another config"):
        rebuild(other, cached)


def relabel(folder: Path) -> None:
    table = read_ground_truth(folder).table
    write_ground_truth(folder, GroundTruth(table.assign(any=1 - table["any"])))


def spoil(folder: Path) -> None:
    scores_file(folder, "full BiGRU").write_bytes(b"no scores")


def remove(folder: Path) -> None:
    scores_file(folder, "full BiGRU").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (relabel, "on other slices"),
        (spoil, r"full_bigru\.safetensors does not contain the scores of a row"),
        (remove, r"full_bigru\.safetensors is missing"),
    ],
)
def test_cached_scores_that_do_not_fit_are_refused(
    ablated: Config, cached: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(cached)
    with pytest.raises(DataError, match=message):
        rebuild(ablated, cached)


def test_the_command_rebuilds_from_cached_scores(
    ablated: Config, cached: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ablation.yaml"
    path.write_text(yaml.safe_dump(as_dict(ablated)))
    assert main(["ablate", "--config", str(path), "--scores", str(cached)]) == 0
    assert "| full BiGRU + stacker |" in capsys.readouterr().out
    assert main(["ablate", "--config", str(path), "--scores", str(tmp_path)]) == 2
    assert "slices.csv.gz is missing" in capsys.readouterr().err


def test_an_ablation_of_another_config_does_not_change_the_finished_run(copied: Config) -> None:
    folder = Path(copied.workspace)
    stages = ("encoder", "context", "stack")
    before = [finished_stages(folder / stage) for stage in stages]
    other = replace(
        copied,
        context=replace(copied.context, hidden_size=8, epochs=1),
        ablation=AblationConfig(reference="other", rows={"other": AblationRow()}),
    )
    with pytest.raises(DataError, match="from other rows"):
        ablate(other)
    ablate(other, overwrite=True)
    assert [finished_stages(folder / stage) for stage in stages] == before
    assert all(before)


def test_a_row_is_trained_again_where_its_initial_weights_changed(
    copied: Config, tmp_path: Path
) -> None:
    weights = tmp_path / "start.safetensors"
    scores = Workspace(Path(copied.workspace)).scores
    tensors = load_file(
        Workspace(Path(copied.workspace)).stage("context", 0) / "weights.safetensors"
    )
    row = AblationRow(set=(f"context.weights={weights}", "context.epochs=1"))
    ablation = AblationConfig(reference="from weights", rows={"from weights": row})
    config = replace(copied, ablation=ablation)

    save_file(tensors, weights)
    ablate(config, overwrite=True)
    first = read_scores(scores_file(scores, "from weights")).prob
    save_file({name: tensor + 0.5 for name, tensor in tensors.items()}, weights)
    ablate(config, overwrite=True)
    second = read_scores(scores_file(scores, "from weights")).prob
    assert np.abs(second - first).max() > 1e-3
