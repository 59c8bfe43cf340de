"""Weights are saved whole, and files that do not fit are refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ich3d.core.errors import ModelError
from ich3d.slices.embed import embed
from ich3d.slices.encoder import SliceEncoder
from ich3d.training.weights import load_weights, save_weights
from tests.helpers.encoders import PLAIN, config_with, random_hu


@pytest.fixture(scope="module")
def small() -> SliceEncoder:
    torch.manual_seed(0)
    return SliceEncoder.from_config(PLAIN).eval()


def test_saved_weights_are_loaded_and_others_refused(small: SliceEncoder, tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", small)
    again = SliceEncoder.from_config(PLAIN).eval()
    load_weights(tmp_path / "w.safetensors", again)
    hu = random_hu(3)
    np.testing.assert_array_equal(
        embed(small, hu, config_with(4))[1], embed(again, hu, config_with(4))[1]
    )
    with pytest.raises(ModelError, match=r"w\.safetensors does not fit the model"):
        load_weights(tmp_path / "w.safetensors", SliceEncoder(neighbours=0))
    with pytest.raises(ModelError, match=r"none\.safetensors"):
        load_weights(tmp_path / "none.safetensors", again)
