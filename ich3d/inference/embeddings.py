"""The embeddings of scored series on disk: what `ich3d predict --embeddings` writes.

    <out>/embeddings/<volume_id>.safetensors

A file holds `embeddings` float32 (Z, D), `hu_features` float32 (Z, F) and `z_mm` float64 (Z,),
slices inferior to superior. Its metadata names the model that made them, by the sha256 of its
manifest, and describes the series: SOPInstanceUID and frame of each slice, the patient's pseudonym,
hashes of the slices and the acquisition. It holds no PatientID and no file path.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ich3d.core.errors import DataError, ModelError
from ich3d.core.types import PreparedSeries, Rejected, SeriesMetadata
from ich3d.core.workspace import replacing
from ich3d.inference.run import OutputWriter
from ich3d.inference.scoring import SeriesPrediction
from ich3d.model.folder import Model
from ich3d.prepare.hu_features import HU_FEATURES
from ich3d.prepare.metadata_json import metadata_from_json, metadata_to_json
from ich3d.prepare.store import plain_name

_ARRAYS: Final = ("z_mm", "hu_features")
"""The fields of a series' metadata that are tensors of the file."""


@dataclass(frozen=True)
class EmbeddedSeries:
    """One series as `--embeddings` wrote it.

    Attributes:
        series: its metadata, without file paths, issues and the hash of its files.
        embeddings: float32 (Z, D).
        model_sha256: the model whose network made them.
    """

    series: SeriesMetadata
    embeddings: np.ndarray
    model_sha256: str


def embeddings_writer(folder: Path, model: Model) -> OutputWriter:
    """What `--embeddings` writes to `folder`.

    Raises:
        ModelError: the model's folds do not share one frozen network.
    """
    if not model.config.slices.frozen:
        raise ModelError(
            "--embeddings needs a model whose folds share one frozen network; train one with "
            "--set slices.frozen=true"
        )

    def write(predictions: Sequence[SeriesPrediction]) -> tuple[Rejected, ...]:
        for prediction in predictions:
            assert prediction.embeddings is not None
            path = embeddings_file(folder, prediction.series.volume_id)
            write_embeddings(path, prediction.series, prediction.embeddings, model.sha256)
        return ()

    return OutputWriter(folder, write)


def embeddings_file(folder: Path, volume_id: str) -> Path:
    """The file of one series; its name is `plain_name` of the volume_id."""
    return folder / f"{plain_name(volume_id)}.safetensors"


def write_embeddings(
    path: Path, series: PreparedSeries, embeddings: np.ndarray, model_sha256: str
) -> None:
    """Write the embeddings (Z, D) of one series, whole or not at all."""
    tensors = {
        "embeddings": np.ascontiguousarray(embeddings),
        "hu_features": np.ascontiguousarray(series.hu_features),
        "z_mm": np.ascontiguousarray(series.z_mm),
    }
    keys = tuple(key._replace(path="") for key in series.keys)
    shared = replace(series.metadata, keys=keys, issues=(), files_sha256="")
    tree = metadata_to_json(shared)
    described = {name: value for name, value in tree.items() if name not in _ARRAYS}
    metadata = {"model_sha256": model_sha256, "series": json.dumps(described)}
    with replacing(path) as partial:
        save_file(tensors, partial, metadata=metadata)


def read_embeddings(path: Path) -> EmbeddedSeries:
    """What `write_embeddings` wrote. DataError where the file is missing or is another one."""
    if not path.is_file():
        raise DataError(f"{path} is missing; run `ich3d predict` with --embeddings")
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in ("embeddings", *_ARRAYS)}
            metadata = file.metadata()
        tree: dict[str, Any] = json.loads(metadata["series"])
        arrays = {name: tensors[name].tolist() for name in _ARRAYS}
        series = metadata_from_json({**tree, **arrays})
        embedded = EmbeddedSeries(series, tensors["embeddings"], metadata["model_sha256"])
    except (SafetensorError, KeyError, TypeError, ValueError):
        raise DataError(
            f"{path} does not hold the embeddings of a series: run `ich3d predict` again"
        ) from None
    if series.hu_features.shape[1] != len(HU_FEATURES):
        raise DataError(f"{path} is of another version; run `ich3d predict` again")
    return embedded
