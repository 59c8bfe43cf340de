"""Phantoms are hard for the right reason: one slice is not enough, and neighbours mend it."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from ich3d.ablate import ablate
from ich3d.core.config import Config, load_config
from ich3d.core.workspace import Workspace
from ich3d.pipeline import train
from ich3d.results import Row

pytestmark = pytest.mark.slow
CONFIG = Path(__file__).parents[2] / "configs" / "phantom.yaml"


def run(folder: Path, lookalikes: float) -> tuple[Config, dict[str, Row]]:
    """The phantom config on a smaller scale, and its ablation by row."""
    config = load_config(CONFIG, [f"workspace={folder}", f"phantom.lookalikes={lookalikes}"])
    small = replace(
        config,
        phantom=replace(config.phantom, studies=60, matrix=128),
        prepare=replace(config.prepare, matrix=96, pixel_mm=2.3),
        slices=replace(config.slices, epochs=8),
    )
    train(small)
    return small, {row.evaluation.name: row for row in ablate(small)}


def gain(rows: dict[str, Row]) -> float:
    """How far context lowers the encoder's weighted log loss."""
    difference = rows["context"].difference
    assert difference is not None
    return -difference.value


def test_lookalikes_fool_one_slice_and_context_mends_them(tmp_path: Path) -> None:
    config, with_lookalikes = run(tmp_path / "with", 1.0)
    _, without = run(tmp_path / "without", 0.0)
    losses = pd.read_csv(Workspace(Path(config.workspace)).lookalikes).set_index("slices without a bleed")
    fooled, calm = losses.loc["look-alike"], losses.loc["none"]
    assert fooled["encoder"] > calm["encoder"]
    assert fooled["encoder"] - fooled["context"] > calm["encoder"] - calm["context"]
    assert gain(with_lookalikes) > gain(without)
