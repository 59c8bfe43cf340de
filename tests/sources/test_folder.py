"""The plain folder and RSNA's layout."""

from pathlib import Path

import pytest

from ich3d.core.errors import DataError
from ich3d.sources import Source, folder_source, rsna_source


def test_folder_with_and_without_labels(tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("ID,Label\n")
    assert folder_source(tmp_path, None) == Source(tmp_path, None)
    assert folder_source(tmp_path, labels) == Source(tmp_path, labels)


def test_folder_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        folder_source(tmp_path / "nowhere", None)
    with pytest.raises(DataError, match=r"none\.csv"):
        folder_source(tmp_path, tmp_path / "none.csv")


def test_rsna_layout_is_found_and_its_missing_parts_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder stage_2_train"):
        rsna_source(tmp_path)
    (tmp_path / "stage_2_train").mkdir()
    with pytest.raises(DataError, match=r"no table stage_2_train\.csv"):
        rsna_source(tmp_path)
    (tmp_path / "stage_2_train.csv").write_text("ID,Label\n")
    assert rsna_source(tmp_path) == Source(
        tmp_path / "stage_2_train", tmp_path / "stage_2_train.csv"
    )
