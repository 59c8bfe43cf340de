"""A run that is killed, and started again, ends as one that was left alone."""

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ich3d.config.load import as_dict
from ich3d.config.root import Config
from ich3d.core.labels import STAGES
from ich3d.core.workspace import Workspace, read_json
from ich3d.crossfit.train import train

# Python reports each file that is about to take its place; the process dies at one of them.
KILLED_TRAINING = """
import os, signal, sys
from ich3d.cli.parser import main
config, place, left = sys.argv[1], sys.argv[2], int(sys.argv[3])

def watch(event, arguments):
    global left
    if event == "os.rename" and str(arguments[1]).endswith(place):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
main(["train", "--config", config])
"""


def elsewhere(finished_run: Config, folder: Path) -> Config:
    """The same run, not begun: its config with another workspace, and the same studies there."""
    shutil.copytree(Path(finished_run.workspace) / "source", folder / "source")
    return replace(finished_run, workspace=str(folder))


def assert_same_run(config: Config, other: Config) -> None:
    one, two = Workspace(Path(config.workspace)), Workspace(Path(other.workspace))
    for stage in STAGES:
        assert one.oof(stage).read_bytes() == two.oof(stage).read_bytes()
    assert (
        read_json(one.model / "manifest.json")["files"]
        == read_json(two.model / "manifest.json")["files"]
    )


def test_equal_seeds_give_equal_bytes(finished_run: Config, tmp_path: Path) -> None:
    config = elsewhere(finished_run, tmp_path / "run")
    train(config)
    assert_same_run(config, finished_run)


def test_a_finished_run_is_left_as_it_is(finished_run: Config) -> None:
    workspace = Workspace(Path(finished_run.workspace))
    made = [*workspace.store.glob("*.b2nd"), *workspace.root.glob("*/fold*/weights.safetensors")]
    before = {path: path.stat().st_mtime_ns for path in made}
    assert len(before) == 7 + 6  # series; encoder and context of three folds
    train(finished_run)
    assert {path: path.stat().st_mtime_ns for path in made} == before


@pytest.mark.parametrize(
    ("place", "count"),
    [
        ("encoder/fold0/member0/state.pt", 2),  # with one of two epochs behind it
        pytest.param(".b2nd", 3, marks=pytest.mark.slow),
        pytest.param("encoder/fold1/done.json", 1, marks=pytest.mark.slow),
        pytest.param("context/fold1/member0/state.pt", 2, marks=pytest.mark.slow),
        pytest.param("stack/fold1/done.json", 1, marks=pytest.mark.slow),
        pytest.param("run/model", 1, marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_goes_on_to_the_same_end(
    finished_run: Config, tmp_path: Path, place: str, count: int
) -> None:
    config = elsewhere(finished_run, tmp_path / "run")
    (tmp_path / "run.yaml").write_text(json.dumps(as_dict(config)))
    command = [sys.executable, "-c", KILLED_TRAINING, str(tmp_path / "run.yaml"), place, str(count)]
    killed = subprocess.run(command, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not (tmp_path / "run" / "run.json").exists()
    train(config)
    assert_same_run(config, finished_run)
