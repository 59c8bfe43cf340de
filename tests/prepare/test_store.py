"""What goes into the store comes out of it, and it knows what it was made with."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ich3d.config.root import Config
from ich3d.config.schema import PrepareConfig, SourceConfig
from ich3d.core.errors import DataError
from ich3d.core.types import SliceKey
from ich3d.dicom.index import index
from ich3d.dicom.write import SeriesToWrite, write_series
from ich3d.prepare.build import prepare, prepare_series
from ich3d.prepare.head import AIR_HU
from ich3d.prepare.store import Store, StoredSeries, preprocessing_sha256, read_stored, series_file
from ich3d.prepare.store import write_series as write_stored


def facts(n: int, volume_id: str = "1.2.3") -> StoredSeries:
    return StoredSeries(
        volume_id=volume_id,
        series_uid="1.2.3",
        study_uid="1.2",
        patient_id="p0",
        preprocessing="x",
        files="y",
        z_mm=[0.1 * i for i in range(n)],
        keys=[SliceKey(f"1.2.3.{i}", None, f"a/{i}.dcm") for i in range(n)],
        hashes=[""] * n,
        codes="single_slice",
        facts={"spacing_mm": None, "tilt_deg": 1.25},
    )


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


@settings(max_examples=15, deadline=None)
@given(n=st.integers(1, 5), h=st.integers(1, 40), w=st.integers(1, 40), seed=st.integers(0, 99))
def test_pixels_and_facts_come_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, n: int, h: int, w: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("store")
    hu = np.random.default_rng(seed).integers(-32768, 32768, (n, h, w)).astype(np.int16)
    write_stored(folder, facts(n), hu)
    assert read_stored(folder, "1.2.3") == facts(n)
    assert [path.name for path in folder.iterdir()] == ["1.2.3.b2nd"]


def test_a_rewritten_file_is_read_anew(tmp_path: Path) -> None:
    """Also in a process that has the old one open."""
    for n in (2, 3):
        write_stored(tmp_path, facts(n), np.zeros((n, 4, 4), dtype=np.int16))
        assert read_stored(tmp_path, "1.2.3") == facts(n)


def test_a_series_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert read_stored(tmp_path, "1.2.3") is None


@pytest.mark.parametrize("volume_id", ["../outside", "a/b", "", ".", "x" * 300])
def test_a_volume_id_cannot_leave_the_folder(tmp_path: Path, volume_id: str) -> None:
    path = series_file(tmp_path, volume_id)
    assert path.parent == tmp_path
    assert len(path.name) < 200


def test_the_hash_of_preprocessing_knows_the_grid() -> None:
    plain = PrepareConfig()
    assert preprocessing_sha256(plain) == preprocessing_sha256(replace(plain, folds=3))
    for other in (replace(plain, matrix=64), replace(plain, pixel_mm=1.3)):
        assert preprocessing_sha256(plain) != preprocessing_sha256(other)


def test_a_store_gives_back_what_was_prepared(config: Config) -> None:
    store = prepare(config).store
    assert sorted(path.name for path in store.folder.glob("*.b2nd")) == [
        f"{name}.b2nd" for name in store.volume_ids
    ]
    assert config.source.path is not None
    found = index(Path(config.source.path))
    for series, header in zip(store, found.series, strict=True):
        made = prepare_series(header, config.prepare)
        assert isinstance(made, tuple)
        stored, hu = made
        np.testing.assert_array_equal(series.hu, hu)
        np.testing.assert_array_equal(series.z_mm, stored.z_mm)
        assert list(series.keys) == stored.keys
        np.testing.assert_array_equal(store.hu(series.volume_id, 1, 3), hu[1:3])
        assert np.isnan(series.targets).all()
        assert series.hu.min() >= AIR_HU


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no prepared store"):
        Store(tmp_path)


def test_preparing_again_keeps_what_is_there(config: Config) -> None:
    store = prepare(config).store
    before = {path.name: path.stat().st_mtime_ns for path in store.folder.glob("*.b2nd")}
    assert len(before) == 3
    again = prepare(config).store
    assert {path.name: path.stat().st_mtime_ns for path in again.folder.glob("*.b2nd")} == before


def test_a_lost_file_is_made_again_alone(config: Config) -> None:
    store = prepare(config).store
    lost, *kept = sorted(store.folder.glob("*.b2nd"))
    content, before = lost.read_bytes(), [path.stat().st_mtime_ns for path in kept]
    lost.unlink()
    prepare(config)
    assert lost.read_bytes() == content
    assert [path.stat().st_mtime_ns for path in kept] == before


def test_another_grid_makes_every_file_again(config: Config) -> None:
    prepare(config)
    finer = replace(config, prepare=replace(config.prepare, matrix=64, pixel_mm=4.0))
    for series in prepare(finer).store:
        assert series.hu.shape == (4, 64, 64)
        assert series.pixel_mm == 4.0


def test_a_changed_series_is_made_again(
    config: Config, make_head: Callable[..., SeriesToWrite]
) -> None:
    """A slice more below the same series: its keys are no longer those of the file."""
    assert len(prepare(config).store.table) == 12
    assert config.source.path is not None
    write_series(make_head("a", n=5), Path(config.source.path) / "a")
    assert len(prepare(config).store.table) == 13
