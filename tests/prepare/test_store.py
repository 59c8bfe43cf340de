"""The store gives back what was written to it, and rewrites files only when needed."""

import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import blosc2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ich3d.config.root import Config
from ich3d.config.schema import PrepareConfig, SourceConfig
from ich3d.core.errors import DataError
from ich3d.core.hounsfield import AIR_HU
from ich3d.core.types import PreparedSeries, Volume
from ich3d.core.workspace import Workspace
from ich3d.dicom.index import index
from ich3d.dicom.validate import load_volumes
from ich3d.dicom.write import SeriesToWrite, write_series
from ich3d.prepare.build import prepare
from ich3d.prepare.metadata_json import metadata_to_json
from ich3d.prepare.series import prepare_series
from ich3d.prepare.store import (
    Store,
    preprocessing_sha256,
    read_fingerprint,
    read_metadata,
    read_undamaged,
    series_file,
)
from ich3d.prepare.store import write_series as write_to_store
from tests.helpers.prepared import prepared_series


@pytest.fixture
def config(make_head: Callable[..., SeriesToWrite], tmp_path: Path) -> Config:
    """Three patients in a folder, not yet prepared."""
    for name in "abc":
        write_series(make_head(name, n=4), tmp_path / "in" / name)
    return Config(
        workspace=str(tmp_path / "run"),
        source=SourceConfig(kind="folder", path=str(tmp_path / "in")),
        prepare=PrepareConfig(folds=3, matrix=48, pixel_mm=6.0),
    )


def source_path(config: Config) -> Path:
    assert config.source.path is not None
    return Path(config.source.path)


@settings(max_examples=15)
@given(n=st.integers(1, 5), h=st.integers(1, 40), w=st.integers(1, 40), seed=st.integers(0, 99))
def test_pixels_and_metadata_come_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, n: int, h: int, w: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("store")
    hu = np.random.default_rng(seed).integers(-32768, 32768, (n, h, w)).astype(np.int16)
    series = prepared_series(hu)
    write_to_store(folder, series)

    metadata = read_metadata(folder, "1.2.3")
    assert metadata is not None
    assert metadata_to_json(metadata) == metadata_to_json(series)
    assert [path.name for path in folder.iterdir()] == ["1.2.3.b2nd"]


def test_a_rewritten_file_is_read_anew(tmp_path: Path) -> None:
    """Also in a process that has the older file open."""
    for n in (2, 3):
        write_to_store(tmp_path, prepared_series(np.zeros((n, 4, 4), dtype=np.int16)))
        metadata = read_metadata(tmp_path, "1.2.3")
        assert metadata is not None
        assert len(metadata) == n


def test_a_series_without_a_file_has_no_metadata(tmp_path: Path) -> None:
    assert read_metadata(tmp_path, "1.2.3") is None


@pytest.mark.parametrize("volume_id", ["../outside", "a/b", "", ".", "x" * 300])
def test_a_volume_id_cannot_leave_the_folder(tmp_path: Path, volume_id: str) -> None:
    path = series_file(tmp_path, volume_id)
    assert path.parent == tmp_path
    assert len(path.name) < 200


def test_the_hash_of_preprocessing_depends_on_the_grid_alone() -> None:
    plain = PrepareConfig()
    assert preprocessing_sha256(plain) == preprocessing_sha256(replace(plain, folds=3))
    for other in (replace(plain, matrix=64), replace(plain, pixel_mm=1.3)):
        assert preprocessing_sha256(plain) != preprocessing_sha256(other)


def test_a_store_gives_back_what_was_prepared(config: Config) -> None:
    store = prepare(config).store
    assert sorted(path.name for path in store.folder.glob("*.b2nd")) == [
        f"{name}.b2nd" for name in store.volume_ids
    ]

    volumes = list(load_volumes(index(source_path(config)).series))
    assert len(volumes) == len(store.volume_ids) == 3
    for volume in volumes:
        assert isinstance(volume, Volume)
        prepared = prepare_series(volume, config.prepare)
        assert isinstance(prepared, PreparedSeries)

        stored = store.series(prepared.volume_id)
        assert metadata_to_json(stored) == metadata_to_json(prepared)
        np.testing.assert_array_equal(stored.hu, prepared.hu)
        np.testing.assert_array_equal(store.hu(prepared.volume_id, 1, 3), prepared.hu[1:3])
        np.testing.assert_allclose(store.z_mm(prepared.volume_id), prepared.z_mm)
        assert np.isnan(store.targets(prepared.volume_id)).all()
        assert stored.hu.min() >= AIR_HU


