"""Prepared series that tests make without DICOM files."""

from typing import Any

import numpy as np

from ich3d.core.issues import IssueCode
from ich3d.core.types import Acquisition, Issue, PreparedSeries, SliceKey
from tests.helpers.hu_features import brain_features


def acquisition(n: int = 3, **changes: Any) -> Acquisition:
    """`n` slices of 64 x 64 pixels, 5 mm apart; `changes` replace fields of `Acquisition`."""
    fields: dict[str, Any] = {
        "n_slices": n,
        "spacing_mm": 5.0 if n > 1 else None,
        "largest_gap_mm": 5.0 if n > 1 else None,
        "tilt_deg": 1.25,
        "is_regular": True,
        "rows": 64,
        "columns": 64,
        "pixel_mm": 0.5,
        "transfer_syntaxes": ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1"),
    }
    return Acquisition(**{**fields, **changes})


def prepared_series(hu: np.ndarray | None = None, **changes: Any) -> PreparedSeries:
    """A series with pixels `hu` int16 (Z, H, W), by default three slices of 4 x 4 zeros.

    `changes` replace fields of `PreparedSeries`.
    """
    hu = np.zeros((3, 4, 4), dtype=np.int16) if hu is None else hu
    n = len(hu)
    fields: dict[str, Any] = {
        "volume_id": "1.2.3",
        "series_uid": "1.2.3",
        "study_uid": "1.2",
        "patient_id": "p0",
        "z_mm": 5.0 * np.arange(n) + 0.1,
        "keys": tuple(SliceKey(f"1.2.3.{i}", None, f"a/{i}.dcm") for i in range(n)),
        "slice_hashes": ("",) * n,
        "hu_features": brain_features(n),
        "issues": (Issue(IssueCode.INCOMPLETE, "a/9.dcm is empty"),),
        "acquisition": acquisition(n),
        "preprocessing_sha256": "0a",
        "files_sha256": "0b",
        "hu": hu,
    }
    return PreparedSeries(**{**fields, **changes})
