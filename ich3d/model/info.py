"""What a model folder is, without loading the model."""

from pathlib import Path
from typing import Any

from ich3d.config.load import as_dict
from ich3d.model.manifest import FORMAT_VERSION, MANIFEST, read_manifest

_TOLD = {
    "prepare": ("matrix", "pixel_mm"),
    "slices": ("encoder", "ensemble_size", "windows", "neighbours", "symmetry", "tta_flip"),
    "context": ("ensemble_size", "hidden_size", "num_layers", "embeddings", "align"),
    "stack": ("num_trees", "reach_mm"),
}


def info(folder: Path) -> dict[str, Any]:
    """The model in `folder` as a plain tree; ModelError where `load_model` would refuse it.

    `ranges` of the training set are the lowest, median and highest value.
    """
    manifest = read_manifest(folder)
    config = as_dict(manifest.config)
    size = sum((folder / name).stat().st_size for name in (*manifest.files, MANIFEST))
    return {
        "folder": str(folder),
        "format_version": FORMAT_VERSION,
        "ich3d_version": manifest.ich3d_version,
        "model_sha256": manifest.sha256,
        "preprocessing_sha256": manifest.preprocessing_sha256,
        "size_mb": round(size / 1e6, 1),
        "files": len(manifest.files) + 1,
        "folds": list(manifest.folds),
        "source": config["source"]["kind"],
        "precision": config["precision"],
        **{section: {key: config[section][key] for key in keys} for section, keys in _TOLD.items()},
        "trained_on": manifest.fingerprint,
    }
