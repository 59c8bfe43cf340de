"""The folder layout of RSNA's Intracranial Hemorrhage Detection data (2019)."""

from pathlib import Path
from typing import Final

from ich3d.core.errors import DataError
from ich3d.sources.folder import Source

IMAGES: Final = "stage_2_train"
LABELS: Final = "stage_2_train.csv"


def rsna_source(path: Path) -> Source:
    """The images `stage_2_train/*.dcm` and the label table `stage_2_train.csv` below `path`.

    Raises:
        DataError: `path` lacks the image folder or the table; the message names it.
    """
    images, labels = path / IMAGES, path / LABELS
    if not images.is_dir():
        raise DataError(f"{path} holds no folder {IMAGES}; extract RSNA's stage 2 data there")
    if not labels.is_file():
        raise DataError(f"{path} holds no table {LABELS}; put RSNA's stage 2 labels there")
    return Source(images=images, labels=labels)
