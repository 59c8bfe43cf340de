"""A saved model: a folder of safetensors, LightGBM text and JSON under a manifest of hashes.

    manifest.json  encoder/fold<k>.safetensors  context/fold<k>.safetensors
    stack/fold<k>.json  stack/fold<k>_<label>.txt

Nothing in it is executable, and a folder whose files do not hash to what the manifest says is refused.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ich3d
from ich3d.context.bigru import ContextEnsemble
from ich3d.core.config import Config, as_dict, from_dict
from ich3d.core.errors import DataError, ModelError
from ich3d.core.labels import LABELS
from ich3d.core.types import FitPatients
from ich3d.core.workspace import read_json, replacing, write_json
from ich3d.learn import device, load_weights, save_weights
from ich3d.pipeline.chain import Chain
from ich3d.prepare.store import preprocessing_sha256
from ich3d.slices.encoder import EncoderEnsemble
from ich3d.stack.booster import LabelStack

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
_NEEDED = ("config", "preprocessing_sha256", "fingerprint", "folds", "files", "manifest_sha256")


@dataclass(frozen=True)
class Model:
    """All folds' chains, the config they were trained with, and what their training set was like."""

    config: Config
    chains: list[Chain]
    fingerprint: dict[str, Any]
    sha256: str


def save_model(folder: Path, config: Config, store_meta: dict[str, Any], chains: list[Chain]) -> None:
    """Write the model folder, whole or not at all."""
    with replacing(folder) as partial:
        partial.mkdir()
        for chain in chains:
            save_weights(partial / "encoder" / f"fold{chain.fold}.safetensors", chain.encoder)
            save_weights(partial / "context" / f"fold{chain.fold}.safetensors", chain.context)
            _save_stack(partial / "stack", chain)
        files = sorted(path for path in partial.rglob("*") if path.is_file())
        manifest = {
            "format_version": FORMAT_VERSION,
            "ich3d_version": ich3d.__version__,
            "config": as_dict(config),
            "preprocessing_sha256": store_meta["preprocessing_sha256"],
            "fingerprint": store_meta["fingerprint"],
            "folds": [chain.fold for chain in chains],
            "files": {path.relative_to(partial).as_posix(): _sha256(path) for path in files},
        }
        write_json(partial / MANIFEST, {**manifest, "manifest_sha256": _manifest_sha256(manifest)})


def load_model(folder: Path | str) -> Model:
    """The model in `folder`, on this machine's device.

    ModelError in one sentence where a file was changed, is missing or foreign, where the format is newer
    than this version reads, or where its preprocessing is not this version's.
    """
    folder = Path(folder)
    manifest = _checked_manifest(folder)
    config = from_dict(manifest["config"], str(folder / MANIFEST))
    if manifest["preprocessing_sha256"] != preprocessing_sha256(config.prepare):
        raise ModelError(f"{folder} was trained on data prepared in another way; train it again")
    chains = [_load_chain(folder, config, fold) for fold in manifest["folds"]]
    return Model(config, chains, manifest["fingerprint"], _sha256(folder / MANIFEST))


def _checked_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = read_json(path)
    except DataError as error:
        raise ModelError(f"{folder} is no model folder: {error}") from None
    found = manifest.get("format_version") if isinstance(manifest, dict) else None
    if found != FORMAT_VERSION:
        raise ModelError(f"{path} has format_version {found}; this version of ich3d reads {FORMAT_VERSION}")
    for key in _NEEDED:
        if key not in manifest:
            raise ModelError(f"{path} has no key {key}")
    given = manifest.pop("manifest_sha256")
    if _manifest_sha256(manifest) != given:
        raise ModelError(f"{path} was changed: it does not have the hash that it gives of itself")
    for name, expected in manifest["files"].items():
        file = folder / name
        if not file.is_file():
            raise ModelError(f"{file} is missing")
        if _sha256(file) != expected:
            raise ModelError(f"{file} was changed: it does not have the hash that {MANIFEST} gives")
    listed = {*manifest["files"], MANIFEST}
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.relative_to(folder).as_posix() not in listed:
            raise ModelError(f"{file} does not belong to the model: {MANIFEST} does not list it")
    return manifest


def _load_chain(folder: Path, config: Config, fold: int) -> Chain:
    encoder = EncoderEnsemble(config.slices)
    load_weights(folder / "encoder" / f"fold{fold}.safetensors", encoder)
    context = ContextEnsemble(config.context, encoder.embedding_width)
    load_weights(folder / "context" / f"fold{fold}.safetensors", context)
    facts = read_json(folder / "stack" / f"fold{fold}.json")
    stack = {label: _load_label(folder / "stack", fold, label, facts[label]) for label in LABELS}
    fit_patients = FitPatients.of(facts["fit_patients"])
    return Chain(fold, encoder.to(device()).eval(), context.to(device()).eval(), stack, fit_patients)


def _save_stack(folder: Path, chain: Chain) -> None:
    facts: dict[str, Any] = {"fit_patients": sorted(chain.fit_patients.groups)}
    for label, item in chain.stack.items():
        facts[label] = {key: value for key, value in asdict(item).items() if key != "trees"}
        if item.is_kept:
            with replacing(folder / f"fold{chain.fold}_{label}.txt") as partial:
                partial.write_text(item.trees)
    write_json(folder / f"fold{chain.fold}.json", facts)


def _load_label(folder: Path, fold: int, label: str, facts: dict[str, Any]) -> LabelStack:
    trees = (folder / f"fold{fold}_{label}.txt").read_text() if facts["is_kept"] else ""
    return LabelStack(**{**facts, "columns": tuple(facts["columns"]), "trees": trees})


def _manifest_sha256(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
