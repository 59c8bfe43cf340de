"""The manifest of a model folder: what the model is, and the hash of every file of it.

A folder whose files do not have the hashes that its manifest gives is refused. Nothing here loads a
network library.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import ich3d
from ich3d.config.load import as_dict, from_dict
from ich3d.config.root import Config
from ich3d.core.errors import DataError, ModelError
from ich3d.core.path_kinds import require_model
from ich3d.core.workspace import file_sha256, read_json, write_json
from ich3d.model.performance import Performance, with_card
from ich3d.prepare.store import preprocessing_sha256

FORMAT_VERSION: Final = 3
READABLE_VERSIONS: Final = (1, 2, 3)
"""Format 1 is that of version 0.1: configuration keys and tensors have other names there. Since
format 3 a frozen network is stored once for all folds.
"""

MANIFEST: Final = "manifest.json"
RECALIBRATION: Final = "recalibration.json"
"""A file of recalibrated models alone; see `model.recalibration`."""

_REQUIRED_KEYS: Final = (
    "ich3d_version",
    "config",
    "preprocessing_sha256",
    "fingerprint",
    "folds",
    "files",
    "manifest_sha256",
)


@dataclass(frozen=True)
class Manifest:
    """What a model folder that was found whole says of itself.

    Attributes:
        format_version: the format of the folder.
        ich3d_version: the version that wrote it.
        config: the configuration that it was trained with.
        preprocessing_sha256: the hash of the grid and store format that it was trained on.
        fingerprint: what the training set was like.
        folds: the numbers of its folds.
        files: the hash of each file by its path in the folder.
        training_groups_known: whether the patients that it was trained on are recorded; without
            them nothing proves that a patient is new to it.
        performance: how well it scores patients that are new to it; None where that is not
            recorded.
        sha256: the hash of the manifest itself, which stands for the whole model.
    """

    format_version: int
    ich3d_version: str
    config: Config
    preprocessing_sha256: str
    fingerprint: dict[str, Any]
    folds: tuple[int, ...]
    files: dict[str, str]
    training_groups_known: bool
    performance: Performance | None
    sha256: str


def write_manifest(
    folder: Path,
    config: Config,
    fingerprint: Mapping[str, Any],
    folds: Sequence[int],
    training_groups_known: bool = True,
    performance: Performance | None = None,
) -> None:
    """Describe the files in `folder`: a model trained with `config` on data like `fingerprint`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest = {
        "format_version": FORMAT_VERSION,
        "ich3d_version": ich3d.__version__,
        "config": as_dict(config),
        "preprocessing_sha256": preprocessing_sha256(config.prepare),
        "fingerprint": fingerprint,
        "folds": list(folds),
        "training_groups_known": training_groups_known,
        "performance": None if performance is None else performance.as_dict(),
        "files": {path.relative_to(folder).as_posix(): file_sha256(path) for path in files},
    }
    write_json(folder / MANIFEST, {**manifest, "manifest_sha256": _tree_sha256(manifest)})


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of `folder` and check every file against it.

    Raises:
        ModelError: a file was changed, is missing or foreign; the format is not one that this
            version reads; or the model was trained on data that this version prepares in
            another way.
    """
    path = folder / MANIFEST
    tree = _read_unchanged(folder)
    _require_whole(folder, tree["files"])

    config = from_dict(tree["config"], str(path))
    if tree["preprocessing_sha256"] != preprocessing_sha256(config.prepare):
        raise ModelError(f"{folder} was trained on data prepared in another way; train it again")
    sha256 = file_sha256(path)
    performance = tree.get("performance")  # not in models of 0.1 and 0.2
    return Manifest(
        format_version=tree["format_version"],
        ich3d_version=tree["ich3d_version"],
        config=config,
        preprocessing_sha256=tree["preprocessing_sha256"],
        fingerprint=tree["fingerprint"],
        folds=tuple(tree["folds"]),
        files=tree["files"],
        training_groups_known=tree.get("training_groups_known", True),  # always known in format 1
        performance=with_card(
            None if performance is None else Performance.from_dict(performance), folder, sha256
        ),
        sha256=sha256,
    )


def has_known_training_groups(weights: Path) -> bool:
    """Whether the patients behind a file of weights can be known.

    False only for a file in a model folder whose manifest says that they are not recorded. A file
    elsewhere, such as one of a run folder, is taken as it is.
    """
    folder = weights.parent.parent  # a model keeps them in encoder/ and context/
    return not (folder / MANIFEST).is_file() or read_manifest(folder).training_groups_known


def _read_unchanged(folder: Path) -> dict[str, Any]:
    """The tree in the manifest's file; ModelError where it is none or was changed since it was
    written.
    """
    require_model(folder)
    path = folder / MANIFEST
    try:
        tree: dict[str, Any] = read_json(path)
    except DataError as error:
        raise ModelError(str(error)) from None

    version = tree.get("format_version") if isinstance(tree, dict) else None
    if version not in READABLE_VERSIONS:
        readable = " and ".join(map(str, READABLE_VERSIONS))
        raise ModelError(
            f"{path} has format_version {version}; this version of ich3d reads {readable}"
        )
    for key in _REQUIRED_KEYS:
        if key not in tree:
            raise ModelError(f"{path} has no key {key}")

    given_sha256 = tree.pop("manifest_sha256")
    if _tree_sha256(tree) != given_sha256:
        raise ModelError(f"{path} was changed: it does not have the hash that it gives of itself")
    return tree


def _require_whole(folder: Path, files: dict[str, str]) -> None:
    """ModelError unless every listed file is as it was, and no other file is beside them."""
    for name, expected_sha256 in files.items():
        file = folder / name
        if not file.is_file():
            raise ModelError(f"{file} is missing")
        if file_sha256(file) != expected_sha256:
            raise ModelError(f"{file} was changed: it does not have the hash that {MANIFEST} gives")

    listed = {*files, MANIFEST}
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.relative_to(folder).as_posix() not in listed:
            raise ModelError(f"{file} does not belong to the model: {MANIFEST} does not list it")


def _tree_sha256(tree: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()
