"""HU features of slices that show brain, for tests of what reads them."""

import numpy as np

from ich3d.prepare.hu_features import BRAIN_CM2, HU_FEATURES

MUCH_BRAIN_CM2 = 120.0


def brain_features(n_slices: int, seed: int = 0) -> np.ndarray:
    """Random features float32 (n_slices, F) of slices that all show much brain."""
    rng = np.random.default_rng([n_slices, seed])
    features = rng.normal(size=(n_slices, len(HU_FEATURES))).astype(np.float32)
    features[:, BRAIN_CM2] = MUCH_BRAIN_CM2
    return features
