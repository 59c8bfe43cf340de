"""RSNA's folder layout."""

from pathlib import Path

import pytest

from ich3d.core.errors import DataError
from ich3d.sources import Source, rsna_source


def test_images_and_labels_are_found_in_the_layout(tmp_path: Path) -> None:
    images, labels = tmp_path / "stage_2_train", tmp_path / "stage_2_train.csv"
    images.mkdir()
    labels.write_text("ID,Label\n")
    assert rsna_source(tmp_path) == Source(images, labels)


def test_missing_parts_of_the_layout_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder stage_2_train"):
        rsna_source(tmp_path)
    (tmp_path / "stage_2_train").mkdir()
    with pytest.raises(DataError, match=r"no table stage_2_train\.csv"):
        rsna_source(tmp_path)
