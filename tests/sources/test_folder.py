"""A plain folder of DICOM files, with or without labels."""

from pathlib import Path

import pytest

from ich3d.core.errors import DataError
from ich3d.sources import Source, folder_source


def test_a_folder_with_and_without_labels_is_a_source(tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("ID,Label\n")
    assert folder_source(tmp_path, None) == Source(tmp_path, None)
    assert folder_source(tmp_path, labels) == Source(tmp_path, labels)


def test_a_missing_folder_or_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere is not a folder"):
        folder_source(tmp_path / "nowhere", None)
    with pytest.raises(DataError, match=r"none\.csv does not exist"):
        folder_source(tmp_path, tmp_path / "none.csv")
