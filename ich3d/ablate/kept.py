"""The scores of an ablation on disk: one table of slices, and one small file a row.

A row's logits are kept in half precision, which moves a probability by less than one part in a thousand.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ich3d.core.errors import DataError
from ich3d.core.labels import LABELS
from ich3d.core.metrics import logit, sigmoid
from ich3d.core.workspace import read_csv, replacing
from ich3d.prepare.store import Store
from ich3d.results import Truth

_KEYS = ["volume_id", "slice_index", "z_mm", "group_id", "fold", "sop_uid"]


def truth_of(store: Store) -> Truth:
    """The slices of a store."""
    rows = store.table.set_index("volume_id").loc[store.volume_ids].reset_index()
    return Truth(rows[[*_KEYS, *LABELS]])


def write_truth(folder: Path, truth: Truth) -> None:
    """Keep the slices that every row of the folder scores."""
    with replacing(folder / "slices.csv.gz") as partial:
        truth.table.to_csv(partial, index=False, compression={"method": "gzip", "mtime": 0})


def read_truth(folder: Path) -> Truth:
    """The slices that every row of the folder scores."""
    return Truth(read_csv(folder / "slices.csv.gz", text=("volume_id", "group_id", "sop_uid")))


@dataclass(frozen=True)
class KeptRow:
    """Scores (S, N, K) of one row, a run a seed, and the hashes of what they come from: the slices, each
    seed's config, and the files of weights that it starts from."""

    prob: np.ndarray
    truth_sha256: str
    config_sha256: tuple[str, ...]
    weights_sha256: tuple[str | None, ...]


def write_row(path: Path, row: KeptRow) -> None:
    """Keep one row."""
    facts = {
        "truth_sha256": row.truth_sha256,
        "config_sha256": json.dumps(row.config_sha256),
        "weights_sha256": json.dumps(row.weights_sha256),
    }
    logits = np.ascontiguousarray(
        logit(row.prob), dtype=np.float16
    )  # safetensors takes the bytes as they lie
    with replacing(path) as partial:
        save_file({"logits": logits}, partial, metadata=facts)


def read_row(path: Path) -> KeptRow:
    """A row that was kept. DataError where the file is missing or no such file."""
    try:
        with safe_open(path, framework="numpy") as file:
            facts = file.metadata()
            prob = sigmoid(file.get_tensor("logits"))
            configs, weights = (tuple(json.loads(facts[key])) for key in ("config_sha256", "weights_sha256"))
            return KeptRow(prob, facts["truth_sha256"], configs, weights)
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} holds no kept scores: {error}") from None


def row_file(folder: Path, name: str) -> Path:
    """Where a row of that name is kept."""
    plain = "".join(c if c.isalnum() else "_" for c in name.replace("+", "plus").replace("±", "within "))
    return folder / f"{plain.lower()}.safetensors"
