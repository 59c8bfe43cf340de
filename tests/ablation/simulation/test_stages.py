"""Rows on simulated scores, from the configuration to the table."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from ich3d.ablation.run import ablate, rebuild
from ich3d.ablation.score_cache import read_ground_truth, read_scores, scores_file
from ich3d.ablation.simulation.evidence import LOG_LOSS
from ich3d.ablation.simulation.sequences import read_sequences
from ich3d.ablation.simulation.stages import SimulatedScores, SimulatedStages, scrambled_order
from ich3d.cli.parser import main
from ich3d.config.ablation import AblationConfig, AblationRow, ControlConfig
from ich3d.config.load import as_dict
from ich3d.config.root import Config
from ich3d.config.schema import (
    ContextConfig,
    PrepareConfig,
    ReportConfig,
    SourceConfig,
    StackConfig,
)
from ich3d.config.simulation import SimulationConfig
from ich3d.core.errors import ConfigError
from ich3d.core.labels import LABELS
from ich3d.core.metrics import label_log_loss, sigmoid, weighted_log_loss
from ich3d.core.workspace import Workspace
from ich3d.crossfit.existing import require_trainable
from ich3d.crossfit.inputs import inputs_sha256
from ich3d.prepare.build import prepare
from tests.helpers.sequences import made_up_sequences, write_sequences

ROWS = {
    "encoder": AblationRow(predictor="encoder", against="encoder", stacker="both"),
    "rolling mean": AblationRow(predictor="rolling mean"),
    "smoother": AblationRow(predictor="smoother"),
    "BiGRU": AblationRow(against="smoother"),
    "scrambled: encoder": AblationRow(
        predictor="encoder", set=("simulation.scrambled=true",), stacker="both"
    ),
    "15 mm: encoder": AblationRow(predictor="encoder", set=("simulation.correlated=1.0",)),
}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The configuration of a small simulation that was run."""
    folder = tmp_path_factory.mktemp("simulated")
    table = made_up_sequences(90)
    config = Config(
        workspace=str(folder / "run"),
        source=SourceConfig(kind="sequences", path=str(write_sequences(folder, table))),
        prepare=PrepareConfig(folds=3),
        context=ContextConfig(
            ensemble_size=1, subseries=0.0, dropout=0.1, hidden_size=16, epochs=6, lr=0.01
        ),
        stack=StackConfig(num_trees=10, learning_rate=0.2),
        control=ControlConfig(stacker_without="hu"),
        report=ReportConfig(resamples=20),
        ablation=AblationConfig(title="How near?", reference="encoder", rows=ROWS),
    )
    ablate(config)
    return config


@pytest.fixture(scope="module")
def loss(config: Config) -> dict[str, float]:
    """The weighted log loss of each row."""
    folder = Workspace(Path(config.workspace)).scores
    target = read_ground_truth(folder).target
    names = [line for name, row in ROWS.items() for line in row.lines(name)]
    return {
        name: weighted_log_loss(read_scores(scores_file(folder, name)).prob[0], target)
        for name in names
    }


def test_stages_gain_by_neighbours_and_less_than_who_knows_the_process(
    loss: dict[str, float],
) -> None:
    assert loss["smoother"] < 0.5 * loss["encoder"]
    assert loss["smoother"] < loss["encoder + stacker"] < 0.9 * loss["encoder"]
    assert loss["rolling mean"] < loss["encoder"]
    assert loss["smoother"] < loss["BiGRU"] < 0.9 * loss["encoder"]


def test_nothing_is_gained_where_order_and_series_are_shuffled(loss: dict[str, float]) -> None:
    assert loss["scrambled: encoder"] == pytest.approx(loss["encoder"], rel=1e-3)
    assert loss["scrambled: encoder + stacker"] > 0.97 * loss["encoder"]


