"""What every source comes down to, and the plainest of them: a folder and a label table."""

from dataclasses import dataclass
from pathlib import Path

from ich3d.core.errors import DataError


@dataclass(frozen=True)
class Source:
    """Studies and their labels on disk.

    images: the folder that is searched for DICOM files.
    labels: a table in RSNA's form (`ID,Label`); None where nothing is labelled.
    unmatched: `sop_uid,lacks,detail`, what an importer could not place.
    """

    images: Path
    labels: Path | None
    unmatched: Path | None = None


def folder_source(path: Path, labels: Path | None) -> Source:
    """The DICOM files under `path` with the label table `labels`; DataError where either is missing."""
    if not path.is_dir():
        raise DataError(f"no folder {path}")
    if labels is not None and not labels.is_file():
        raise DataError(f"no label table {labels}")
    return Source(images=path, labels=labels)
