"""What lies at a path, and what to do where a command needs something else.

Only names and first bytes are looked at, so that an answer takes no time and no heavy package.
"""

import os
from collections.abc import Iterator
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Final
from zipfile import is_zipfile

from ich3d.core.errors import ConfigError, DataError, ModelError, suggestion

MAX_LOOKED_AT: Final = 200
"""Most files of a folder that are looked at."""

_DICOM_PREFIX: Final = slice(128, 132)
"""Where the bytes `DICM` stand in a DICOM file (PS3.10 7.1)."""


class PathKind(StrEnum):
    """What lies at a path, as sentences call it."""

    MODEL = "a model folder"
    RUN = "a run folder"
    STORE = "a prepared store"
    BUNDLE = "a MONAI Bundle"
    PREDICTIONS = "an output folder of `ich3d predict`"
    CT_ICH = "the data set CT-ICH of PhysioNet, or a part of it"
    NIFTI = "a NIfTI image"
    PICTURE = "a picture"
    TABLE = "a table"
    CONFIG = "a configuration"
    WEIGHTS = "a file of weights"
    DICOM = "DICOM"
    EMPTY = "an empty folder"
    UNKNOWN = "something else"


_BY_SUFFIX: Final = (
    ((".nii", ".nii.gz"), PathKind.NIFTI),
    ((".jpg", ".jpeg", ".png"), PathKind.PICTURE),
    ((".csv",), PathKind.TABLE),
    ((".yaml", ".yml"), PathKind.CONFIG),
    ((".safetensors", ".pt", ".pth", ".ts"), PathKind.WEIGHTS),
)


def kind_of(path: Path) -> PathKind:
    """What lies at `path`; UNKNOWN where nothing does, or where it may not be read."""
    try:
        return _kind_of(path)
    except PermissionError:  # whatever reads it next names what is closed
        return PathKind.UNKNOWN


def _kind_of(path: Path) -> PathKind:
    if (path / "hemorrhage_diagnosis.csv").is_file():
        return PathKind.CT_ICH
    kind = _kind_of_folder(path) if path.is_dir() else _kind_of_file(path)
    folders = (path, *path.absolute().parents)
    if kind is PathKind.PICTURE and any(folder.name == "Patients_CT" for folder in folders):
        return PathKind.CT_ICH
    return kind


def no_such(what: str, path: Path) -> DataError:
    """The error about a path at which nothing lies, with the nearest name in its folder."""
    folder = path.absolute().parent
    if not folder.is_dir():
        return DataError(f"no {what} {path}: {folder} does not exist either, check the path")
    try:
        names = [entry.name for entry in islice(folder.iterdir(), MAX_LOOKED_AT)]
    except OSError:  # it cannot be listed
        names = []
    return DataError(f"no {what} {path}{suggestion(path.name, names, ': check the path')}")


def require_table(what: str, path: Path) -> None:
    """Raise DataError unless `path` is a file; `what` says what it should hold."""
    if path.is_dir():
        raise DataError(f"{path} is a folder, not a {what}: name a CSV file")
    if not path.is_file():
        raise no_such(what, path)


def require_study(path: Path) -> None:
    """Raise DataError where `path` does not exist, or holds what is known to be no study."""
    if not path.exists():
        raise no_such("file or folder", path)
    kind = kind_of(path)
    remedies = {
        PathKind.MODEL: f"`ich3d predict STUDY --model {path} -o OUT` scores a study with it",
        PathKind.RUN: f"give the DICOM files of a study; the run's model is {path / 'model'}",
        PathKind.STORE: "only training reads it; give the DICOM files of a study",
        PathKind.BUNDLE: "MONAI runs it; give the DICOM files of a study",
        PathKind.CT_ICH: (
            "its images are JPEG; `ich3d import ct-ich DATASET OUT` writes them as DICOM"
        ),
    }
    if kind in remedies:
        raise DataError(f"{path} is {kind}, not a study: {remedies[kind]}")


