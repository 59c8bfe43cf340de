"""A model folder is data, and is refused where it is not what was saved."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydicom.uid import ExplicitVRLittleEndian

from ich3d.config.root import Config
from ich3d.config.schema import StackConfig
from ich3d.context.dataset import ContextInput
from ich3d.context.geometry import geometry
from ich3d.core.errors import ModelError
from ich3d.core.labels import LABELS
from ich3d.core.metrics import logit
from ich3d.core.workspace import Workspace, read_json
from ich3d.model.fold_model import stack_features
from ich3d.model.folder import load_model, save_model
from ich3d.stack.booster import StackRows, fit_stack, score_stack


@pytest.fixture
def folder(finished_run: Config, tmp_path: Path) -> Path:
    """A copy of the model, free to be spoiled."""
    return Path(shutil.copytree(Workspace(Path(finished_run.workspace)).model, tmp_path / "model"))


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest as another version of the package might have written it: with a right hash."""
    manifest = read_json(folder / "manifest.json")
    del manifest["manifest_sha256"]
    change(manifest)
    own = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps({**manifest, "manifest_sha256": own}))


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_manifest_tells_what_the_model_is(finished_run: Config, folder: Path) -> None:
    manifest = read_json(folder / "manifest.json")
    assert set(manifest) == {
        "format_version", "ich3d_version", "config", "preprocessing_sha256", "fingerprint", "folds", "files",
        "manifest_sha256",
    }  # fmt: skip
    assert manifest["folds"] == [0, 1, 2]
    assert manifest["fingerprint"]["transfer_syntaxes"] == {ExplicitVRLittleEndian: 7}
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    del files["manifest.json"]
    assert manifest["files"] == {
        n: hashlib.sha256(p.read_bytes()).hexdigest() for n, p in files.items()
    }
    assert load_model(folder).config == finished_run


def test_no_file_in_it_can_be_executed(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            assert path.suffix in {".json", ".safetensors", ".txt"}
            assert path.read_bytes()[:1] not in (
                b"\x80",
                b"P",
            )  # how pickles and zip archives begin


@pytest.mark.parametrize(
    "name", ["encoder/fold0.safetensors", "context/fold2.safetensors", "stack/fold1.json"]
)
def test_one_changed_byte_is_refused(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[-2] ^= 1
    (folder / name).write_bytes(content)
    assert f"{folder / name} was changed" in refusal(folder)


def test_a_missing_file_is_refused(folder: Path) -> None:
    (folder / "stack" / "fold1.json").unlink()
    assert refusal(folder) == f"{folder / 'stack' / 'fold1.json'} is missing"


def test_a_foreign_file_is_refused(folder: Path) -> None:
    (folder / "stack" / "extra.txt").write_text("")
    assert f"{folder / 'stack' / 'extra.txt'} does not belong" in refusal(folder)


def test_a_newer_format_is_refused(folder: Path) -> None:
    edit_manifest(folder, lambda manifest: manifest.update(format_version=2))
    message = refusal(folder)
    assert f"{folder / 'manifest.json'} has format_version 2" in message
    assert "reads 1" in message


def test_another_preprocessing_is_refused(folder: Path) -> None:
    edit_manifest(folder, lambda manifest: manifest.update(preprocessing_sha256="0" * 64))
    assert f"{folder} was trained on data prepared in another way" in refusal(folder)


def test_a_changed_manifest_is_refused(folder: Path) -> None:
    manifest = read_json(folder / "manifest.json")
    manifest["config"]["slices"]["tta_flip"] = not manifest["config"]["slices"]["tta_flip"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert f"{folder / 'manifest.json'} was changed" in refusal(folder)


@pytest.mark.parametrize("content", [None, "", "no json", "[]", "{}", '{"format_version": 1}'])
def test_what_is_no_model_folder_is_refused(folder: Path, content: str | None) -> None:
    path = folder / "manifest.json"
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    assert str(path) in refusal(folder)


def test_trees_survive_saving_exactly(folder: Path, tmp_path: Path) -> None:
    """The tiny run keeps no trees, so some are grown here on scores that they can better."""
    rng = np.random.default_rng(0)
    groups, z_mm = 24, np.arange(20) * 5.0
    model = load_model(folder)
    start = rng.uniform(0.02, 0.98, (groups, 20, len(LABELS))).astype(np.float32)
    target = (np.roll(start, 1, axis=1) > 0.5).astype(np.float32)
    target[:, 0] = 0
    features = [
        stack_features(
            ContextInput(one, logit(one), geometry(z_mm), np.arange(len(z_mm))),
            one,
            z_mm,
            model.config,
        )
        for one in start
    ]
    rows = StackRows(
        features=pd.concat(features, ignore_index=True),
        start=start.reshape(-1, len(LABELS)),
        target=target.reshape(-1, len(LABELS)),
        group=np.repeat([f"p{i}" for i in range(groups)], 20),
        fold=np.repeat(np.arange(groups) % 3, 20),
    )
    stack = fit_stack(rows, StackConfig(num_trees=40), seed=0)
    assert all(item.is_kept for item in stack.values())
    fold_model = replace(model.fold_models[0], stack=stack)
    meta = {"preprocessing_sha256": read_json(folder / "manifest.json")["preprocessing_sha256"]}
    save_model(
        tmp_path / "grown", model.config, {**meta, "fingerprint": model.fingerprint}, [fold_model]
    )
    loaded = load_model(tmp_path / "grown").fold_models[0]
    assert loaded.stack == stack
    np.testing.assert_array_equal(
        score_stack(loaded.stack, features[0], start[0]), score_stack(stack, features[0], start[0])
    )
