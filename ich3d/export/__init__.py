"""What other systems read: results as DICOM objects, a trained model as a MONAI Bundle."""

from ich3d.export.dicom_sr import dicom_sink, require_highdicom, write_dicom_results

__all__ = ["dicom_sink", "require_highdicom", "write_dicom_results"]
