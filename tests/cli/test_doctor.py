"""`ich3d doctor`: what it reports, what it imports for that, and how missing packages appear."""

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
    """Run `ich3d doctor --json` in a new interpreter.

    Args:
        flags: options of the interpreter.
        first: folder that is searched for packages before all others.

    Returns:
        Exit code, the JSON tree, and the names of all imported modules.
    """
    search = [str(first or ROOT), str(ROOT)]
    script = (
        f"import sys\nsys.path[:0] = {search}\n"
        "from ich3d.cli.parser import main\n"
        "code = main(['doctor', '--json'])\nprint('LOADED', *sys.modules)\nsys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, *flags, "-c", script], capture_output=True, encoding="utf-8", check=False
    )
    printed, imported = done.stdout.split("LOADED")
    return done.returncode, json.loads(printed), set(imported.split())


def write_metadata(folder: Path, name: str, version: str) -> None:
    """Write the metadata that pip would write for an installed package."""
    metadata = folder / f"{name}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_every_dependency_is_listed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {Requirement(text).name for text in project["dependencies"]} == set(NEEDED)


def test_it_reports_versions_and_where_a_prediction_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["doctor", "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["packages"]["numpy"] == np.__version__
    assert tree["packages"]["pydicom"] == pydicom.__version__
    assert tree["missing"]["packages"] is None
    assert tree["precision"] in {"bf16", "fp32"}
    encoders = FoldEncoders([EncoderEnsemble.from_config(SlicesConfig())], Config())
    assert tree["path"] == encoders.runtime

    missing = [
        package
        for versions in tree["extras"].values()
        for package, installed in versions.items()
        if installed is None
    ]
    assert (tree["missing"]["extras"] or "").split()[4:] == missing


def test_it_says_where_the_starter_model_is() -> None:
    _, tree, _ = doctor()
    assert tree["starter_model"] == str(ROOT / "ich3d" / "starter")


def test_the_text_holds_the_same_as_the_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"  numpy: {np.__version__}" in lines
    assert any(re.fullmatch(r"device: \w+", line) for line in lines)


@pytest.mark.skipif(
    not version("torch").endswith("+cpu"), reason="this build of torch may have a device"
)
def test_a_torch_for_cpus_is_not_imported() -> None:
    code, tree, imported = doctor()
    assert code == 0
    assert tree["device"] == "cpu"
    assert tree["precision"] == ("bf16" if cpu_has_bf16() else "fp32")
    assert not imported & {"torch", "monai", "lightgbm", "numpy", "pydicom", "SimpleITK", "pandas"}


def test_another_torch_is_asked_for_its_device(tmp_path: Path) -> None:
    from ich3d.training.device import bf16_is_native, device

    write_metadata(tmp_path, "torch", "2.13.0")
    _, tree, imported = doctor(first=tmp_path)
    assert tree["packages"]["torch"] == "2.13.0"
    assert "torch" in imported
    assert tree["device"] == str(device())
    assert tree["precision"] == ("bf16" if bf16_is_native(device()) else "fp32")


def test_a_torch_that_does_not_load_is_reported(tmp_path: Path) -> None:
    write_metadata(tmp_path, "torch", "2.13.0")
    (tmp_path / "torch.py").write_text("raise ImportError('libcuda.so.1 is not there')")
    code, tree, _ = doctor(first=tmp_path)
    assert code == 0
    assert tree["device"] == "unknown: torch does not load (libcuda.so.1 is not there)"


def test_an_empty_environment_gets_the_commands_that_install_all() -> None:
    code, tree, _ = doctor("-I", "-S")  # no site-packages: nothing is installed
    assert code == 1
    assert set(tree["packages"].values()) == {None}
    assert tree["device"] is None
    start = f"{sys.executable} -m pip install "
    assert tree["missing"]["packages"] == start + " ".join(NEEDED)
    extras = [package for packages in EXTRAS.values() for package in packages]
    assert tree["missing"]["extras"] == start + " ".join(extras)
