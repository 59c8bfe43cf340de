"""Where studies and labels come from.

Each source comes down to a `Source`: a folder of DICOM files and, where there are labels, a
table in RSNA's form.
"""

from ich3d.sources.ct_ich import ct_ich_imported, import_ct_ich
from ich3d.sources.folder import Source, folder_source
from ich3d.sources.labels import read_labels
from ich3d.sources.rsna import rsna_source

__all__ = [
    "Source",
    "ct_ich_imported",
    "folder_source",
    "import_ct_ich",
    "read_labels",
    "rsna_source",
]
