"""Ways to put given pixels into a written DICOM file, and to load what is in it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRBigEndian, ImplicitVRLittleEndian

from ich3d.core.issues import IssueCode
from ich3d.core.types import Volume
from ich3d.dicom.index import index
from ich3d.dicom.volume import load_volume

WriteStack = Callable[..., list[Path]]
"""The type of the fixture `write_stack`."""

EditFile = Callable[..., None]
"""The type of the fixture `edit_file`."""

RAMP = np.arange(16 * 16).reshape(16, 16)
"""Values (16, 16) from 0 to 255, each once."""


def store_values(path: Path, values: np.ndarray, syntax: str = "", **attributes: Any) -> None:
    """Put stored `values` (Y, X) into a file, in their own dtype.

    The attributes that describe pixels follow from the dtype; `attributes` replace them.
    """
    ds = pydicom.dcmread(path)
    ds.Rows, ds.Columns = values.shape
    ds.BitsAllocated = 8 * values.dtype.itemsize
    ds.BitsStored = ds.BitsAllocated
    ds.PixelRepresentation = int(values.dtype.kind == "i")
    for keyword, value in attributes.items():
        # The VR is US or SS, which pydicom cannot choose before the pixels are in the dataset.
        if keyword.startswith("PixelPadding"):
            ds.add_new(keyword, "SS" if isinstance(value, int) and value < 0 else "US", value)
        else:
            setattr(ds, keyword, value)
    if "HighBit" not in attributes:
        ds.HighBit = ds.BitsStored - 1

    is_big = syntax == ExplicitVRBigEndian
    ds.PixelData = values.astype(values.dtype.newbyteorder(">" if is_big else "<")).tobytes()
    ds["PixelData"].VR = "OW"
    if syntax:
        ds.file_meta.TransferSyntaxUID = UID(syntax)
    pydicom.dcmwrite(
        path,
        ds,
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=not is_big,
        force_encoding=True,
    )


def store_frame(path: Path, syntax: str, frame: bytes) -> None:
    """Put one compressed frame into a file."""
    ds = pydicom.dcmread(path)
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    ds.PixelData = encapsulate([frame])
    ds["PixelData"].VR = "OB"
    ds.save_as(path)


def load(path: Path) -> Volume:
    """The volume of the first series at `path`, which holds nothing that is rejected."""
    indexed = index(path)
    assert not indexed.rejected, indexed.rejected
    volume = load_volume(indexed.series[0])
    assert isinstance(volume, Volume), volume
    return volume


def issue_codes(volume: Volume) -> set[IssueCode]:
    """The codes of a volume's issues, without that of a single slice, which many tests write."""
    return {issue.code for issue in volume.issues} - {IssueCode.SINGLE_SLICE}
