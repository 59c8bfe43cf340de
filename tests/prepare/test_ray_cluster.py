"""Preparation on a Ray cluster of two nodes on this machine."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from ich3d.dicom.write import write_series
from tests.helpers.ray_cluster import running_cluster
from tests.helpers.series import head_series

N_SERIES = 30


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray") / "in"
    for number in range(N_SERIES):
        write_series(head_series(name=f"head{number}", n=10), folder / str(number))
    return folder


def config_for(images: Path, workspace: Path) -> Path:
    path = workspace.with_suffix(".yaml")
    path.write_text(
        f"workspace: {workspace}\nsource: {{kind: folder, path: {images}}}\n"
        "prepare: {folds: 3, matrix: 48, pixel_mm: 6.0}\n"
    )
    return path


def written(workspace: Path) -> dict[str, bytes]:
    return {
        path.relative_to(workspace).as_posix(): path.read_bytes()
        for path in sorted(workspace.rglob("*"))
        if path.is_file() and path.suffix != ".sqlite"
    }


def n_done(workspace: Path) -> int:
    return len(list(workspace.glob("store/parts/*.json")))


def wait_for(workspace: Path, count: int, driver: "subprocess.Popen[bytes]") -> None:
    """Wait until so many series are prepared."""
    while n_done(workspace) < count:
        assert driver.poll() is None, "the driver ended too early"
        time.sleep(0.02)


def prepare_command(config: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "ich3d", "prepare", "--config", str(config), *options]


@pytest.mark.alone
@pytest.mark.trains
def test_a_lost_node_and_a_killed_driver_cost_only_what_they_had_in_hand(
    images: Path, tmp_path: Path
) -> None:
    serial, workspace = tmp_path / "serial", tmp_path / "run"
    subprocess.run(prepare_command(config_for(images, serial), "--workers", "1"), check=True)

    with running_cluster() as cluster:
        on_ray = ("--workers", "1", "--ray", cluster.address)
        command = prepare_command(config_for(images, workspace), *on_ray)
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as driver:
            wait_for(workspace, N_SERIES // 3, driver)
            cluster.kill_node()
            wait_for(workspace, N_SERIES * 2 // 3, driver)
            driver.kill()

        before = {path: path.stat().st_mtime_ns for path in workspace.rglob("*.b2nd")}
        assert n_done(workspace) < N_SERIES
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL, timeout=300)
    finished = {path: path.stat().st_mtime_ns for path in before}
    assert finished == before
    assert written(workspace) == written(serial)
