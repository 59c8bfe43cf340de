"""Hashes of what a stage depends on: the same in all versions, new where the content changes."""

from dataclasses import replace
from pathlib import Path

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
        ensemble_size=2, hidden_size=16, num_layers=2, validation_fraction=0.3, embeddings=True
    ),
    stack=StackConfig(num_trees=40, num_leaves=5, min_data_in_leaf=11, reach_mm=10.0),
    control=ControlConfig(
        shuffle="test", embedding_noise=0.5, nested=True, patients=4, force_stacker=True
    ),
)
"""A value that is not the default for every key that version 0.1 knew by another name."""

OF_VERSION_0_1 = {
    "encoder": "1946ad1c965de1bb4d333d82dae29816d715b4388e9db8a3a1a5617778f7aaa3",
    "context": "f0f97f61a0b539e02a8a96b28a5f96dee7f150652f4331570302bcccbf73f0f0",
    "stack": "3cc7b397230f79680c57877283452274362799f07ef9999777ce9378e9c6006f",
    "encoder_stack": "9793b9f23efaf4bfd4ffe8bba13cff9c1002c4a4ef7c3d490d82b08f7035a6c0",
}
"""The hashes that version 0.1 gave to `CONFIG`."""

DEFAULTS_OF_VERSION_0_1 = {
    "encoder": "ffe376fc9f665cf98f29fb1d646f64dd2eec1d4f27b8363267df0c70f3d5c5e0",
    "context": "7d0fd0239360d3665a10cda7944357fbc60f05b5862871fce6605c96fe0c4d57",
    "stack": "603c81e6823d5d1666725eaf9984f36f8e5b5d4735df7b8cd65f9ee7cc0b7644",
    "encoder_stack": "392d207443e57505dac53f128a26319d591f2516658978d41e1e3494e2a9844c",
}
"""The same for a configuration of default values."""


def hashes(config: Config) -> dict[str, str]:
    """The hash of every stage's inputs."""
    return {stage: inputs_sha256(config, stage, STORE_IDENTITY) for stage in STAGES}


def stages_that_change(config: Config, changed: Config) -> set[str]:
    """The stages whose inputs differ between two configurations."""
    before, after = hashes(config), hashes(changed)
    return {stage for stage in STAGES if before[stage] != after[stage]}


@pytest.mark.parametrize(
    ("config", "expected"),
    [(CONFIG, OF_VERSION_0_1), (Config(), DEFAULTS_OF_VERSION_0_1)],
    ids=["other values", "default values"],
)
def test_hashes_are_those_of_version_0_1(config: Config, expected: dict[str, str]) -> None:
    """So a stage that version 0.1 trained is not trained again."""
    assert hashes(config) == expected


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
    ],
    ids=[
        "workspace", "replicate", "seed", "slices", "context", "stack", "patients",
        "force_stacker", "embedding_noise",
    ],
)  # fmt: skip
def test_a_key_changes_its_stage_and_those_after_it(changed: Config, expected: set[str]) -> None:
    assert stages_that_change(CONFIG, changed) == expected


def test_shuffling_at_test_uses_the_same_context_model() -> None:
    def shuffled(shuffle: str) -> Config:
        return replace(CONFIG, control=replace(CONFIG.control, shuffle=shuffle))

    assert stages_that_change(shuffled("never"), shuffled("test")) == {"stack"}
    assert stages_that_change(shuffled("never"), shuffled("training")) == {"context", "stack"}


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
