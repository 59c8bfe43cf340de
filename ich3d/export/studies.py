"""DICOM as the exported network reads it; an exported bundle's `dicom.json` calls this."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ich3d.config.schema import PrepareConfig
from ich3d.core.types import Rejected
from ich3d.dicom.index import index
from ich3d.dicom.validate import check_siblings
from ich3d.prepare.build import prepare_series
from ich3d.prepare.store import plain_name

log = logging.getLogger(__name__)


def from_dicom(path: str, matrix: int, pixel_mm: float) -> Iterator[dict[str, Any]]:
    """Every head CT series below `path`: its `name`, `hu` int16 (Z, H, W) on the grid, slices inferior to
    superior, their `z_mm`, `sop_uid` and `frame` (Z,), empty in single-frame files.

    What is rejected is logged with its reason, and the rest goes on.
    """
    found = check_siblings(index(Path(path).absolute()))
    rejected = list(found.rejected)
    for series in found.series:
        made = prepare_series(series, PrepareConfig(pixel_mm=pixel_mm, matrix=matrix))
        if isinstance(made, Rejected):
            rejected.append(made)
            continue
        stored, hu = made
        yield {
            "name": plain_name(stored.volume_id),
            "hu": hu,
            "z_mm": np.array(stored.z_mm),
            "sop_uid": np.array([key.sop_uid for key in stored.keys]),
            "frame": np.array(["" if key.frame is None else str(key.frame) for key in stored.keys]),
        }
    for item in rejected:
        log.warning("%s: %s", item.subject, item.detail)
