"""`info` describes a model folder without loading the model, and refuses what `load_model` does."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ich3d.config.root import Config
from ich3d.core.errors import ModelError
from ich3d.core.workspace import read_json
from ich3d.model.folder import load_model
from ich3d.model.info import info
from ich3d.model.manifest import MANIFEST, write_manifest
from tests.helpers.manifests import edit_manifest


def test_the_description_is_that_of_the_folder(finished_run: Config, model_folder: Path) -> None:
    described = info(model_folder)
    files = [path for path in model_folder.rglob("*") if path.is_file()]
    size_mb = sum(path.stat().st_size for path in files) / 1e6
    sha256 = hashlib.sha256((model_folder / MANIFEST).read_bytes()).hexdigest()

    assert described["format_version"] == 3
    assert described["files"] == len(files)
    assert described["size_mb"] == pytest.approx(size_mb, abs=0.051)
    assert described["model_sha256"] == sha256
    assert described["folds"] == [0, 1, 2]
    assert described["prepare"] == {"matrix": 48, "pixel_mm": 4.8}
    assert described["slices"]["windows"] == list(finished_run.slices.windows)
    assert described["trained_on"] == read_json(model_folder / MANIFEST)["fingerprint"]


@pytest.mark.parametrize(
    ("is_known", "expected"),
    [(True, "provable: "), (False, "not proven: ")],
    ids=["known", "unknown"],
)
def test_it_says_whether_held_out_patients_can_be_proven(
    is_known: bool, expected: str, tmp_path: Path
) -> None:
    write_manifest(tmp_path, Config(), {}, [0], training_groups_known=is_known)
    assert info(tmp_path)["held_out"].startswith(expected)


def test_no_network_library_is_loaded(tmp_path: Path) -> None:
    write_manifest(tmp_path, Config(), {}, [0])
    script = (
        f"import sys\nfrom ich3d.cli.parser import main\ncode = main(['info', {str(tmp_path)!r}])\n"
        "print('LOADED', sorted({'torch', 'monai', 'lightgbm', 'pydicom'} & set(sys.modules)))\n"
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True
    )
    assert "LOADED []" in done.stdout


def add_a_byte(folder: Path) -> None:
    with (folder / "context" / "fold0.safetensors").open("ab") as file:
        file.write(b" ")


def change_the_format(folder: Path) -> None:
    edit_manifest(folder, lambda manifest: manifest.update(format_version=99))


def delete(folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize("spoil", [add_a_byte, change_the_format, delete])
def test_a_folder_is_refused_with_the_message_of_load_model(
    model_folder: Path, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    folder = Path(shutil.copytree(model_folder, tmp_path / "model"))
    spoil(folder)
    with pytest.raises(ModelError) as by_info:
        info(folder)
    with pytest.raises(ModelError) as by_load_model:
        load_model(folder)
    assert str(by_info.value) == str(by_load_model.value)
