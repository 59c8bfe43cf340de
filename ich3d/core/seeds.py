"""Random streams: each is made from one seed and the names of what it is for.

Equal seed and names give an equal stream whatever else ran before, so an interrupted run that
resumes at a fold or an epoch draws what an undisturbed one would have drawn.
"""

import hashlib

import numpy as np


def derive(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the stream `names` under `seed`."""
    digest = hashlib.sha256(repr((seed, *names)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """The NumPy generator of the stream `names` under `seed`."""
    return np.random.default_rng(derive(seed, *names))
