"""The series that benchmarks read: a round head, written as DICOM."""

from typing import Final

import numpy as np

from ich3d.dicom.uids import uid
from ich3d.dicom.write import SeriesToWrite

SLICES: Final = 34
"""Slices of each series."""


def round_head(number: int, size: int) -> SeriesToWrite:
    """Noisy brain in a skull, `size` pixels a side: the series of patient `number`."""
    side_mm = (np.arange(size) - size / 2) * 250 / size
    radius_mm = np.hypot(side_mm[:, None], side_mm[None])  # (Y, X)
    brain = np.random.default_rng(number).integers(20, 45, (SLICES, size, size))
    skull_or_air = np.where(radius_mm < 87, 900, -1000)
    return SeriesToWrite(
        hu=np.where(radius_mm < 80, brain, skull_or_air).astype(np.int16),
        position_mm=np.array([(-125.0, -125.0, 5.0 * i) for i in range(SLICES)]),
        row_dir=(1.0, 0.0, 0.0),
        col_dir=(0.0, 1.0, 0.0),
        pixel_spacing_mm=(250 / size, 250 / size),
        slice_thickness_mm=5.0,
        patient_id=f"benchmark {number}",
        study_uid=uid("benchmark study", number),
        series_uid=uid("benchmark series", number),
        sop_uids=[uid("benchmark slice", number, i) for i in range(SLICES)],
        file_names=[f"{i:04d}.dcm" for i in range(SLICES)],
        instance_numbers=list(range(1, SLICES + 1)),
    )
