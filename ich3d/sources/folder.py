"""What every source comes down to, and the simplest source: a folder and a label table."""

from dataclasses import dataclass
from pathlib import Path

from ich3d.core.errors import DataError
from ich3d.core.path_kinds import require_source


@dataclass(frozen=True)
class Source:
    """Studies and their labels on disk.

    images: folder, or zip, that is searched for DICOM files.
    labels: label table in RSNA's form (`ID,Label`); None where nothing is labelled.
    within: of a zip, only what lies in a folder of this name; all where it is empty.
    unmatched: table `sop_uid,lacks,detail` of what an importer could not match; None without
        importer.
    """

    images: Path
    labels: Path | None
    within: str = ""
    unmatched: Path | None = None


def folder_source(path: Path, labels: Path | None) -> Source:
    """The DICOM files below the folder `path`, with the label table `labels` if there is one.

    Raises:
        DataError: the folder or the table does not exist.
    """
    require_source("folder", path)
    if labels is not None and not labels.is_file():
        raise DataError(f"label table {labels} does not exist; set source.labels to a CSV file")
    return Source(images=path, labels=labels)
