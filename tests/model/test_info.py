"""`ich3d info`: a model described without loading it, and refused as `load_model` refuses it."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ich3d.cli.parser import main
from ich3d.config.root import Config
from ich3d.core.errors import ModelError
from ich3d.core.workspace import Workspace, read_json


@pytest.fixture
def folder(finished_run: Config, tmp_path: Path) -> Path:
    """A copy of the model, free to be spoiled."""
    return Path(shutil.copytree(Workspace(Path(finished_run.workspace)).model, tmp_path / "model"))


def test_it_tells_what_the_model_is(
    finished_run: Config, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", str(folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert told["files"] == len(files)
    assert told["size_mb"] == pytest.approx(
        sum(path.stat().st_size for path in files) / 1e6, abs=0.051
    )
    assert (
        told["model_sha256"] == hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    )
    assert told["folds"] == [0, 1, 2]
    assert told["prepare"] == {"matrix": 48, "pixel_mm": 4.8}
    assert told["slices"]["windows"] == list(finished_run.slices.windows)
    assert told["trained_on"] == read_json(folder / "manifest.json")["fingerprint"]


def test_the_lines_name_encoder_and_prevalence(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  encoder: resnet10" in lines
    assert "  windows: brain, subdural, bone" in lines
    assert "  prevalence:" in lines


def test_no_network_library_is_loaded(folder: Path) -> None:
    script = (
        f"import sys\nfrom ich3d.cli.parser import main\ncode = main(['info', {str(folder)!r}])\n"
        "print('LOADED', sorted({'torch', 'monai', 'lightgbm', 'pydicom'} & set(sys.modules)))\n"
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True
    )
    assert "LOADED []" in done.stdout


def change_a_byte(folder: Path) -> None:
    with (folder / "context" / "fold0.safetensors").open("ab") as file:
        file.write(b" ")


def age(folder: Path) -> None:
    manifest = read_json(folder / "manifest.json")
    (folder / "manifest.json").write_text(json.dumps({**manifest, "format_version": 99}))


def empty(folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize("spoil", [change_a_byte, age, empty])
def test_what_cannot_be_loaded_is_refused_in_the_same_words(
    folder: Path, spoil: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    from ich3d.model.folder import load_model

    spoil(folder)
    assert main(["info", str(folder)]) == 2
    with pytest.raises(ModelError) as caught:
        load_model(folder)
    assert capsys.readouterr().err.strip() == f"ich3d: {caught.value}"
