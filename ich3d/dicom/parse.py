"""A header through pydicom: every encoding, and the functional groups of multi-frame files."""

import struct
import warnings
from collections.abc import Iterator, Mapping
from typing import BinaryIO, Final

import pydicom
from pydicom.dataset import Dataset

from ich3d.dicom.elements import PIXEL_DATA, TAGS, Elements

_TOP_LEVEL: Final = tuple(tag for keyword, tag in TAGS.items() if tag != PIXEL_DATA)
_PER_FRAME: Final = frozenset({
    "FrameType", "ConvolutionKernel", "ImagePositionPatient", "ImageOrientationPatient",
    "FrameAcquisitionNumber", "PixelSpacing", "RescaleIntercept", "RescaleSlope",
})  # fmt: skip


def parse(file: BinaryIO) -> Elements:
    """The header of the DICOM file that `file` stands at the start of. pydicom's exceptions pass through."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # remarks on values that are checked where they are used
        ds = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=list(_TOP_LEVEL))
        values = _values(ds)  # first of all, for pydicom turns what it looks at from bytes into values
        frames = _frames(ds)
        patient_id = str(ds.get("PatientID") or "").strip()
        media_class = str(ds.file_meta.get("MediaStorageSOPClassUID", ""))
        transfer_syntax = str(ds.file_meta.get("TransferSyntaxUID", ""))
    implicit, little = ds.original_encoding
    order = "<" if little else ">"
    return Elements(
        values={key: value for key, value in values.items() if not (frames and key in _PER_FRAME)},
        patient_id=patient_id,
        media_class=media_class,
        transfer_syntax=transfer_syntax,
        implicit=bool(implicit),
        order=order,
        pixels_at=_pixels_at(file, order),
        frames=frames,
    )


def _values(ds: Dataset) -> dict[str, bytes]:
    raw = {keyword: _raw(ds, tag) for keyword, tag in TAGS.items()}
    return {keyword: value for keyword, value in raw.items() if value is not None}


def _raw(ds: Dataset, tag: int) -> bytes | None:
    """The bytes of a value; None where the element is missing, or the file ends within it."""
    if tag not in ds:
        return None
    element = ds.get_item(tag)
    value = element.value or b""
    if not isinstance(value, bytes) or len(value) < getattr(element, "length", 0):
        return None
    return value


def _frames(ds: Dataset) -> tuple[Mapping[str, bytes], ...]:
    """The elements of each frame's functional groups; its own go before the shared ones."""
    shared: dict[str, bytes] = {}
    for item in ds.get("SharedFunctionalGroupsSequence") or ():
        shared |= _grouped(item)
    return tuple(shared | _grouped(item) for item in ds.get("PerFrameFunctionalGroupsSequence") or ())


def _grouped(groups: Dataset) -> dict[str, bytes]:
    """The elements of the functional group macros in one item, each a sequence of one item."""
    found: dict[str, bytes] = {}
    for macro in _macros(groups):
        found |= {keyword: value for keyword, value in _values(macro).items() if keyword in _PER_FRAME}
    return found


def _macros(groups: Dataset) -> Iterator[Dataset]:
    for element in groups:
        if element.VR == "SQ" and element.value:
            yield element.value[0]


def _pixels_at(file: BinaryIO, order: str) -> int | None:
    at = file.tell()
    start = file.read(4)
    if len(start) < 4:
        return None
    group, element = struct.unpack(f"{order}HH", start)
    return at if group << 16 | element == PIXEL_DATA else None
