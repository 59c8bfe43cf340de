"""Laws that hold across rooms."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ich3d.config.root import Config
from ich3d.config.schema import PhantomConfig
from ich3d.core.labels import LABELS
from ich3d.core.types import Rejected
from ich3d.core.workspace import Workspace
from ich3d.dicom.index import index
from ich3d.dicom.volume import load_volume
from ich3d.dicom.write import SeriesToWrite, write_series
from ich3d.phantom import write_phantoms
from ich3d.sources import read_labels

ROOT = Path(__file__).parents[2]


def accounted(folder: Path) -> tuple[int, int, int]:
    """Files below `folder` in volumes, left out and rejected; together they must be all of them."""
    found = index(folder)
    in_volumes = [header.path for series in found.series for header in series.headers]
    left_out = [path for item in found.left_out for path in item.paths]
    rejected = [path for item in found.rejected for path in item.paths]
    names = [*(path.relative_to(folder).as_posix() for path in in_volumes), *left_out, *rejected]
    present = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    assert sorted(names) == sorted(present)
    assert found.n_files == len(present)
    return len(in_volumes), len(left_out), len(rejected)


SPOILT: dict[str, Callable[[Path], object]] = {
    "whole": lambda path: None,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("no image " * 40),
    "cut in the header": lambda path: path.write_bytes(path.read_bytes()[:400]),
    "cut in the pixels": lambda path: path.write_bytes(path.read_bytes()[:-99]),
    "copied": lambda path: path.with_name(f"copy of {path.name}").write_bytes(path.read_bytes()),
    "gone": lambda path: path.unlink(),
}


@settings(max_examples=25, deadline=None)
@given(fates=st.lists(st.sampled_from(sorted(SPOILT)), min_size=6, max_size=6))
def test_everything_that_goes_in_comes_out(
    make_head: Callable[..., SeriesToWrite],
    tmp_path_factory: pytest.TempPathFactory,
    fates: list[str],
) -> None:
    folder = tmp_path_factory.mktemp("spoilt")
    small = [make_head(name, n=3, hu=np.zeros((3, 8, 8), dtype=np.int16)) for name in "ab"]
    paths = [path for series in small for path in write_series(series, folder / series.patient_id)]
    for path, fate in zip(paths, fates, strict=True):
        SPOILT[fate](path)
    in_volumes, left_out, rejected = accounted(folder)
    if set(fates) <= {"whole", "copied", "text", "gone"}:
        assert rejected == 0
        assert in_volumes == fates.count("whole") + fates.count("copied")
        assert left_out == fates.count("copied") + fates.count("text")


def test_every_file_of_the_runs_source_is_accounted_for(finished_run: Config) -> None:
    in_volumes, left_out, rejected = accounted(
        Workspace(Path(finished_run.workspace)).source("phantom")
    )
    assert in_volumes > 0
    assert left_out > 0  # the tables beside the images
    assert rejected == 0


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_hu_survive_dicom_exactly(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    folder = tmp_path_factory.mktemp("hu")
    rng = np.random.default_rng(seed)
    hu = rng.integers(-1024, 32768, (3, 9, 7)).astype(np.int16)  # lower values are padding
    series = SeriesToWrite(
        hu=hu, position_mm=np.array([(0.0, 0.0, 2.5 * i) for i in range(3)]),
        row_dir=(1.0, 0.0, 0.0), col_dir=(0.0, 1.0, 0.0), pixel_spacing_mm=(0.5, 0.5),
        slice_thickness_mm=2.5, patient_id="x", study_uid="1.2", series_uid="1.3",
        sop_uids=["1.4.1", "1.4.2", "1.4.3"], file_names=["c", "a", "b"], instance_numbers=[1, 2, 3],
    )  # fmt: skip
    write_series(series, folder)
    (found,) = index(folder).series
    volume = load_volume(found)
    assert not isinstance(volume, Rejected)
    np.testing.assert_array_equal(volume.hu, hu)


def test_a_phantom_reads_back_as_it_was_labelled(tmp_path: Path) -> None:
    """Each slice once, int16 HU of air, brain and bone, and six labels for each."""
    for _ in write_phantoms(PhantomConfig(studies=2, matrix=64, thickness_mm=(10.0,)), 3, tmp_path):
        pass
    labels = read_labels(tmp_path / "labels.csv")
    found = index(tmp_path)
    assert len(found.series) == 2
    for series in found.series:
        volume = load_volume(series)
        assert not isinstance(volume, Rejected)
        assert volume.hu.min() < -900
        assert volume.hu.max() > 500
        own = labels.loc[[header.sop_uid for header in series.headers]]
        assert not own.isna().to_numpy().any()
        np.testing.assert_array_equal(own["any"], own[list(LABELS[:-1])].max(axis=1))
    assert len(labels) == sum(map(len, found.series))


def test_rooms_import_only_what_lies_before_them() -> None:
    """The contracts stand in pyproject.toml."""
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [linter, "--no-cache"], cwd=ROOT, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


def test_importing_a_light_room_loads_no_network() -> None:
    script = (
        "import sys, ich3d.dicom.index, ich3d.phantom, ich3d.sources, ich3d.prepare.build\n"
        "print(sorted(set(sys.modules) & {'torch', 'monai'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout.strip() == "[]"
