"""The layout in which the RSNA Intracranial Hemorrhage Detection data (2019) are distributed."""

from pathlib import Path
from typing import Final

from ich3d.core.errors import DataError
from ich3d.sources.folder import Source

IMAGES: Final = "stage_2_train"
LABELS: Final = "stage_2_train.csv"


def rsna_source(path: Path) -> Source:
    """`stage_2_train/*.dcm` with `stage_2_train.csv` beside it; DataError names what is missing."""
    images, labels = path / IMAGES, path / LABELS
    if not images.is_dir():
        raise DataError(f"{path} holds no folder {IMAGES}")
    if not labels.is_file():
        raise DataError(f"{path} holds no table {LABELS}")
    return Source(images=images, labels=labels)
