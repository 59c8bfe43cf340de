"""A model folder's manifest: what the model is, and the hash of every file of it.

A folder whose files do not hash to what its manifest says is refused. Nothing here loads a network.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ich3d
from ich3d.config.load import as_dict, from_dict
from ich3d.config.root import Config
from ich3d.core.errors import DataError, ModelError
from ich3d.core.workspace import read_json, write_json
from ich3d.prepare.store import preprocessing_sha256

FORMAT_VERSION = 2
READABLE_VERSIONS = (1, 2)
"""Format 1 is that of version 0.1: config keys and tensors have other names there."""
MANIFEST = "manifest.json"
_NEEDED = (
    "ich3d_version", "config", "preprocessing_sha256", "fingerprint", "folds", "files", "manifest_sha256",
)  # fmt: skip


@dataclass(frozen=True)
class Manifest:
    """What a model folder that was found whole says of itself.

    `fingerprint` tells of the training set, `files` the hash of each file, `sha256` is the model's own.
    """

    ich3d_version: str
    config: Config
    preprocessing_sha256: str
    fingerprint: dict[str, Any]
    folds: tuple[int, ...]
    files: dict[str, str]
    sha256: str


def write_manifest(
    folder: Path, config: Config, store_meta: dict[str, Any], folds: Sequence[int]
) -> None:
    """Describe the files that lie in `folder`; `store_meta` is that of the store they were trained on."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest = {
        "format_version": FORMAT_VERSION,
        "ich3d_version": ich3d.__version__,
        "config": as_dict(config),
        "preprocessing_sha256": store_meta["preprocessing_sha256"],
        "fingerprint": store_meta["fingerprint"],
        "folds": list(folds),
        "files": {path.relative_to(folder).as_posix(): _sha256(path) for path in files},
    }
    write_json(folder / MANIFEST, {**manifest, "manifest_sha256": _own_sha256(manifest)})


def read_manifest(folder: Path) -> Manifest:
    """What `folder` holds, every file checked.

    ModelError in one sentence where a file was changed, is missing or foreign, where the format is newer
    than this version reads, or where its preprocessing is not this version's.
    """
    path = folder / MANIFEST
    tree = _own_words(folder)
    _require_whole(folder, tree["files"])
    config = from_dict(tree["config"], str(path))
    if tree["preprocessing_sha256"] != preprocessing_sha256(config.prepare):
        raise ModelError(f"{folder} was trained on data prepared in another way; train it again")
    return Manifest(
        ich3d_version=tree["ich3d_version"],
        config=config,
        preprocessing_sha256=tree["preprocessing_sha256"],
        fingerprint=tree["fingerprint"],
        folds=tuple(tree["folds"]),
        files=tree["files"],
        sha256=_sha256(path),
    )


def _own_words(folder: Path) -> dict[str, Any]:
    """The manifest's own tree, unchanged since it was written."""
    path = folder / MANIFEST
    try:
        tree: dict[str, Any] = read_json(path)
    except DataError as error:
        raise ModelError(f"{folder} is no model folder: {error}") from None
    found = tree.get("format_version") if isinstance(tree, dict) else None
    if found not in READABLE_VERSIONS:
        raise ModelError(
            f"{path} has format_version {found}; this version of ich3d reads {FORMAT_VERSION}"
        )
    for key in _NEEDED:
        if key not in tree:
            raise ModelError(f"{path} has no key {key}")
    given = tree.pop("manifest_sha256")
    if _own_sha256(tree) != given:
        raise ModelError(f"{path} was changed: it does not have the hash that it gives of itself")
    return tree


def _require_whole(folder: Path, files: dict[str, str]) -> None:
    """Every listed file as it was, and no other beside them."""
    for name, expected in files.items():
        file = folder / name
        if not file.is_file():
            raise ModelError(f"{file} is missing")
        if _sha256(file) != expected:
            raise ModelError(f"{file} was changed: it does not have the hash that {MANIFEST} gives")
    listed = {*files, MANIFEST}
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.relative_to(folder).as_posix() not in listed:
            raise ModelError(f"{file} does not belong to the model: {MANIFEST} does not list it")


def _own_sha256(tree: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
