"""`ich3d doctor`: what it says, what it loads to say it, and how it says that something is missing."""

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from packaging.requirements import Requirement

from ich3d.cli.doctor import EXTRAS, NEEDED
from ich3d.cli.parser import main
from ich3d.config.root import Config
from ich3d.config.schema import SlicesConfig
from ich3d.core.hardware import cpu_has_bf16
from ich3d.model.backends import FoldEncoders
from ich3d.slices.encoder import EncoderEnsemble

ROOT = Path(__file__).parents[2]


def doctor(*flags: str, first: Path | None = None) -> tuple[int, dict[str, Any], set[str]]:
    """Exit code, tree and loaded packages of `ich3d doctor --json` in a new interpreter with `flags`, which
    looks for packages in `first` before all else."""
    script = (
        f"import sys\nsys.path[:0] = {[str(first or ROOT), str(ROOT)]}\nfrom ich3d.cli.parser import main\n"
        "code = main(['doctor', '--json'])\nprint('LOADED', *sys.modules)\nsys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, *flags, "-c", script], capture_output=True, encoding="utf-8", check=False
    )
    told, loaded = done.stdout.split("LOADED")
    return done.returncode, json.loads(told), set(loaded.split())


def pretend(folder: Path, name: str, version: str) -> None:
    """Metadata as pip would leave them for a package."""
    metadata = folder / f"{name}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_every_dependency_is_looked_at() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {Requirement(text).name for text in project["dependencies"]} == set(NEEDED)


def test_it_tells_versions_and_where_it_would_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["packages"]["numpy"] == np.__version__
    assert tree["packages"]["pydicom"] == pydicom.__version__
    assert tree["missing"]["packages"] is None
    assert tree["precision"] in {"bf16", "fp32"}
    assert tree["path"] == FoldEncoders([EncoderEnsemble(SlicesConfig())], Config()).path
    absent = [
        name for use in tree["extras"].values() for name, found in use.items() if found is None
    ]
    assert (tree["missing"]["extras"] or "").split()[4:] == absent


def test_the_lines_say_what_the_json_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"  numpy: {np.__version__}" in lines
    assert any(re.fullmatch(r"device: \w+", line) for line in lines)


@pytest.mark.skipif(
    not version("torch").endswith("+cpu"), reason="this build of torch may have a device"
)
def test_a_cpu_build_is_known_without_loading_it() -> None:
    code, tree, loaded = doctor()
    assert code == 0
    assert tree["device"] == "cpu"
    assert tree["precision"] == ("bf16" if cpu_has_bf16() else "fp32")
    assert not loaded & {"torch", "monai", "lightgbm", "numpy", "pydicom", "SimpleITK", "pandas"}


def test_another_build_is_asked_for_its_device(tmp_path: Path) -> None:
    from ich3d.training.device import bf16_is_native, device

    pretend(tmp_path, "torch", "2.13.0")
    _, tree, loaded = doctor(first=tmp_path)
    assert tree["packages"]["torch"] == "2.13.0"
    assert "torch" in loaded
    assert tree["device"] == str(device())
    assert tree["precision"] == ("bf16" if bf16_is_native(device()) else "fp32")


def test_a_torch_that_does_not_load_is_said(tmp_path: Path) -> None:
    pretend(tmp_path, "torch", "2.13.0")
    (tmp_path / "torch.py").write_text("raise ImportError('libcuda.so.1 is not there')")
    code, tree, _ = doctor(first=tmp_path)
    assert code == 0
    assert tree["device"] == "unknown: torch does not load (libcuda.so.1 is not there)"


def test_an_empty_environment_is_told_what_to_install() -> None:
    code, tree, _ = doctor("-I", "-S")  # no site-packages: nothing is installed
    assert code == 1
    assert set(tree["packages"].values()) == {None}
    assert tree["device"] is None
    start = f"{sys.executable} -m pip install "
    assert tree["missing"]["packages"] == start + " ".join(NEEDED)
    assert tree["missing"]["extras"] == start + " ".join(
        name for use in EXTRAS.values() for name in use
    )
