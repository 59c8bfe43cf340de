"""What a model folder is, without loading the model: the content of `ich3d info`."""

from pathlib import Path
from typing import Any, Final

from ich3d.config.load import as_dict
from ich3d.core.labels import LABELS
from ich3d.core.text import pluralize
from ich3d.core.workspace import read_json
from ich3d.model.manifest import MANIFEST, RECALIBRATION, Manifest, read_manifest
from ich3d.model.performance import sentences

_SHOWN_KEYS: Final = {
    "prepare": ("matrix", "pixel_mm"),
    "slices": (
        "encoder", "frozen", "ensemble_size", "windows", "neighbours", "symmetry", "tta_flip",
    ),
    "context": ("ensemble_size", "hidden_size", "num_layers", "reads", "align"),
    "stack": ("num_trees", "reach_mm"),
}  # fmt: skip
"""The configuration keys that are shown, by section."""

_PLURALS: Final = {"patient": "patients", "study": "studies"}

HELD_OUT_PROVEN: Final = "provable: the patients that each fold was trained on are recorded"
HELD_OUT_NOT_PROVEN: Final = "not proven: the patients that it was trained on are not recorded"


def info(folder: Path) -> dict[str, Any]:
    """The model in `folder` as plain data; `ranges` are the lowest, median and highest value.

    Raises:
        ModelError: as `load_model`.
    """
    manifest = read_manifest(folder)
    config = as_dict(manifest.config)
    size_bytes = sum((folder / name).stat().st_size for name in (*manifest.files, MANIFEST))
    is_proven = manifest.training_groups_known
    return {
        "folder": str(folder),
        "format_version": manifest.format_version,
        "ich3d_version": manifest.ich3d_version,
        "model_sha256": manifest.sha256,
        "preprocessing_sha256": manifest.preprocessing_sha256,
        "size_mb": round(size_bytes / 1e6, 1),
        "files": len(manifest.files) + 1,
        "folds": list(manifest.folds),
        "held_out": HELD_OUT_PROVEN if is_proven else HELD_OUT_NOT_PROVEN,
        "performance": None if manifest.performance is None else manifest.performance.as_dict(),
        "recalibrated": _recalibrated(folder, manifest),
        "source": config["source"]["kind"],
        "precision": config["precision"],
        **{
            section: {key: config[section][key] for key in keys}
            for section, keys in _SHOWN_KEYS.items()
        },
        "trained_on": manifest.fingerprint,
    }


def info_text(folder: Path) -> dict[str, Any]:
    """`info` for people: what the model is worth is told in sentences."""
    return {**info(folder), "performance": sentences(read_manifest(folder).performance)}


def _recalibrated(folder: Path, manifest: Manifest) -> str:
    """Whether the final scores are recalibrated: on whom, and which labels gained by it."""
    if RECALIBRATION not in manifest.files:
        return "no"
    facts = read_json(folder / RECALIBRATION)
    groups = f"{facts['n_groups']} {_PLURALS[facts['groups_are']]}"
    kept = [label for label in LABELS if facts["by_label"][label]["is_kept"]]
    return f"on {groups} ({pluralize(facts['n_slices'], 'slice')}), kept for {', '.join(kept)}"