def test_the_encoder_has_the_published_log_losses_in_each_process(config: Config) -> None:
    store = read_sequences(config)
    wanted = [LOG_LOSS[label] for label in LABELS]
    for simulation in (SimulationConfig(), SimulationConfig(correlated=0.5, offset=0.2)):
        scores = SimulatedScores(store, simulation, config.seed)
        loss = label_log_loss(scores.prob, store.table[list(LABELS)].to_numpy(float))
        np.testing.assert_allclose(loss, wanted, rtol=1e-3)


def test_embeddings_say_what_the_logits_say(config: Config) -> None:
    scores = SimulatedScores(read_sequences(config), SimulationConfig(embedding_width=40), 0)
    store, order = scores.store, np.arange(len(scores.store.table))
    embedded = scores.embedded(order)
    logits = np.concatenate([embedded[name].logits for name in store.volume_ids])
    embeddings = np.concatenate([embedded[name].embeddings for name in store.volume_ids])
    assert embeddings.shape[1] == 40
    np.testing.assert_allclose(sigmoid(logits), scores.prob, atol=1e-5)
    fitted = embeddings @ np.linalg.lstsq(embeddings, logits)[0]
    assert (fitted - logits).std() < 0.25


def test_scrambled_slices_stay_in_their_fold_and_find_back(config: Config) -> None:
    store = read_sequences(config)
    order = scrambled_order(store, 0)
    assert sorted(order) == list(range(len(store.table)))
    fold = store.table["fold"].to_numpy()
    np.testing.assert_array_equal(fold[order], fold)
    assert (order != np.arange(len(order))).mean() > 0.9

    scrambled = replace(config, simulation=SimulationConfig(scrambled=True))
    scores = SimulatedScores(store, SimulationConfig(), config.seed)
    stages = SimulatedStages(scrambled, Workspace(Path(config.workspace)), scores, config)
    embedded = stages.embedded()
    rows = np.concatenate([sigmoid(embedded[name].logits) for name in store.volume_ids])
    np.testing.assert_allclose(stages.in_place(rows), scores.prob, atol=1e-5)
    targets = np.concatenate([stages.store.targets(name) for name in store.volume_ids])
    np.testing.assert_array_equal(stages.in_place(targets), store.table[list(LABELS)])


def test_the_page_says_that_it_is_a_simulation(config: Config) -> None:
    page = (Path(config.workspace) / "ablation.html").read_text()
    assert "<h1>Simulation: How near?</h1>" in page
    assert "any 0.1052" in page


def test_a_repeated_ablation_trains_nothing_and_gives_the_same_table(config: Config) -> None:
    folder = Path(config.workspace)
    before = (folder / "ablation.csv").read_bytes()
    done = {path: path.stat().st_mtime_ns for path in folder.rglob("done.json")}
    ablate(config)
    assert (folder / "ablation.csv").read_bytes() == before
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("done.json")} == done
    rebuild(config, Workspace(folder).scores)


def test_sequences_are_for_ablations_alone(config: Config) -> None:
    with pytest.raises(ConfigError, match=r"source\.kind sequences holds no images"):
        require_trainable(replace(config, control=ControlConfig()))
    with pytest.raises(ConfigError, match=r"source\.kind sequences holds no images"):
        prepare(config)
    with pytest.raises(ConfigError, match=r"another one than smoother unless source\.kind is seq"):
        Config(ablation=AblationConfig(reference="smoother", rows={"smoother": ROWS["smoother"]}))


def test_the_process_is_an_input_of_simulated_stages_alone(config: Config) -> None:
    other = replace(config, simulation=SimulationConfig(correlated=0.5))
    assert inputs_sha256(config, "context", []) != inputs_sha256(other, "context", [])
    images = Config()
    with_process = replace(images, simulation=other.simulation)
    assert inputs_sha256(images, "context", []) == inputs_sha256(with_process, "context", [])


def test_the_command_ends_well_though_nothing_was_prepared(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(as_dict(config)))
    assert main(["ablate", "--config", str(path)]) == 0
    assert "| smoother |" in capsys.readouterr().out

    missing = str(tmp_path / "no.csv")
    assert main(["ablate", "--config", str(path), "--set", f"source.path={missing}"]) == 2
    assert f"there is no table of label sequences {missing}" in capsys.readouterr().err
