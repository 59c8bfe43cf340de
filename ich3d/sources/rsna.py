"""RSNA's Intracranial Hemorrhage Detection data (2019): a folder, or Kaggle's zip as it comes."""

import shutil
import zipfile
from pathlib import Path
from typing import Final

from ich3d.core.errors import DataError
from ich3d.core.processes import call_apart
from ich3d.core.workspace import replacing
from ich3d.sources.folder import Source

IMAGES: Final = "stage_2_train"
LABELS: Final = "stage_2_train.csv"


def rsna_source(path: Path, folder: Path) -> Source:
    """The images `stage_2_train/*.dcm` and the label table `stage_2_train.csv` in `path`.

    Args:
        path: a folder, or a zip whose members may lie in a folder of any name. Images are read in
            the zip.
        folder: where the label table of a zip is unpacked.

    Raises:
        DataError: `path` lacks the images or the table; the message names it.
    """
    if path.is_file():
        labels = folder / LABELS
        problem = call_apart(path, _unpack_labels, path, labels)
        if problem:
            raise DataError(f"{path} {problem}")
        return Source(images=path, labels=labels, within=IMAGES)

    images, labels = path / IMAGES, path / LABELS
    if not images.is_dir():
        raise DataError(
            f"{path} holds no folder {IMAGES}; set source.path to Kaggle's zip, or to a folder in "
            "which it was extracted"
        )
    if not labels.is_file():
        raise DataError(f"{path} holds no table {LABELS}; put RSNA's stage 2 labels there")
    return Source(images=images, labels=labels)


def _unpack_labels(archive: Path, labels: Path) -> str:
    """Unpack the label table, unless that was done; what the zip lacks, empty for nothing."""
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
            tables = [info for info in members if Path(info.filename).name == LABELS]
            if not any(f"/{IMAGES}/" in f"/{info.filename}" for info in members):
                return f"holds no folder {IMAGES}: it is not RSNA's stage 2 data"
            if not tables:
                return f"holds no table {LABELS}: it is not RSNA's stage 2 data"
            if labels.exists() and labels.stat().st_size == tables[0].file_size:
                return ""
            with (
                replacing(labels) as partial,
                opened.open(tables[0]) as table,
                partial.open("wb") as unpacked,
            ):
                shutil.copyfileobj(table, unpacked)
    except zipfile.BadZipFile:
        return "is no zip, or a damaged one: set source.path to Kaggle's zip, or to a folder"
    return ""
