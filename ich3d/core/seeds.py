"""Named random streams: a generator depends on the seed and the stream's names, on nothing else.

A run that is interrupted and resumed at a later fold or epoch draws the same numbers as a run that
was not, because no stream depends on what was drawn before.
"""

import hashlib

import numpy as np


def derive(seed: int, *names: str | int) -> int:
    """The 63-bit seed of the stream `names` under `seed`: a hash, equal on every computer."""
    digest = hashlib.sha256(repr((seed, *names)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """A new NumPy generator for the stream `names` under `seed`, e.g. `stream(0, "folds", 2)`."""
    return np.random.default_rng(derive(seed, *names))
