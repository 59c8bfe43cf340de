"""Parts of a data set, prepared here, in a pool, in shards and on a cluster: the same files."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ich3d.config.root import Config
from ich3d.config.schema import PrepareConfig, SourceConfig
from ich3d.core.errors import ConfigError
from ich3d.core.issues import IssueCode
from ich3d.core.workspace import Workspace, read_csv
from ich3d.dicom.write import write_series
from ich3d.prepare.build import prepare, prepare_shard
from ich3d.prepare.spread import Shard, Spread
from tests.helpers.series import edit, head_series

GRID = PrepareConfig(folds=3, matrix=48, pixel_mm=6.0)
N_SERIES = 12


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve heads, one with a slice that cannot be used, and one of air."""
    folder = tmp_path_factory.mktemp("parts") / "in"
    for number in range(N_SERIES):
        paths = write_series(head_series(name=f"head{number}", n=4), folder / str(number))
    edit(paths[1], ImagePositionPatient=None)
    return folder


def config_of(images: Path, workspace: Path) -> Config:
    source = SourceConfig(kind="folder", path=str(images))
    return Config(workspace=str(workspace), source=source, prepare=GRID)


def written(workspace: Path) -> dict[str, bytes]:
    """All that preparation wrote, by name; a scan's file has no fixed order of rows.

    The command also writes a page, which the function `prepare` does not.
    """
    return {
        path.relative_to(workspace).as_posix(): path.read_bytes()
        for path in sorted(workspace.rglob("*"))
        if path.is_file() and path.suffix not in (".sqlite", ".html")
    }


@pytest.fixture(scope="module")
def serial(images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one process writes."""
    workspace = tmp_path_factory.mktemp("serial") / "run"
    prepare(config_of(images, workspace))
    files = written(workspace)
    assert sum(name.endswith(".b2nd") for name in files) == N_SERIES - 1
    assert {"fingerprint.json", "contact_sheets/sheet_0001.jpg"} <= files.keys()
    return files


def test_a_pool_writes_the_same_bytes(
    images: Path, serial: dict[str, bytes], tmp_path: Path
) -> None:
    prepare(config_of(images, tmp_path), spread=Spread(workers=2))
    assert written(tmp_path) == serial


def test_shards_in_any_order_write_the_same_bytes(
    images: Path, serial: dict[str, bytes], tmp_path: Path
) -> None:
    config = config_of(images, tmp_path)
    counts = [prepare_shard(config, Shard(number, 3)) for number in (3, 1, 2)]
    assert sum(counts) == N_SERIES
    assert min(counts) > 0
    assert not Workspace(tmp_path).folds.exists()
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.b2nd")}
    prepare(config)
    assert written(tmp_path) == serial
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in times.items())


def test_a_shard_uses_a_finished_scan(images: Path, tmp_path: Path) -> None:
    config = config_of(images, tmp_path)
    prepare(config)
    prepare_shard(config, Shard(1, 2))
    assert not list(tmp_path.glob("headers.*_of_*"))


def test_phantoms_have_no_shards(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leave out --shard"):
        prepare_shard(Config(workspace=str(tmp_path)), Shard(1, 2))


@pytest.mark.parametrize(("number", "count"), [(0, 2), (3, 2), (1, 0)])
def test_a_shard_that_does_not_exist_is_told(number: int, count: int) -> None:
    with pytest.raises(ConfigError, match="must be from 1 to the second"):
        Shard(number, count)


def killer(images: Path, number: int) -> str:
    """Code that prepares with two workers, of which one dies whenever it decodes head `number`."""
    series_uid = head_series(name=f"head{number}", n=4).series_uid
    return f"""
import os, signal, sys
import ich3d.prepare.parts as parts
original = parts.prepare_group
def prepare_group(group, *arguments):
    if group[0].series_uid == {series_uid!r}:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(group, *arguments)
parts.prepare_group = prepare_group
if __name__ == "__main__":
    from ich3d.cli.parser import main
    sys.exit(main(["prepare", "--workers", "2", *sys.argv[1:]]))
"""


def write_config(images: Path, workspace: Path, path: Path) -> Path:
    """The configuration of `config_of` as a file."""
    path.write_text(
        f"workspace: {workspace}\nsource: {{kind: folder, path: {images}}}\n"
        f"prepare: {{folds: {GRID.folds}, matrix: {GRID.matrix}, pixel_mm: {GRID.pixel_mm}}}\n"
    )
    return path


def test_a_series_that_kills_its_worker_is_rejected_and_the_others_are_prepared(
    images: Path, serial: dict[str, bytes], tmp_path: Path
) -> None:
    script, workspace = tmp_path / "killer.py", tmp_path / "run"
    script.write_text(killer(images, number=5))
    config = write_config(images, workspace, tmp_path / "config.yaml")
    command = [sys.executable, str(script), "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr

    rejected = read_csv(Workspace(workspace).rejected).to_dict("records")
    (row,) = (row for row in rejected if row["code"] == IssueCode.KILLED_WORKER)
    assert "killed 3 times" in row["detail"]
    assert row["path"].count("|") == 3
    stored = {name: content for name, content in written(workspace).items() if ".b2nd" in name}
    assert len(stored) == N_SERIES - 2
    assert stored.items() <= serial.items()


def kill_and_go_on(images: Path, folder: Path, kills: int, seed: int) -> dict[str, bytes]:
    """Prepare with two workers; the first `kills` runs are killed at a random moment."""
    rng = np.random.default_rng(seed)
    workspace = folder / "run"
    config = write_config(images, workspace, folder / "config.yaml")
    command = [sys.executable, "-m", "ich3d", "prepare", "--workers", "2", "--config", str(config)]
    for _ in range(kills):
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            time.sleep(rng.uniform(0.3, 4.0))
            process.kill()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr  # one head has a damaged slice
    return written(workspace)


def test_killed_preparations_end_with_the_same_bytes(
    images: Path, serial: dict[str, bytes], tmp_path: Path
) -> None:
    assert kill_and_go_on(images, tmp_path, kills=3, seed=0) == serial


@pytest.mark.slow
def test_preparations_killed_a_hundred_times_end_with_the_same_bytes(
    images: Path, serial: dict[str, bytes], tmp_path: Path
) -> None:
    for trial in range(20):
        folder = tmp_path / str(trial)
        folder.mkdir()
        assert kill_and_go_on(images, folder, kills=5, seed=trial) == serial
