"""Export to other systems: volumes as NIfTI, predictions as DICOM, models as MONAI Bundles."""

from ich3d.export.dicom_sr import dicom_writer, require_highdicom, write_dicom_results

__all__ = ["dicom_writer", "require_highdicom", "write_dicom_results"]
