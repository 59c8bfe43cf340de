"""Export to other systems: volumes as NIfTI, predictions as DICOM, models as MONAI Bundles."""

from ich3d.export.dicom_heat import dicom_heat_writer
from ich3d.export.dicom_sr import dicom_writer, require_highdicom, write_dicom_results

__all__ = ["dicom_heat_writer", "dicom_writer", "require_highdicom", "write_dicom_results"]
