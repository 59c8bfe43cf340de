"""RSNA's layout: a folder, and Kaggle's zip."""

import zipfile
from pathlib import Path

import pytest

from ich3d.core.errors import DataError
from ich3d.sources import Source, rsna_source

TOP = "rsna-intracranial-hemorrhage-detection"


def pack(path: Path, **members: str) -> Path:
    """A zip with members below Kaggle's folder."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{TOP}/{name}", content)
    return path


def test_images_and_labels_are_found_in_the_layout(tmp_path: Path) -> None:
    images, labels = tmp_path / "stage_2_train", tmp_path / "stage_2_train.csv"
    images.mkdir()
    labels.write_text("ID,Label\n")
    assert rsna_source(tmp_path, tmp_path / "run") == Source(images, labels)


def test_missing_parts_of_the_layout_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder stage_2_train; set "):
        rsna_source(tmp_path, tmp_path / "run")
    (tmp_path / "stage_2_train").mkdir()
    with pytest.raises(DataError, match=r"no table stage_2_train\.csv"):
        rsna_source(tmp_path, tmp_path / "run")


def test_the_zip_is_read_in_place_and_its_labels_are_unpacked(tmp_path: Path) -> None:
    table = "ID,Label\nID_1_any,0\n"
    members = {"stage_2_train/ID_1.dcm": "x", "stage_2_train.csv": table}
    archive = pack(tmp_path / "rsna.zip", **members)
    source = rsna_source(archive, tmp_path / "run")
    assert (source.images, source.within) == (archive, "stage_2_train")
    assert source.labels is not None
    assert source.labels.read_text() == table
    unpacked = source.labels.stat().st_mtime_ns
    rsna_source(archive, tmp_path / "run")
    assert source.labels.stat().st_mtime_ns == unpacked


def test_another_zip_is_told(tmp_path: Path) -> None:
    without_table = pack(tmp_path / "a.zip", **{"stage_2_train/ID_1.dcm": "x"})
    with pytest.raises(DataError, match=r"a\.zip holds no table stage_2_train\.csv"):
        rsna_source(without_table, tmp_path)
    without_images = pack(tmp_path / "b.zip", **{"stage_2_train.csv": "x"})
    with pytest.raises(DataError, match=r"b\.zip holds no folder stage_2_train: it is not RSNA"):
        rsna_source(without_images, tmp_path)
    (tmp_path / "c.zip").write_bytes(b"no zip")
    with pytest.raises(DataError, match=r"c\.zip is no zip, or a damaged one"):
        rsna_source(tmp_path / "c.zip", tmp_path)
