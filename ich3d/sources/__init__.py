"""Where studies and labels come from: each source is a folder of DICOM files and an RSNA-form label table."""

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
