"""Reading configuration files: bases, overrides, and errors that name the file and the key."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from ich3d.config.load import as_dict, from_dict, load_config
from ich3d.config.root import Config
from ich3d.config.schema import PhantomConfig, SlicesConfig
from ich3d.core.errors import ConfigError

CONFIGS = sorted((Path(__file__).parents[2] / "configs").rglob("*.yaml"))


def write(folder: Path, text: str, name: str = "run.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def error(path: Path, *overrides: str) -> str:
    """The message of the ConfigError that loading the file raises."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_an_empty_file_is_the_default(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "")) == Config()


@pytest.mark.parametrize(
    ("text", "key", "near"),
    [
        ("slices: {encodr: resnet18}", "slices.encodr", "slices.encoder"),
        ("slcies: {encoder: resnet18}", "slcies", "slices"),
        ("prepare:\n  matrx: 64", "prepare.matrx", "prepare.matrix"),
        ("epochs: 3", "epochs", "slices.epochs"),
    ],
)
def test_an_unknown_key_is_named_with_its_file_and_the_nearest(
    tmp_path: Path, text: str, key: str, near: str
) -> None:
    path = write(tmp_path, text)
    message = error(path)
    assert (
        message
        == f"{path}, line {text.count(chr(10)) + 1}: there is no key {key}; did you mean '{near}'?"
    )


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("slices: {encoder: resnet19}", "slices.encoder"),
        ("slices: {epochs: many}", "slices.epochs: Value 'many'"),
        ("slices: 3", "slices is a section with keys such as slices.encoder, not a value"),
        ("slices:", "`ich3d config slices` lists them"),
        (
            "slices: {weights: '${oc.env:ICH3D_NOT_SET}'}",
            "slices.weights needs the environment variable ICH3D_NOT_SET, which is not set",
        ),
        ("slices: {windows: brain}", "slices.windows"),
        ("slices: {windows: [brian]}", "no window is called 'brian'; did you mean 'brain'?"),
        ("phantom: {thickness_mm: []}", "phantom.thickness_mm"),
        ("precision: fp16", "precision"),
        ("{prepare: {folds: 5}, control: {patients: 3}}", "control.patients"),
        ("ablation: {rows: {a: {predictor: base rate, stacker: both}}}", "stacker"),
        ("ablation: {rows: {a: {set: [prepare.matrix=256]}}}", "set"),
        ("ablation: {question: encoder}", "ablation.question"),
        ("slices: {windows: {brain: 1}}", "slices.windows is a list such as [a, b], got {'brain'"),
        ("phantom: {noise_hu: [a, 6]}", "phantom.noise_hu is a list such as [2.5, 6.0], got ['a'"),
        ("context: {hidden_size: [3]}", "context.hidden_size is a single value, got [3]"),
        ("phantom: {prevalence: 3}", "phantom.prevalence holds named values, got 3"),
        ("ablation: {rows: [encoder]}", "ablation.rows holds named values"),
        ("ablation: {rows: {a: 3}}", "ablation.rows.a: a row holds keys such as predictor, or {}"),
        ("ablation: {rows: {a b: {set: x}}}", "ablation.rows.a b.set is a list such as [a, b]"),
        ("ablation: {rows: {a: {set: [{seed: 3}]}}}", "ablation.rows.a.set is a list such as"),
        ("phantom: {prevalence: {any: [1]}}", "phantom.prevalence.any is a single value, got [1]"),
        ("seed: null", "seed"),
    ],
)
def test_a_value_that_is_not_allowed_is_named_with_its_file(
    tmp_path: Path, text: str, key: str
) -> None:
    path = write(tmp_path, text)
    message = error(path)
    assert message.startswith((f"{path}, line 1: ", f"{path}: "))  # not all name one key
    assert key in message.partition(": ")[2]


def test_an_error_names_the_line_of_the_file_that_holds_the_key(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("seed: 1\nslices:\n  lr: 0.1\n  epochs: 0\n")
    path = write(tmp_path, "base: base.yaml\nslices:\n\n  encodr: resnet10\n")
    assert error(path).startswith(f"{path}, line 4: there is no key slices.encodr")
    path = write(tmp_path, "base: base.yaml\n")
    assert error(path).startswith(f"{tmp_path / 'base.yaml'}, line 4: slices.epochs must be")
    assert error(path, "slices.epochs=-1").startswith("--set: slices.epochs must be")


def test_bad_yaml_names_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, "seed: 1\nslices:\n  epochs: [1\n")
    assert error(path).startswith(f"{path}, line 4, is not valid YAML: ")


