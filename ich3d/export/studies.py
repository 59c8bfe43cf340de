"""Head CT series from DICOM files, in the form that an exported network reads.

The `dicom.json` of a bundle calls `from_dicom`, so its name and its arguments are part of the
file format.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ich3d.config.schema import PrepareConfig
from ich3d.core.types import PreparedSeries, Rejected
from ich3d.dicom.index import index
from ich3d.dicom.validate import load_volumes
from ich3d.prepare.hu_features import BRAIN_CM2
from ich3d.prepare.series import prepare_series
from ich3d.prepare.store import plain_name

log = logging.getLogger(__name__)


def from_dicom(path: str, matrix: int, pixel_mm: float) -> Iterator[dict[str, Any]]:
    """Read and prepare every head CT series below `path`.

    Series that are rejected are logged as warnings, with the reason, and the others are still read.

    Args:
        path: A folder, a zip or a file with DICOM.
        matrix: Rows and columns of the network's grid.
        pixel_mm: Pixel spacing of that grid in mm.

    Yields:
        For each series its `name` and arrays over its slices, inferior to superior: `hu`
        (Z, H, W) int16 in Hounsfield units, `z_mm` (Z,) float64, `brain_cm2` (Z,) float32, the
        area inside the skull, and the texts `sop_uid` (Z,) and `frame` (Z,), the latter empty in
        single-frame files.
    """
    series_index = index(Path(path).absolute())
    rejected = list(series_index.rejected)
    grid = PrepareConfig(pixel_mm=pixel_mm, matrix=matrix)

    for volume in load_volumes(series_index.series):
        prepared = volume if isinstance(volume, Rejected) else prepare_series(volume, grid)
        if isinstance(prepared, Rejected):
            rejected.append(prepared)
        else:
            yield _as_arrays(prepared)

    for rejection in rejected:
        log.warning(rejection.sentence)


def _as_arrays(series: PreparedSeries) -> dict[str, Any]:
    """The name and the arrays of one series, as `numpy.savez` can store them."""
    frames = ["" if key.frame is None else str(key.frame) for key in series.keys]
    return {
        "name": plain_name(series.volume_id),
        "hu": series.hu,
        "z_mm": series.z_mm,
        "brain_cm2": series.hu_features[:, BRAIN_CM2],
        "sop_uid": np.array([key.sop_uid for key in series.keys]),
        "frame": np.array(frames),
    }
