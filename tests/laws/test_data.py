"""Laws about data that several packages keep together: no file is lost, no value is changed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ich3d.config.root import Config
from ich3d.config.schema import PhantomConfig
from ich3d.core.labels import SUBTYPES
from ich3d.core.types import Rejected
from ich3d.core.workspace import Workspace
from ich3d.dicom.index import index
from ich3d.dicom.volume import load_volume
from ich3d.dicom.write import SeriesToWrite, write_series
from ich3d.phantom import write_phantoms
from ich3d.sources import read_labels


def count_files(folder: Path) -> tuple[int, int, int]:
    """Numbers of files below `folder` in volumes, left out, and rejected.

    Asserts that each file is in exactly one of the three.
    """
    indexed = index(folder)
    names = [header.file.name for series in indexed.series for header in series.headers]
    left_out = [path for entry in indexed.left_out for path in entry.paths]
    rejected = [path for entry in indexed.rejected for path in entry.paths]

    present = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    assert sorted([*names, *left_out, *rejected]) == sorted(present)
    assert indexed.n_files == len(present)
    return len(names), len(left_out), len(rejected)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "intact": lambda path: None,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not an image " * 40),
    "cut in the header": lambda path: path.write_bytes(path.read_bytes()[:400]),
    "cut in the pixels": lambda path: path.write_bytes(path.read_bytes()[:-99]),
    "copied": lambda path: path.with_name(f"copy of {path.name}").write_bytes(path.read_bytes()),
    "deleted": lambda path: path.unlink(),
}
"""Ways to damage a file, by name."""


@settings(max_examples=25)
@given(damages=st.lists(st.sampled_from(sorted(DAMAGE)), min_size=6, max_size=6))
def test_every_file_is_used_left_out_or_rejected(
    make_head: Callable[..., SeriesToWrite],
    tmp_path_factory: pytest.TempPathFactory,
    damages: list[str],
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    small = [make_head(name, n=3, hu=np.zeros((3, 8, 8), dtype=np.int16)) for name in "ab"]
    paths = [path for series in small for path in write_series(series, folder / series.patient_id)]
    for path, damage in zip(paths, damages, strict=True):
        DAMAGE[damage](path)

    in_volumes, left_out, rejected = count_files(folder)
    if set(damages) <= {"intact", "copied", "text", "deleted"}:
        assert rejected == 0
        assert in_volumes == damages.count("intact") + damages.count("copied")
        assert left_out == damages.count("copied") + damages.count("text")


def test_every_file_of_a_run_is_used_or_left_out(finished_run: Config) -> None:
    in_volumes, left_out, rejected = count_files(
        Workspace(Path(finished_run.workspace)).source("phantom")
    )
    assert in_volumes > 0
    assert left_out > 0  # the label tables
    assert rejected == 0


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32))
def test_hu_are_the_same_after_writing_and_reading_dicom(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("hu")
    rng = np.random.default_rng(seed)
    hu = rng.integers(-1024, 32768, (3, 9, 7)).astype(np.int16)  # lower values would be padding
    series = SeriesToWrite(
        hu=hu,
        position_mm=np.array([(0.0, 0.0, 2.5 * i) for i in range(3)]),
        row_dir=(1.0, 0.0, 0.0),
        col_dir=(0.0, 1.0, 0.0),
        pixel_spacing_mm=(0.5, 0.5),
        slice_thickness_mm=2.5,
        patient_id="x",
        study_uid="1.2",
        series_uid="1.3",
        sop_uids=["1.4.1", "1.4.2", "1.4.3"],
        file_names=["c", "a", "b"],
        instance_numbers=[1, 2, 3],
    )
    write_series(series, folder)

    (indexed,) = index(folder).series
    volume = load_volume(indexed)
    assert not isinstance(volume, Rejected)
    np.testing.assert_array_equal(volume.hu, hu)


def test_every_slice_of_a_phantom_is_read_back_with_its_labels(tmp_path: Path) -> None:
    """HU range from air to bone; each slice has six labels, of which `any` is the maximum."""
    for _ in write_phantoms(PhantomConfig(studies=2, matrix=64, thickness_mm=(10.0,)), 3, tmp_path):
        pass
    labels = read_labels(tmp_path / "labels.csv")

    indexed = index(tmp_path)
    assert len(indexed.series) == 2
    assert len(labels) == sum(map(len, indexed.series))
    for series in indexed.series:
        volume = load_volume(series)
        assert not isinstance(volume, Rejected)
        assert volume.hu.min() < -900
        assert volume.hu.max() > 500

        rows = labels.loc[[header.sop_uid for header in series.headers]]
        assert not rows.isna().to_numpy().any()
        np.testing.assert_array_equal(rows["any"], rows[list(SUBTYPES)].max(axis=1))
