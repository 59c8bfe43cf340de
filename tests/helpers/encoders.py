"""Small encoders and random series, for tests of what runs them."""

from dataclasses import replace
from typing import Any

import numpy as np

from ich3d.config.root import Config
from ich3d.config.schema import SlicesConfig

PLAIN = SlicesConfig(encoder="resnet18", neighbours=1)


def random_hu(n_slices: int, seed: int = 0) -> np.ndarray:
    """HU int16 (Z, 48, 48) without any structure."""
    rng = np.random.default_rng(seed)
    return rng.integers(-1000, 300, (n_slices, 48, 48)).astype(np.int16)


def config_with(batch_size: int, **changes: Any) -> Config:
    """A configuration in fp32 of `PLAIN`; `changes` replace further keys of `slices`."""
    return Config(precision="fp32", slices=replace(PLAIN, batch_size=batch_size, **changes))
