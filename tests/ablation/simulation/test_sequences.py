"""The table of label sequences: what is read of it, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ich3d.ablation.simulation.sequences import read_sequences
from ich3d.config.root import Config
from ich3d.config.schema import PrepareConfig, SourceConfig
from ich3d.config.simulation import SimulationConfig
from ich3d.core.errors import DataError
from ich3d.core.labels import ANY, LABELS
from tests.helpers.sequences import made_up_sequences, write_sequences


def config_of(path: Path) -> Config:
    source = SourceConfig(kind="sequences", path=str(path))
    return Config(source=source, prepare=PrepareConfig(folds=3))


def test_every_slice_is_there_in_folds_of_patients(tmp_path: Path) -> None:
    table = made_up_sequences()
    folder = write_sequences(tmp_path, table.sample(frac=1, random_state=0))
    store = read_sequences(config_of(folder))
    assert len(store.volume_ids) == table["series"].nunique()
    assert set(store.folds.values()) == {0, 1, 2}
    folds_of = store.table.groupby("group_id")["fold"].nunique()
    assert (folds_of == 1).all()
    assert len(folds_of) == table["patient"].nunique()
    for number, rows in table.groupby("series"):
        name = f"{number:06d}"
        np.testing.assert_array_equal(store.z_mm(name), rows["z_mm"])
        np.testing.assert_array_equal(store.targets(name), rows[list(LABELS)])
    assert read_sequences(config_of(folder / "series.csv.gz")).identity == store.identity


def test_a_repeated_position_is_read_once(tmp_path: Path) -> None:
    table = made_up_sequences()
    table["z_mm"] = table["z_mm"].where(table.index != 3, table["z_mm"].shift())
    store = read_sequences(config_of(write_sequences(tmp_path, table)))
    assert len(store.z_mm("000000")) == 23


def test_series_that_bleed_are_drawn_to_the_share_that_is_asked_for(tmp_path: Path) -> None:
    config = config_of(write_sequences(tmp_path, made_up_sequences(100)))
    config = replace(config, simulation=SimulationConfig(bleeding_share=0.2))
    store = read_sequences(config)
    bleeds = store.table.groupby("volume_id")[ANY].max()
    assert (bleeds == 0).sum() == 50  # all of those without a bleed
    assert bleeds.mean() == pytest.approx(0.2, abs=0.01)
    assert read_sequences(config).identity == store.identity
    assert read_sequences(replace(config, seed=1)).identity != store.identity


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.drop(columns="z_mm"),
            r"lacks the column z_mm: a table of label",
        ),
        (lambda t: t.assign(subdural=2), r"labels must be 0 or 1"),
        (lambda t: t.assign(z_mm="high"), r"z_mm a number"),
        (lambda t: t.assign(any=0), r"any must be 1 in the slices that have a subtype"),
        (lambda t: t.assign(patient=1), r"1 patients are too few for 3 folds"),
    ],
)
def test_another_table_is_refused(change: object, message: str, tmp_path: Path) -> None:
    assert callable(change)
    changed = change(made_up_sequences(20))
    assert isinstance(changed, pd.DataFrame)
    with pytest.raises(DataError, match=message):
        read_sequences(config_of(write_sequences(tmp_path, changed)))


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no table of label sequences .*series\.csv\.gz"):
        read_sequences(config_of(tmp_path))
    (tmp_path / "series.csv.gz").write_bytes(b"no gzip")
    with pytest.raises(DataError, match=r"series\.csv\.gz is no table of label sequences"):
        read_sequences(config_of(tmp_path))
    with pytest.raises(DataError, match=r"source\.path is not set: name the folder of series"):
        read_sequences(replace(config_of(tmp_path), source=SourceConfig(kind="sequences")))
