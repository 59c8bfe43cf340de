"""A configuration whose encoder is an EfficientNet-Lite0 with its first parts frozen."""

from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from ich3d.config.root import Config
from ich3d.config.schema import ContextConfig, SlicesConfig
from ich3d.slices.encoder import SliceEncoder


def partly_frozen(config: Config, folder: Path, frozen_parts: int, end_to_end: bool) -> Config:
    """`config` with a small budget, and a network of random weights from a file in `folder`."""
    slices = SlicesConfig(
        encoder="efficientnet-lite0", neighbours=0, symmetry=False, epochs=1, tta_flip=False
    )
    torch.manual_seed(0)
    path = folder / "network.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(SliceEncoder.from_config(slices).backbone.state_dict(), path)
    context = ContextConfig(hidden_size=8, epochs=2, ensemble_size=1, end_to_end=end_to_end)
    partly = replace(slices, weights=str(path), frozen_parts=frozen_parts, layer_decay=0.5)
    return replace(config, slices=partly, context=context, precision="fp32")
