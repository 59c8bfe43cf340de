"""Synthetic head CTs with known hemorrhages, written as real DICOM files.

Tests and demo thus need no patient data. Heads are drawn at random, bleeds and look-alikes are
placed in them, and a simple model of a CT scanner images them. Read the modules in this order:
`tissues` (HU and volumes from the literature), `fields` (geometry), `head`, `brain`,
`bleed_shapes`, `bleeds`, `lookalikes`, `prevalence`, `scanner`, `study`.
"""

from ich3d.phantom.study import write_phantoms

__all__ = ["write_phantoms"]
