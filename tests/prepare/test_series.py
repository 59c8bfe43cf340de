"""From a decoded volume to a prepared series, in training and in inference."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ich3d.config.schema import PrepareConfig
from ich3d.core.issues import IssueCode
from ich3d.core.types import PreparedSeries, Rejected, Series
from ich3d.dicom.index import index
from ich3d.dicom.validate import group_by_series_uid
from ich3d.dicom.volume import load_volume
from ich3d.dicom.write import SeriesToWrite, write_series
from ich3d.prepare.series import files_digest, prepare_group, prepare_series
from tests.helpers.series import air_series
from tests.helpers.undecodable import garble, two_kernels

GRID = PrepareConfig(matrix=48, pixel_mm=6.0)


@pytest.fixture
def head(make_head: Callable[..., SeriesToWrite], tmp_path: Path) -> Series:
    """The indexed series of a head of four slices."""
    write_series(make_head("a", n=4), tmp_path)
    (series,) = index(tmp_path).series
    return series


def test_a_prepared_series_has_the_grid_and_what_is_known_of_the_source(head: Series) -> None:
    volume = load_volume(head)
    assert not isinstance(volume, Rejected)
    prepared = prepare_series(volume, GRID)
    assert isinstance(prepared, PreparedSeries)
    assert prepared.hu.shape == (4, 48, 48)
    assert sorted(prepared.keys) == sorted(volume.keys)
    assert np.all(np.diff(prepared.z_mm) > 0)
    assert prepared.acquisition.n_slices == 4
    assert prepared.issues == volume.issues
    assert prepared.files_sha256 == files_digest(head)
    assert head.patient_id not in prepared.patient_id


def test_a_volume_without_a_head_is_rejected_with_all_its_files(tmp_path: Path) -> None:
    write_series(air_series(), tmp_path)
    (series,) = index(tmp_path).series
    volume = load_volume(series)
    assert not isinstance(volume, Rejected)
    rejected = prepare_series(volume, GRID)
    assert isinstance(rejected, Rejected)
    assert rejected.code is IssueCode.NO_HEAD
    assert rejected.paths == series.paths


def test_only_wanted_volumes_of_a_group_are_prepared_and_one_bad_volume_rejects_all(
    tmp_path: Path,
) -> None:
    paths = two_kernels(tmp_path, n=3)
    (group,) = group_by_series_uid(index(tmp_path).series)
    (prepared,) = prepare_group(group, group[1:], GRID)
    assert isinstance(prepared, PreparedSeries)
    assert prepared.volume_id == group[1].volume_id

    garble(paths[1])
    (group,) = group_by_series_uid(index(tmp_path).series)
    first, second = prepare_group(group, group, GRID)
    assert isinstance(first, Rejected)
    assert first is second
    assert first.subject == "2.25.9"


def test_a_file_that_changes_or_goes_away_is_noticed(head: Series) -> None:
    before = files_digest(head)
    assert files_digest(head) == before
    path = head.headers[0].file.path
    path.write_bytes(path.read_bytes() + b"\0\0")
    assert files_digest(head) != before
    path.unlink()
    with pytest.raises(FileNotFoundError):
        files_digest(head)


def test_predicting_imports_no_phantoms_sources_or_preparation_of_a_store() -> None:
    code = (
        "import sys, ich3d.inference.run\n"
        "rooms = ('ich3d.phantom', 'ich3d.sources', 'ich3d.prepare.build')\n"
        "print([name for name in sys.modules if name.startswith(rooms)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
