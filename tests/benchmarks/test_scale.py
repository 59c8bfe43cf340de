"""The benchmark of the late stages runs; its times mean nothing here."""

from pathlib import Path

import pytest

from ich3d.benchmarks import scale
from ich3d.benchmarks.scale import Scale, benchmark_scale, repeated_store
from tests.helpers.sequences import made_up_sequences, write_sequences


def test_the_benchmark_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        scale, "_in_new_process", scale._measured
    )  # a process takes seconds to start
    table = benchmark_scale(None, series=45, trained_series=42, trees=5, draws=3)
    for text in ("| folds | 45 |", "| stacker, one fold of whole series | 42 |", "5 trees"):
        assert text in table


def test_repeated_series_are_those_of_new_patients(tmp_path: Path) -> None:
    folder = write_sequences(tmp_path, made_up_sequences(20))
    store = repeated_store(Scale(folder, tmp_path, series=50, trees=1, draws=1))
    assert len(store.volume_ids) == 50
    folds_of = store.table.groupby("group_id")["fold"].nunique()
    assert (folds_of == 1).all()
    first = store.table[store.table["volume_id"].str.startswith("0.")]
    assert len(folds_of) > 2 * first["group_id"].nunique()
