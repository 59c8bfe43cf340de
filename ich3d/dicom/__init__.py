"""DICOM files to ordered series to HU volumes, and back to files. The README has an example."""
