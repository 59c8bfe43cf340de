"""An ablation from a config to its table and page: what is trained, kept, resumed and refused."""

import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ich3d.ablation.run import ablate, rebuild
from ich3d.ablation.score_cache import (
    CachedScores,
    read_ground_truth,
    read_row,
    row_file,
    write_ground_truth,
    write_row,
)
from ich3d.cli.parser import main
from ich3d.config.ablation import AblationConfig, AblationRow
from ich3d.config.root import Config
from ich3d.core.errors import ConfigError, DataError
from ich3d.core.labels import LABELS
from ich3d.core.workspace import Workspace, read_csv
from ich3d.evaluation.ground_truth import GroundTruth

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
    "few patients": AblationRow(predictor="encoder", set=("control.patients=3",)),
}


@pytest.fixture(scope="module")
def ablated(finished_run: Config, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A copy of the finished run with an ablation over it."""
    folder = tmp_path_factory.mktemp("ablated") / "run"
    shutil.copytree(finished_run.workspace, folder)
    ablation = AblationConfig(seeds=2, reference="encoder", question="full BiGRU", rows=ROWS)
    config = replace(finished_run, workspace=str(folder), ablation=ablation)
    ablate(config)
    return config


def made_at(folder: Path) -> dict[str, int]:
    """When each stage's folder was finished."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("done.json")}


def test_every_row_is_in_the_table_with_its_differences(ablated: Config) -> None:
    table = read_csv(Path(ablated.workspace) / "ablation.csv", text=("label",))
    shown = list(dict.fromkeys(table["row"]))
    assert shown == [
        "base rate", "label continuity (oracle)", "encoder", "encoder + stacker", "rolling mean",
        "within 1 slice", "shuffled at test", "differences too", "full BiGRU", "full BiGRU + stacker",
        "forced + stacker", "few patients",
    ]  # fmt: skip
    paired = table[table["metric"].str.startswith("weighted_log_loss minus ")]
    against = dict(
        zip(
            paired["row"],
            paired["metric"].str.removeprefix("weighted_log_loss minus "),
            strict=True,
        )
    )
    assert against["within 1 slice"] == "encoder"
    assert against["full BiGRU + stacker"] == "full BiGRU"
    assert "base rate" not in against
    assert (table["low"].dropna() <= table["high"].dropna()).all()
    for metric in ("auc", "log_loss", "average_precision", "calibration_error", "series_auc"):
        assert set(table.loc[table["metric"] == metric, "label"]) == set(LABELS)


def test_no_encoder_is_trained_twice(ablated: Config) -> None:
    """The run's own stages are used where they fit; only other inputs make new folders."""
    made = [path.parent.name for path in (Path(ablated.workspace) / "ablation").rglob("fold0")]
    assert sum(name.startswith("encoder-") for name in made) == 1  # of few patients
    assert (
        sum(name.startswith("context-") for name in made) == 3
    )  # windows, and the full one's seed 1


def test_a_second_call_trains_nothing_and_says_the_same(ablated: Config) -> None:
    folder = Path(ablated.workspace)
    before, table = made_at(folder), (folder / "ablation.csv").read_bytes()
    ablate(ablated)
    assert made_at(folder) == before
    assert (folder / "ablation.csv").read_bytes() == table


def test_an_interrupted_ablation_goes_on(ablated: Config, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(ablated.workspace, folder)
    row_file(folder / "ablation" / "scores", "shuffled at test").unlink()
    kept = made_at(folder)
    ablate(replace(ablated, workspace=str(folder)))
    assert made_at(folder) == kept
    assert (folder / "ablation.csv").read_bytes() == (
        Path(ablated.workspace) / "ablation.csv"
    ).read_bytes()


@pytest.mark.parametrize("spoilt", [True, False])
def test_scores_that_do_not_fit_are_made_again(
    ablated: Config, tmp_path: Path, spoilt: bool
) -> None:
    """A file that cannot be read, and one whose scores are of other pixels."""
    folder = tmp_path / "run"
    shutil.copytree(ablated.workspace, folder)
    path = row_file(Workspace(folder).scores, "shuffled at test")
    row = read_row(path)
    if spoilt:
        path.write_bytes(b"no scores")
    else:
        other = replace(row.origin, store=("other pixels", row.origin.store[1]))
        write_row(path, CachedScores(np.full_like(row.prob, 0.5), other))
    kept = made_at(folder)
    ablate(replace(ablated, workspace=str(folder)))
    assert read_row(path).origin == row.origin
    np.testing.assert_array_equal(read_row(path).prob, row.prob)
    assert made_at(folder) == kept


@pytest.mark.parametrize("wrong", ["context.windw=1", "context.window=-4"])
def test_what_a_row_sets_is_read_before_anything_is_made(
    ablated: Config, tmp_path: Path, wrong: str
) -> None:
    rows = {"full BiGRU": AblationRow(), "wrong": AblationRow(set=(wrong,))}
    ablation = AblationConfig(reference="full BiGRU", rows=rows)
    with pytest.raises(ConfigError, match="wrong"):
        ablate(replace(ablated, workspace=str(tmp_path / "run"), ablation=ablation))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("rows", [("a", "a + stacker"), ("x, 1", "X. 1")])
def test_two_lines_may_not_share_a_file(rows: tuple[str, str]) -> None:
    with pytest.raises(ConfigError, match="no two lines share a file"):
        AblationConfig(reference=rows[0], rows={name: AblationRow(stacker="both") for name in rows})


def test_a_finished_runs_folds_are_not_dealt_anew(ablated: Config) -> None:
    folds = (Path(ablated.workspace) / "folds.csv").read_bytes()
    with pytest.raises(
        ConfigError, match="holds a finished run with another seed: name another workspace"
    ):
        ablate(replace(ablated, seed=ablated.seed + 1))
    assert (Path(ablated.workspace) / "folds.csv").read_bytes() == folds


def test_the_page_is_rebuilt_from_kept_scores_alone(ablated: Config, tmp_path: Path) -> None:
    workspace = Workspace(Path(ablated.workspace))
    shutil.copytree(workspace.scores, tmp_path / "kept")
    again = rebuild(replace(ablated, workspace=str(tmp_path / "nothing here")), tmp_path / "kept")
    assert again.page == tmp_path / "kept" / "ablation.html"
    csv = workspace.root / "ablation.csv"
    assert (tmp_path / "kept" / "ablation.csv").read_bytes() == csv.read_bytes()


def test_scores_of_another_config_are_refused(ablated: Config) -> None:
    other = replace(ablated, context=replace(ablated.context, hidden_size=8))
    with pytest.raises(DataError, match="was made with another config"):
        rebuild(other, Workspace(Path(ablated.workspace)).scores)


def test_scores_on_other_slices_are_refused(ablated: Config, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    shutil.copytree(Workspace(Path(ablated.workspace)).scores, folder)
    truth = read_ground_truth(folder)
    changed = truth.table.assign(any=1 - truth.table["any"])
    write_ground_truth(folder, GroundTruth(changed))
    with pytest.raises(DataError, match="on other slices"):
        rebuild(ablated, folder)


def test_a_spoilt_file_of_scores_is_named(ablated: Config, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    shutil.copytree(Workspace(Path(ablated.workspace)).scores, folder)
    row_file(folder, "full BiGRU").write_bytes(b"no scores")
    with pytest.raises(DataError, match=r"full_bigru\.safetensors holds no kept scores"):
        rebuild(ablated, folder)


def test_kept_scores_are_the_stages_own(ablated: Config) -> None:
    """Seed 0 of the full row is what the run wrote out of fold."""
    workspace = Workspace(Path(ablated.workspace))
    kept = read_row(row_file(workspace.scores, "full BiGRU")).prob[0]
    ran = read_csv(workspace.oof("context"))[[f"prob_{label}" for label in LABELS]].to_numpy()
    np.testing.assert_allclose(kept, ran, atol=1e-3)


class Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.text, self.links = "", 0

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += sum(
            name in ("src", "href") and not str(to).startswith("data:") for name, to in attrs
        )


def test_the_page_says_what_was_compared_and_needs_nothing_else(ablated: Config) -> None:
    page = Text()
    page.feed((Path(ablated.workspace) / "ablation.html").read_text())
    assert page.links == 0
    assert "Weighted log loss: full BiGRU" in page.text
    for said in (
        "6 patient groups",
        "2 a trained row",
        "too few to judge",
        "control.shuffle=test",
        "oracle",
    ):
        assert said in page.text


def test_the_command_rebuilds_from_scores(
    ablated: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import yaml

    from ich3d.config.load import as_dict

    path = tmp_path / "ablation.yaml"
    path.write_text(yaml.safe_dump(as_dict(ablated)))
    scores = Workspace(Path(ablated.workspace)).scores
    assert main(["ablate", "--config", str(path), "--scores", str(scores)]) == 0
    assert "| full BiGRU + stacker |" in capsys.readouterr().out
    assert main(["ablate", "--config", str(path), "--scores", str(tmp_path)]) == 2
    assert "slices.csv.gz is missing" in capsys.readouterr().err


def test_an_ablation_of_another_config_leaves_the_finished_run_alone(
    ablated: Config, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(ablated.workspace, folder)
    run = {str(path): path.stat().st_mtime_ns for path in folder.glob("*/fold*/done.json")}
    other = replace(
        ablated,
        workspace=str(folder),
        context=replace(ablated.context, hidden_size=8),
        ablation=AblationConfig(reference="other", rows={"other": AblationRow()}),
    )
    ablate(other)
    assert {str(path): path.stat().st_mtime_ns for path in folder.glob("*/fold*/done.json")} == run


def test_a_row_is_made_again_where_the_weights_it_starts_from_changed(
    ablated: Config, tmp_path: Path
) -> None:
    folder, weights = tmp_path / "run", tmp_path / "start.safetensors"
    shutil.copytree(ablated.workspace, folder)
    tensors = load_file(Workspace(folder).stage("context", 0) / "weights.safetensors")
    save_file(tensors, weights)
    row = AblationRow(set=(f"context.weights={weights}", "context.epochs=1"))
    ablation = AblationConfig(reference="from weights", rows={"from weights": row})
    config = replace(ablated, workspace=str(folder), ablation=ablation)
    kept = row_file(Workspace(folder).scores, "from weights")
    ablate(config)
    first = read_row(kept).prob
    save_file({name: tensor + 0.5 for name, tensor in tensors.items()}, weights)
    ablate(config)
    assert np.abs(read_row(kept).prob - first).max() > 1e-3