def require_model(path: Path) -> None:
    """Raise ModelError unless `path` is a folder with a model's manifest."""
    if (path / "manifest.json").is_file():
        return
    kind = kind_of(path)
    if not path.exists():
        if path.name == "model" and kind_of(path.parent) is PathKind.RUN:
            raise _not_trained(path.parent)
        raise ModelError(f"there is no model folder {path}; a run keeps its own in RUN/model")
    if kind is PathKind.RUN:
        if not (path / "model" / "manifest.json").is_file():
            raise _not_trained(path)
        raise ModelError(f"{path} is a run folder, not a model folder: its model is {path}/model")
    remedies = {
        PathKind.BUNDLE: "give the model folder that it was exported from",
        PathKind.STORE: "`ich3d train` makes a model from it, in RUN/model",
        PathKind.PREDICTIONS: "give the model folder that it was predicted with",
        PathKind.DICOM: "`ich3d predict STUDY --model MODEL -o OUT` takes a study and a model",
        PathKind.WEIGHTS: "give the whole folder with its manifest.json",
    }
    what_it_is = "" if kind is PathKind.UNKNOWN else f" but {kind}"
    remedy = remedies.get(kind, "a model folder holds manifest.json; a run keeps it in RUN/model")
    raise ModelError(f"{path} is no model folder{what_it_is}: {remedy}")


def require_predictions(path: Path) -> None:
    """Raise DataError where `path` does not exist, or holds what is known to be no predictions."""
    if not path.exists():
        raise no_such("file or folder", path)
    kind = kind_of(path)
    of_predict = "give what `ich3d predict STUDY -o OUT` wrote"
    remedies = {
        PathKind.MODEL: f"{of_predict} with it",
        PathKind.RUN: f"`ich3d report` shows its held-out scores; {of_predict}",
        PathKind.STORE: of_predict,
        PathKind.BUNDLE: of_predict,
        PathKind.CT_ICH: of_predict,
        PathKind.DICOM: of_predict,
        PathKind.NIFTI: of_predict,
        PathKind.PICTURE: of_predict,
    }
    if kind in remedies:
        raise DataError(f"{path} is {kind}, not predictions: {remedies[kind]}")


def require_source(kind: str, path: Path) -> None:
    """Raise DataError unless the folder that `source.path` names is one of DICOM files, or of the
    data set that `source.kind` names.
    """
    if not path.is_dir() and (kind == "ct_ich" or not is_zipfile(path)):
        raise DataError(
            f"{path} is not a folder; set source.path to a folder of DICOM files, or a zip of them"
        )
    if kind == "folder" and kind_of(path) is PathKind.CT_ICH:
        raise DataError(f"{path} is {PathKind.CT_ICH}: set source.kind to ct_ich")
    if kind == "folder":
        require_study(path)


def require_config(path: Path) -> None:
    """Raise ConfigError unless `path` is a file; the nearest name in its folder is suggested."""
    if path.is_dir():
        raise ConfigError(f"{path} is a folder, not a configuration: name a YAML file")
    if not path.is_file():
        names = [] if not path.parent.is_dir() else sorted(path.parent.glob("*.y*ml"))
        hint = suggestion(path.name, [name.name for name in names]) if names else ""
        raise ConfigError(f"there is no config file {path}{hint}")
    kind = kind_of(path)
    if kind not in (PathKind.CONFIG, PathKind.UNKNOWN):
        raise ConfigError(f"{path} is {kind}, not a configuration: name a YAML file")


def _not_trained(run: Path) -> ModelError:
    return ModelError(
        f"{run} is a run folder without a model, since its training is not finished: "
        f"`ich3d train --config CONFIG --set workspace={run}` trains it"
    )


def _kind_of_folder(path: Path) -> PathKind:
    files = {
        PathKind.MODEL: ("manifest.json", "encoder"),
        PathKind.BUNDLE: ("configs/metadata.json", "models"),
        PathKind.STORE: ("meta.json", "slices.csv"),
        PathKind.PREDICTIONS: ("finished.jsonl",),
    }
    for kind, names in files.items():
        if all((path / name).exists() for name in names):
            return kind
    of_run = ("folds.csv", "store/meta.json", "store/*.b2nd", "encoder/fold*/inputs.json")
    if any(any(path.glob(pattern)) for pattern in of_run):
        return PathKind.RUN
    kinds = [_kind_of_file(file) for file in islice(_files(path), MAX_LOOKED_AT)]
    if PathKind.DICOM in kinds:
        return PathKind.DICOM
    return kinds[0] if kinds else PathKind.EMPTY


def _files(folder: Path) -> Iterator[Path]:
    """The files below a folder, those of one folder in the order of their names."""
    for directory, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(directory, name) for name in sorted(names))


def _kind_of_file(path: Path) -> PathKind:
    for suffixes, kind in _BY_SUFFIX:
        if path.name.lower().endswith(suffixes):
            return kind
    try:
        with path.open("rb") as file:
            is_dicom = file.read(_DICOM_PREFIX.stop)[_DICOM_PREFIX] == b"DICM"
    except OSError:
        return PathKind.UNKNOWN
    return PathKind.DICOM if is_dicom else PathKind.UNKNOWN
