"""Hashes of what a stage depends on: new where the content changes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ich3d.config.ablation import ControlConfig
from ich3d.config.root import Config
from ich3d.config.schema import ContextConfig, PrepareConfig, SlicesConfig, StackConfig
from ich3d.crossfit.inputs import FORMATS, inputs_sha256, weights_sha256

STAGES = tuple(FORMATS)
STORE_IDENTITY = ["a" * 64, "b" * 64]

CONFIG = Config(
    seed=3,
    replicate=2,
    precision="fp32",
    prepare=PrepareConfig(matrix=48, pixel_mm=4.8, folds=3),
    slices=SlicesConfig(
        encoder="resnet10-half",
        ensemble_size=2,
        tta_flip=False,
        validation_fraction=0.25,
        neighbours=0,
        windows=("brain", "bone"),
    ),
    context=ContextConfig(
        ensemble_size=2, hidden_size=16, num_layers=2, validation_fraction=0.3, reads="both"
    ),
    stack=StackConfig(num_trees=40, num_leaves=5, min_data_in_leaf=11, reach_mm=10.0),
    control=ControlConfig(
        shuffle="test", embedding_noise=0.5, nested=True, patients=4, force_stacker=True
    ),
)
"""Values that are not the defaults."""


def hashes(config: Config) -> dict[str, str]:
    """The hash of every stage's inputs."""
    return {stage: inputs_sha256(config, stage, STORE_IDENTITY) for stage in STAGES}


def with_control(**changes: Any) -> Config:
    """`CONFIG` with other values in the section `control`."""
    return replace(CONFIG, control=replace(CONFIG.control, **changes))


def stages_that_change(config: Config, changed: Config) -> set[str]:
    """The stages whose inputs differ between two configurations."""
    before, after = hashes(config), hashes(changed)
    return {stage for stage in STAGES if before[stage] != after[stage]}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (replace(CONFIG, workspace="elsewhere"), set()),
        (replace(CONFIG, replicate=7), set(STAGES) - {"encoder"}),
        (replace(CONFIG, seed=7), set(STAGES)),
        (replace(CONFIG, slices=replace(CONFIG.slices, lr=0.1)), set(STAGES)),
        (replace(CONFIG, context=replace(CONFIG.context, lr=0.1)), set(STAGES) - {"encoder"}),
        (
            replace(CONFIG, stack=replace(CONFIG.stack, num_trees=7)),
            {"stack", "encoder_stack"},
        ),
        (replace(CONFIG, control=replace(CONFIG.control, patients=5)), set(STAGES)),
        (
            replace(CONFIG, control=replace(CONFIG.control, force_stacker=False)),
            {"stack", "encoder_stack"},
        ),
        (
            replace(CONFIG, control=replace(CONFIG.control, embedding_noise=0.0)),
            {"context", "stack"},
        ),
        (
            replace(CONFIG, control=replace(CONFIG.control, stacker_without="hu")),
            {"stack", "encoder_stack"},
        ),
    ],
    ids=[
        "workspace", "replicate", "seed", "slices", "context", "stack", "patients",
        "force_stacker", "embedding_noise", "stacker_without",
    ],
)  # fmt: skip
def test_a_key_changes_its_stage_and_those_after_it(changed: Config, expected: set[str]) -> None:
    assert stages_that_change(CONFIG, changed) == expected


def test_shuffling_at_test_uses_the_same_context_model() -> None:
    def shuffled(shuffle: str) -> Config:
        return replace(CONFIG, control=replace(CONFIG.control, shuffle=shuffle))

    assert stages_that_change(shuffled("never"), shuffled("test")) == {"stack"}
    assert stages_that_change(shuffled("never"), shuffled("training")) == {"context", "stack"}


def test_a_cut_changes_no_training() -> None:
    assert stages_that_change(CONFIG, with_control(cut=3)) == set()


def test_other_data_changes_every_stage() -> None:
    other = {stage: inputs_sha256(CONFIG, stage, ["c" * 64, "b" * 64]) for stage in STAGES}
    assert all(other[stage] != hashes(CONFIG)[stage] for stage in STAGES)


def test_initial_weights_count_by_their_content(tmp_path: Path) -> None:
    encoder, context = tmp_path / "encoder.pt", tmp_path / "context.safetensors"
    encoder.write_bytes(b"one")
    context.write_bytes(b"one")
    config = replace(
        CONFIG,
        slices=replace(CONFIG.slices, weights=str(encoder)),
        context=replace(CONFIG.context, weights=str(context)),
    )
    assert weights_sha256(CONFIG) == (None, None)
    assert len(set(weights_sha256(config))) == 1
    before = hashes(config)

    context.write_bytes(b"two")
    assert hashes(config)["encoder"] == before["encoder"]
    assert hashes(config)["context"] != before["context"]
    encoder.write_bytes(b"two")
    assert hashes(config)["encoder"] != before["encoder"]


def test_a_file_of_weights_that_does_not_exist_counts_by_its_name() -> None:
    config = replace(CONFIG, slices=replace(CONFIG.slices, weights="no/such/file.pt"))
    assert weights_sha256(config) == ("no/such/file.pt", None)