def test_a_folder_without_a_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no prepared store"):
        Store(tmp_path)


def test_a_missing_file_of_a_store_is_named(config: Config) -> None:
    store = prepare(config).store
    path = series_file(store.folder, store.volume_ids[0])
    path.unlink()
    with pytest.raises(DataError, match=path.name):
        store.series(store.volume_ids[0])


def test_a_store_without_a_fold_has_no_volume_of_it(config: Config) -> None:
    store = prepare(config).store
    rest = store.without(0)
    assert rest.volume_ids == [name for name, fold in store.folds.items() if fold != 0]
    assert set(rest.table["fold"]) == set(rest.folds.values()) == {1, 2}
    assert len(store.volume_ids) == 3  # the whole store is unchanged


def test_preparing_again_keeps_the_files(config: Config) -> None:
    store = prepare(config).store
    before = {path.name: path.stat().st_mtime_ns for path in store.folder.glob("*.b2nd")}
    assert len(before) == 3
    again = prepare(config).store
    assert {path.name: path.stat().st_mtime_ns for path in again.folder.glob("*.b2nd")} == before


def test_only_a_lost_file_is_written_again(config: Config) -> None:
    store = prepare(config).store
    lost, *kept = sorted(store.folder.glob("*.b2nd"))
    content, before = lost.read_bytes(), [path.stat().st_mtime_ns for path in kept]
    lost.unlink()
    prepare(config)
    assert lost.read_bytes() == content
    assert [path.stat().st_mtime_ns for path in kept] == before


def test_a_file_without_its_part_of_the_fingerprint_is_written_again(config: Config) -> None:
    """As it was before there was one."""
    store = prepare(config).store
    path = series_file(store.folder, store.volume_ids[1])
    whole, of_data = path.read_bytes(), Workspace(Path(config.workspace)).fingerprint
    described = of_data.read_bytes()
    write_to_store(store.folder, store.series(store.volume_ids[1]))
    assert read_fingerprint(store.folder, store.volume_ids[1]) is None
    assert path.read_bytes() != whole
    prepare(config)
    assert path.read_bytes() == whole
    assert of_data.read_bytes() == described


def test_a_changed_part_of_the_fingerprint_is_told(config: Config) -> None:
    store = prepare(config).store
    path = series_file(store.folder, store.volume_ids[0])
    array = blosc2.open(str(path), mode="a")
    text = array.schunk.vlmeta["fingerprint"]
    array.schunk.vlmeta["fingerprint"] = text.replace("hu_counts", "HU_counts")
    write_to_store(store.folder, prepared_series(volume_id="another"))  # closes what was open
    with pytest.raises(DataError, match=r"is damaged or was changed: run `ich3d prepare`"):
        read_fingerprint(store.folder, store.volume_ids[0])


def test_with_another_grid_every_file_is_written_again(config: Config) -> None:
    prepare(config)
    finer = replace(config, prepare=replace(config.prepare, matrix=64, pixel_mm=4.0))
    with pytest.raises(DataError, match=r"another prepare\.pixel_mm: add --overwrite"):
        prepare(finer)
    store = prepare(finer, overwrite=True).store
    assert store.meta["pixel_mm"] == 4.0
    assert [store.hu(name).shape for name in store.volume_ids] == [(4, 64, 64)] * 3


def test_a_series_with_a_new_slice_is_written_again(
    config: Config, make_head: Callable[..., SeriesToWrite]
) -> None:
    assert len(prepare(config).store.table) == 12
    write_series(make_head("a", n=5), source_path(config) / "a")
    assert len(prepare(config).store.table) == 13


def test_a_process_that_was_forked_off_reads_the_store(tmp_path: Path) -> None:
    """As the workers of a DataLoader do, after their parent has read it too. The slice is so large
    that the library would use threads.
    """
    hu = np.random.default_rng(0).integers(-1000, 3000, (2, 1024, 1024)).astype(np.int16)
    write_to_store(tmp_path, prepared_series(hu))
    assert read_undamaged(tmp_path, "1.2.3") is not None

    context = multiprocessing.get_context("fork")
    worker = context.Process(target=read_undamaged, args=(tmp_path, "1.2.3"))
    worker.start()
    worker.join(timeout=60)
    hangs = worker.is_alive()
    worker.kill()
    assert not hangs
    assert worker.exitcode == 0
