"""The out-of-fold scores of an ablation on disk: a table of slices, and a small file for each row.

Logits are stored in half precision, which changes a probability by less than 0.001.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ich3d.config.ablation import file_stem
from ich3d.core.errors import DataError
from ich3d.core.ground_truth import GroundTruth
from ich3d.core.labels import LABELS
from ich3d.core.metrics import logit, sigmoid
from ich3d.core.workspace import read_csv, replacing
from ich3d.prepare.store import Store

_COLUMNS = ["volume_id", "slice_index", "z_mm", "group_id", "fold", "sop_uid", *LABELS]


def ground_truth_of(store: Store) -> GroundTruth:
    """The slices of a store with their labels, in the order of `store.volume_ids`."""
    table = store.table.set_index("volume_id").loc[store.volume_ids].reset_index()
    return GroundTruth(table[_COLUMNS])


def write_ground_truth(folder: Path, truth: GroundTruth) -> None:
    """Write `slices.csv.gz`, the slices that every row of the folder scores.

    Equal slices give equal bytes.
    """
    with replacing(folder / "slices.csv.gz") as partial:
        truth.table.to_csv(partial, index=False, compression={"method": "gzip", "mtime": 0})


def read_ground_truth(folder: Path) -> GroundTruth:
    """Read `slices.csv.gz`; DataError where it is missing."""
    table = read_csv(folder / "slices.csv.gz", text=("volume_id", "group_id", "sop_uid"))
    return GroundTruth(table)


@dataclass(frozen=True)
class Provenance:
    """What the scores of a row depend on, as SHA-256 hashes.

    Attributes:
        truth: the slices and their labels.
        configs: the config of each seed.
        weights: each file of weights that training starts from, None for a stage without one.
        store: the prepared pixels; empty for scores of older versions, which did not record it.
    """

    truth: str
    configs: tuple[str, ...]
    weights: tuple[str | None, ...]
    store: tuple[str, ...]


@dataclass(frozen=True)
class CachedScores:
    """Probabilities `prob` (S, N, K) of one row for S seeds, and what they depend on."""

    prob: np.ndarray
    provenance: Provenance


def write_scores(path: Path, scores: CachedScores) -> None:
    """Write the scores of one row to `path`, a safetensors file."""
    provenance = scores.provenance
    metadata = {
        "truth_sha256": provenance.truth,
        "config_sha256": json.dumps(provenance.configs),
        "weights_sha256": json.dumps(provenance.weights),
        "store_sha256": json.dumps(provenance.store),
    }

    # safetensors writes the memory of an array as it lies, whatever its strides.
    logits = np.ascontiguousarray(logit(scores.prob), dtype=np.float16)
    with replacing(path) as partial:
        save_file({"logits": logits}, partial, metadata=metadata)


def read_scores(path: Path) -> CachedScores:
    """Read the scores of one row.

    Raises:
        DataError: where the file is missing or was not written by `write_scores`.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = {"store_sha256": "[]", **file.metadata()}
            prob = sigmoid(file.get_tensor("logits"))  # (S, N, K)
            keys = ("config_sha256", "weights_sha256", "store_sha256")
            configs, weights, store = (tuple(json.loads(metadata[key])) for key in keys)
            return CachedScores(prob, Provenance(metadata["truth_sha256"], configs, weights, store))
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} does not contain the scores of a row: {error}") from None


def scores_file(folder: Path, name: str) -> Path:
    """The file in `folder` for the scores of the row called `name`."""
    return folder / f"{file_stem(name)}.safetensors"
