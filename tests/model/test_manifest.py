"""A model folder is read only if every file of it is as its manifest says."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ich3d
from ich3d.config.root import Config
from ich3d.config.schema import PrepareConfig, SlicesConfig
from ich3d.core.errors import ModelError
from ich3d.core.workspace import read_json
from ich3d.model.manifest import FORMAT_VERSION, MANIFEST, read_manifest, write_manifest
from ich3d.prepare.store import preprocessing_sha256
from tests.helpers.manifests import edit_manifest

CONFIG = Config(
    prepare=PrepareConfig(matrix=48, pixel_mm=4.8),
    slices=SlicesConfig(encoder="resnet10-half", ensemble_size=2),
)
FINGERPRINT = {"counts": {"series": 7}}
FILES = {"encoder/fold0.safetensors": b"weights", "stack/fold0.json": b"{}"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a manifest of two files that are no networks; a manifest does not look in."""
    folder = tmp_path / "model"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(content)
    write_manifest(folder, CONFIG, FINGERPRINT, folds=[0])
    return folder


def refusal(folder: Path) -> str:
    """The message that the folder is refused with, one line."""
    with pytest.raises(ModelError) as caught:
        read_manifest(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_manifest_describes_the_model(folder: Path) -> None:
    manifest = read_manifest(folder)
    assert manifest.format_version == FORMAT_VERSION == 3
    assert manifest.ich3d_version == ich3d.__version__
    assert manifest.config == CONFIG
    assert manifest.preprocessing_sha256 == preprocessing_sha256(CONFIG.prepare)
    assert manifest.fingerprint == FINGERPRINT
    assert manifest.folds == (0,)
    assert manifest.files == {
        name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()
    }
    assert manifest.training_groups_known
    assert manifest.sha256 == hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()


def test_the_keys_of_the_file_are_fixed(folder: Path) -> None:
    """People's scripts read them."""
    assert set(read_json(folder / MANIFEST)) == {
        "format_version",
        "ich3d_version",
        "config",
        "preprocessing_sha256",
        "fingerprint",
        "folds",
        "training_groups_known",
        "performance",
        "files",
        "manifest_sha256",
    }


@pytest.mark.parametrize("is_known", [True, False])
def test_whether_training_groups_are_known_is_recorded(folder: Path, is_known: bool) -> None:
    (folder / MANIFEST).unlink()
    write_manifest(folder, CONFIG, FINGERPRINT, [0], training_groups_known=is_known)
    assert read_manifest(folder).training_groups_known is is_known


def test_in_format_1_training_groups_are_always_known(folder: Path) -> None:
    def as_format_1(manifest: dict[str, Any]) -> None:
        manifest["format_version"] = 1
        del manifest["training_groups_known"]
        slices = manifest["config"]["slices"]
        slices["members"] = slices.pop("ensemble_size")

    edit_manifest(folder, as_format_1)
    manifest = read_manifest(folder)
    assert manifest.format_version == 1
    assert manifest.training_groups_known
    assert manifest.config == CONFIG


@pytest.mark.parametrize("name", FILES)
def test_a_changed_byte_is_refused(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    assert f"{folder / name} was changed" in refusal(folder)


def test_a_missing_file_is_refused(folder: Path) -> None:
    (folder / "stack" / "fold0.json").unlink()
    assert refusal(folder) == f"{folder / 'stack' / 'fold0.json'} is missing"


def test_a_file_that_is_not_listed_is_refused(folder: Path) -> None:
    (folder / "stack" / "extra.txt").write_text("")
    assert f"{folder / 'stack' / 'extra.txt'} does not belong to the model" in refusal(folder)


def test_another_format_is_refused(folder: Path) -> None:
    edit_manifest(folder, lambda manifest: manifest.update(format_version=99))
    assert f"{folder / MANIFEST} has format_version 99" in refusal(folder)
    assert "reads 1 and 2" in refusal(folder)


def test_other_preprocessing_is_refused(folder: Path) -> None:
    edit_manifest(folder, lambda manifest: manifest.update(preprocessing_sha256="0" * 64))
    assert f"{folder} was trained on data prepared in another way" in refusal(folder)


def flip_tta(manifest: dict[str, Any]) -> None:
    manifest["config"]["slices"]["tta_flip"] = not manifest["config"]["slices"]["tta_flip"]


def claim_known_groups(manifest: dict[str, Any]) -> None:
    manifest["training_groups_known"] = not manifest["training_groups_known"]


@pytest.mark.parametrize("change", [flip_tta, claim_known_groups])
def test_a_changed_manifest_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    manifest = read_json(folder / MANIFEST)
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))
    assert f"{folder / MANIFEST} was changed" in refusal(folder)


@pytest.mark.parametrize("content", [None, "", "no json", "[]", "{}", '{"format_version": 2}'])
def test_a_folder_without_a_manifest_is_refused(folder: Path, content: str | None) -> None:
    path = folder / MANIFEST
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    assert str(folder if content is None else path) in refusal(folder)
