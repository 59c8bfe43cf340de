"""What documents tell a reader to type: commands parse, and all blocks run, on small phantoms."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ich3d.cli.parser import build_parser
from ich3d.config.root import Config
from ich3d.config.schema import PhantomConfig
from ich3d.phantom import write_phantoms
from tests.helpers.ct_ich import disc_hu, save_window, write_diagnosis
from tests.helpers.doc_blocks import (
    RECORDS,
    ROOT,
    blocks,
    ich3d_commands,
    instructions,
    script,
    wrapper,
)
from tests.helpers.rsna import write_rsna

PAGES = instructions()
MOST_NOT_RUN = 5


@pytest.mark.parametrize("page", [*PAGES, *RECORDS])
def test_every_command_parses(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Its options exist, and so do the configurations that it names."""
    for block in blocks(page):
        for arguments in ich3d_commands(block.code) if block.language == "bash" else []:
            try:
                parsed = build_parser().parse_args(arguments)
            except SystemExit:
                pytest.fail(f"{page}, line {block.line}: {arguments}: {capsys.readouterr().err}")
            config = getattr(parsed, "config", None)
            if config is not None and config.parts[0] == "configs":
                assert (ROOT / config).is_file(), f"{page}, line {block.line}"


@pytest.mark.parametrize("page", [*PAGES, *RECORDS])
def test_every_script_that_is_called_exists(page: str) -> None:
    for block in blocks(page):
        words = block.code.split()
        scripts = [word for word in words if word.startswith("scripts/")]
        assert [name for name in scripts if not (ROOT / name).is_file()] == []


def test_few_blocks_cannot_run(capsys: pytest.CaptureFixture[str]) -> None:
    not_run = [block for page in PAGES for block in blocks(page) if block.not_run]
    with capsys.disabled():
        for block in not_run:
            sys.stdout.write(f"\nnot run: {block.page}, line {block.line}: {block.not_run}\n")
    assert len(not_run) <= MOST_NOT_RUN


@pytest.fixture(scope="module")
def world(finished_run: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader's folder: studies, labels, data sets in their own layouts, and a trained model."""
    folder = tmp_path_factory.mktemp("reader")
    one = PhantomConfig(studies=1, matrix=128, thickness_mm=(10.0,))
    list(write_phantoms(one, 3, folder / "phantom"))
    shutil.move(folder / "phantom" / "study-0000", folder / "study")
    shutil.rmtree(folder / "phantom")
    prevalence = {"intraparenchymal": 0.5, "subdural": 0.5, "epidural": 0.4}
    several = PhantomConfig(studies=9, matrix=64, thickness_mm=(10.0,), prevalence=prevalence)
    list(write_phantoms(several, 4, folder / "scans"))

    rsna = write_rsna(folder / "rsna")
    shutil.copy(rsna.path, folder / "rsna-intracranial-hemorrhage-detection.zip")
    _write_ct_ich(folder / "ct-ich")

    shutil.copytree(ROOT / "configs", folder / "configs")
    run = Path(finished_run.workspace)
    shutil.copytree(run, folder / "runs" / "demo", ignore=shutil.ignore_patterns("source"))
    shutil.copytree(run / "model", folder / "runs" / "new" / "model")
    return folder


def _write_ct_ich(folder: Path) -> None:
    """Six patients in CT-ICH's layout, half of whom bleed."""
    rows, noise = [], np.random.default_rng(0)
    for patient in range(49, 55):
        for number in range(1, 5):
            hu = np.kron(disc_hu(number), np.ones((8, 8)))  # CT-ICH's pixels are small
            hu += noise.normal(0, 4, hu.shape)  # equal slices would make one patient of all
            images = folder / "Patients_CT" / f"{patient:03d}"
            save_window(images / "brain" / f"{number}.jpg", hu, 40, 120)
            save_window(images / "bone" / f"{number}.jpg", hu, 700, 3200)
            bleeds = int(patient % 2 == 0 and number in (2, 3))
            rows.append(f"{patient},{number},0,{bleeds},0,0,0,{1 - bleeds},0")
    write_diagnosis(folder, *rows)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(not b.not_run for b in blocks(page))]
)
def test_the_blocks_of_a_page_run(page: str, world: Path, tmp_path: Path) -> None:
    here = tmp_path / "reader"
    shutil.copytree(world, here)
    programs = tmp_path / "bin"
    programs.mkdir()
    environment = Path(sys.executable).parent
    for name in ("ich3d", "torchrun"):
        (programs / name).write_text(wrapper(environment / name))
        (programs / name).chmod(0o755)

    run = subprocess.run(
        ["bash", "-c", script(page)],
        cwd=here,
        env={
            "PATH": f"{programs}:{environment}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "ICH3D_CT_ICH": "ct-ich",
            "ICH3D_SERESNEXT50": "",
            "ICH3D_SERESNEXT50_SHA256": "",
        },
        capture_output=True,
        encoding="utf-8",
        timeout=1200,
        check=False,
    )
    assert run.returncode == 0, f"{run.stdout[-3000:]}\n{run.stderr[-5000:]}"
