"""Key names of version 0.1: refused in what a user writes, read in what ich3d wrote itself."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ich3d.config.ablation import AblationConfig, AblationRow, ControlConfig
from ich3d.config.load import as_dict, from_dict, load_config, with_overrides
from ich3d.config.renamed import RENAMED, renamed_keys, with_new_names
from ich3d.config.root import Config
from ich3d.config.schema import ContextConfig, SlicesConfig, StackConfig
from ich3d.core.errors import ConfigError

CONFIG = Config(
    slices=SlicesConfig(ensemble_size=2, tta_flip=False, validation_fraction=0.1),
    context=ContextConfig(
        ensemble_size=1, hidden_size=16, num_layers=2, validation_fraction=0.3, window=2
    ),
    stack=StackConfig(num_trees=50, num_leaves=5, min_data_in_leaf=9),
    control=ControlConfig(embedding_noise=0.5),
)
"""A config that sets every key that was renamed."""

ROWS = {"a": AblationRow("encoder", ("slices.tta_flip=true",), retrain_encoders=True)}


def error(path: Path, *overrides: str) -> str:
    """The message of the ConfigError that loading the file raises."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return str(caught.value)


def write(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_file_with_an_old_name_is_refused_with_the_new_one(
    tmp_path: Path, old: str, new: str
) -> None:
    section, key = old.split(".")
    path = write(tmp_path, f"{section}: {{{key}: 3}}")
    assert error(path) == f"{path}, line 1: {old} is now {new}"


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_override_with_an_old_name_is_refused_with_the_new_one(
    tmp_path: Path, old: str, new: str
) -> None:
    path = write(tmp_path, "seed: 1")
    assert error(path, f"{old}=3") == f"--set: {old} is now {new}"
    with pytest.raises(ConfigError, match=rf"^row: {old} is now {new}$"):
        with_overrides(Config(), [f"{old}=3"], "row")


def test_an_old_name_in_a_base_is_refused(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("slices: {members: 2}")
    path = write(tmp_path, "base: base.yaml\nslices: {ensemble_size: 1}")
    base = tmp_path / "base.yaml"
    assert error(path) == f"{base}, line 1: slices.members is now slices.ensemble_size"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{reads: encoder}", "ablation.rows.a.reads is now ablation.rows.a.predictor"),
        (
            "{new_encoders: true}",
            "ablation.rows.a.new_encoders is now ablation.rows.a.retrain_encoders",
        ),
        (
            "{set: [seed=1, 'context.layers = 2']}",
            "ablation.rows.a.set: context.layers is now context.num_layers",
        ),
    ],
)
def test_an_old_name_in_an_ablation_row_is_refused(tmp_path: Path, row: str, message: str) -> None:
    path = write(tmp_path, f"ablation: {{reference: a, rows: {{a: {row}}}}}")
    assert error(path) in (f"{path}, line 1: {message}", f"{path}: {message}")


@pytest.mark.parametrize("rows", ["{a: 3}", "{a: {set: context.layers}}", "[a]", "3"])
def test_rows_of_another_type_are_refused_as_such(tmp_path: Path, rows: str) -> None:
    message = error(write(tmp_path, f"ablation: {{rows: {rows}}}"))
    assert str(tmp_path) in message
    assert "is now" not in message


def test_new_names_are_not_taken_for_old_ones() -> None:
    assert renamed_keys(as_dict(CONFIG)) == {}


def old_tree() -> dict[str, Any]:
    """`CONFIG` with `ROWS`, as version 0.1 wrote it."""
    tree = as_dict(CONFIG)
    for old, new in RENAMED.items():
        section, new_key = new.split(".")
        tree[section][old.split(".")[1]] = tree[section].pop(new_key)
    tree["ablation"]["reference"] = "a"
    tree["ablation"]["rows"] = {
        "a": {
            "reads": "encoder",
            "set": ["slices.mirror_at_test=true"],
            "against": None,
            "stacker": "without",
            "new_encoders": True,
        }
    }
    return tree


def test_what_version_0_1_wrote_is_read() -> None:
    tree = old_tree()
    assert set(RENAMED) <= set(renamed_keys(tree))
    expected = replace(CONFIG, ablation=AblationConfig(reference="a", rows=ROWS))
    assert from_dict(tree, "manifest.json") == expected


def test_reading_an_old_tree_leaves_it_unchanged() -> None:
    tree = old_tree()
    with_new_names(tree)
    assert tree == old_tree()
