"""CT-ICH 1.0.0 (M. D. Hssayeni et al., PhysioNet, CC BY 4.0), imported as DICOM series.

The data set holds two JPEG images per slice, in a brain and in a bone window. `hu` rebuilds
Hounsfield units from both, `pictures` pairs them, `diagnosis` reads the labels, `patient` writes
one patient's series, and `importer` runs over all patients.
"""

from ich3d.sources.ct_ich.importer import ct_ich_imported, import_ct_ich

__all__ = ["ct_ich_imported", "import_ct_ich"]