def test_a_missing_file_is_named_with_the_nearest_name(tmp_path: Path) -> None:
    write(tmp_path, "seed: 1")
    assert error(tmp_path / "rin.yaml").endswith("did you mean 'run.yaml'?")
    assert error(tmp_path) == f"{tmp_path} is a folder, not a configuration: name a YAML file"


def test_a_file_wins_over_its_bases_and_overrides_over_both(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    write(tmp_path, "seed: 1\nworkspace: runs/far\nslices: {epochs: 3, lr: 0.5}", "far.yaml")
    write(tmp_path, "base: far.yaml\nseed: 2\nslices: {epochs: 4}", "near.yaml")
    path = write(tmp_path, "base: ../near.yaml\nslices: {batch_size: 8}", "more/run.yaml")
    config = load_config(path, ["slices.lr=0.25", "context.hidden_size=16"])
    assert config.seed == 2
    assert config.workspace == "runs/far"
    assert config.slices == replace(SlicesConfig(), epochs=4, batch_size=8, lr=0.25)
    assert config.context.hidden_size == 16


def test_the_later_of_several_bases_wins(tmp_path: Path) -> None:
    write(tmp_path, "seed: 1\nslices: {epochs: 3}", "one.yaml")
    write(tmp_path, "seed: 2", "two.yaml")
    config = load_config(write(tmp_path, "base: [one.yaml, two.yaml]"))
    assert (config.seed, config.slices.epochs) == (2, 3)


def test_a_missing_base_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "base: nowhere.yaml")
    assert str(tmp_path / "nowhere.yaml") in error(path)


@pytest.mark.parametrize("base", ["run.yaml", "[run.yaml]", "[3]", "3"])
def test_a_base_that_cannot_be_is_refused(tmp_path: Path, base: str) -> None:
    path = write(tmp_path, f"base: {base}")
    message = error(path)
    assert str(path) in message
    assert "base" in message


def test_tuples_stay_tuples(tmp_path: Path) -> None:
    path = write(tmp_path, "slices: {windows: [bone, brain]}\nphantom: {thickness_mm: [3, 5]}")
    config = load_config(path, ["phantom.fov_mm=[200,210]"])
    assert config.slices.windows == ("bone", "brain")
    assert config.phantom == replace(
        PhantomConfig(), thickness_mm=(3.0, 5.0), fov_mm=(200.0, 210.0)
    )


def test_an_override_replaces_a_tuple_whole(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, ""), ["slices.windows=[bone]"]).slices.windows == ("bone",)


@pytest.mark.parametrize("override", ["slices", "=3", "slices.epoch=3", "slices.epochs="])
def test_an_override_that_does_not_fit_is_refused(tmp_path: Path, override: str) -> None:
    assert error(write(tmp_path, ""), override)


def test_an_environment_variable_is_inserted_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "source: {kind: ct_ich, path: '${oc.env:SOME_DATA}/ct'}")
    monkeypatch.setenv("SOME_DATA", "/data")
    assert load_config(path).source.path == "/data/ct"
    monkeypatch.delenv("SOME_DATA")
    message = error(path)
    assert "SOME_DATA" in message
    assert "source.path" in message

    path = write(tmp_path, "phantom: {thickness_mm: ['${oc.env:SOME_MM}', '2.5']}")
    monkeypatch.setenv("SOME_MM", "5")
    assert load_config(path).phantom.thickness_mm == (5.0, 2.5)


@pytest.mark.parametrize(
    "text", ["- a", "a: [", "seed: 1\nseed: 2", "just words", "slices: [a]", "slices: 3"]
)
def test_a_file_without_keys_and_values_is_refused(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)
    assert str(path) in error(path)


def test_a_config_is_the_same_after_json(tmp_path: Path) -> None:
    config = load_config(
        write(
            tmp_path, "seed: 3\nphantom: {prevalence: {subdural: 0.5}}\nslices: {windows: [bone]}"
        )
    )
    assert from_dict(json.loads(json.dumps(as_dict(config))), "manifest.json") == config


def test_errors_in_json_name_their_origin() -> None:
    with pytest.raises(ConfigError, match=r"^manifest\.json: .*slices\.encodr"):
        from_dict({"slices": {"encodr": "x"}}, "manifest.json")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_config_of_the_repository_loads(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in (file.read_text() for file in CONFIGS):
        for name in re.findall(r"oc\.env:(\w+)", text):
            monkeypatch.setenv(name, "data")
    assert load_config(path) != Config()
