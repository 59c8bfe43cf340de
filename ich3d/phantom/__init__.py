"""Synthetic heads, written as real DICOM: the data that ich3d ships with, because it makes them."""

from ich3d.phantom.study import write_phantoms

__all__ = ["write_phantoms"]
