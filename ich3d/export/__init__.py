"""What other systems read: results as DICOM objects, a trained model as a MONAI Bundle."""

from ich3d.export.dicom_sr import export_dicom, require_highdicom, write_dicom_results

__all__ = ["export_dicom", "require_highdicom", "write_dicom_results"]
