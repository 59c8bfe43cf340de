"""The scores of an ablation on disk: one table of slices, and one small file a row.

A row's logits are kept in half precision, which moves a probability by less than one part in a thousand.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ich3d.config.ablation import file_stem
from ich3d.core.errors import DataError
from ich3d.core.labels import LABELS
from ich3d.core.metrics import logit, sigmoid
from ich3d.core.workspace import read_csv, replacing
from ich3d.evaluation.ground_truth import GroundTruth
from ich3d.prepare.store import Store

_KEYS = ["volume_id", "slice_index", "z_mm", "group_id", "fold", "sop_uid"]


def ground_truth_of(store: Store) -> GroundTruth:
    """The slices of a store."""
    rows = store.table.set_index("volume_id").loc[store.volume_ids].reset_index()
    return GroundTruth(rows[[*_KEYS, *LABELS]])


def write_ground_truth(folder: Path, truth: GroundTruth) -> None:
    """Keep the slices that every row of the folder scores."""
    with replacing(folder / "slices.csv.gz") as partial:
        truth.table.to_csv(partial, index=False, compression={"method": "gzip", "mtime": 0})


def read_ground_truth(folder: Path) -> GroundTruth:
    """The slices that every row of the folder scores."""
    return GroundTruth(
        read_csv(folder / "slices.csv.gz", text=("volume_id", "group_id", "sop_uid"))
    )


@dataclass(frozen=True)
class Provenance:
    """What a row's scores come from, as hashes: the slices and their labels, each seed's config, the files of
    weights that it starts from, and the store of pixels (empty where that is not known)."""

    truth: str
    configs: tuple[str, ...]
    weights: tuple[str | None, ...]
    store: tuple[str, ...]


@dataclass(frozen=True)
class CachedScores:
    """Scores (S, N, K) of one row, a run a seed, and what they come from."""

    prob: np.ndarray
    origin: Provenance


def write_row(path: Path, row: CachedScores) -> None:
    """Keep one row."""
    origin = row.origin
    facts = {
        "truth_sha256": origin.truth,
        "config_sha256": json.dumps(origin.configs),
        "weights_sha256": json.dumps(origin.weights),
        "store_sha256": json.dumps(origin.store),
    }
    logits = np.ascontiguousarray(
        logit(row.prob), dtype=np.float16
    )  # safetensors takes bytes as they lie
    with replacing(path) as partial:
        save_file({"logits": logits}, partial, metadata=facts)


def read_row(path: Path) -> CachedScores:
    """A row that was kept. DataError where the file is missing or no such file."""
    try:
        with safe_open(path, framework="numpy") as file:
            facts = {"store_sha256": "[]", **file.metadata()}
            prob = sigmoid(file.get_tensor("logits"))
            keys = ("config_sha256", "weights_sha256", "store_sha256")
            configs, weights, store = (tuple(json.loads(facts[key])) for key in keys)
            return CachedScores(prob, Provenance(facts["truth_sha256"], configs, weights, store))
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} holds no kept scores: {error}") from None


def row_file(folder: Path, name: str) -> Path:
    """Where a row of that name is kept."""
    return folder / f"{file_stem(name)}.safetensors"
