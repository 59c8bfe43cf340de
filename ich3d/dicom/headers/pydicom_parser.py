"""A header through pydicom: every encoding, and the functional groups of multi-frame files."""

import struct
from collections.abc import Mapping
from typing import BinaryIO, Final

import pydicom
from pydicom.dataset import Dataset

from ich3d.dicom.headers.elements import PIXEL_DATA, TAGS, Elements
from ich3d.dicom.pydicom_warnings import suppress_pydicom_warnings

_TOP_LEVEL: Final = tuple(tag for tag in TAGS.values() if 0x0002FFFF < tag < PIXEL_DATA)
_PIXEL_VRS: Final = (b"OB", b"OW", b"UN")
_MACROS: Final = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing",),
    "PixelValueTransformationSequence": ("RescaleIntercept", "RescaleSlope"),
    "FrameContentSequence": ("FrameAcquisitionNumber",),
    "CTImageFrameTypeSequence": ("FrameType",),
    "CTReconstructionSequence": ("ConvolutionKernel",),
}
"""The functional group macros that tell of a frame, and what is read of each (PS3.3 C.7.6.16.2, C.8.15.3)."""

_PER_FRAME: Final = frozenset(keyword for keywords in _MACROS.values() for keyword in keywords)


def parse_with_pydicom(file: BinaryIO) -> Elements:
    """The header of the DICOM file that `file` stands at the start of. pydicom's exceptions pass through."""
    with suppress_pydicom_warnings():
        ds = pydicom.dcmread(
            file, stop_before_pixels=True, force=True, specific_tags=list(_TOP_LEVEL)
        )
        values = _values(
            ds
        )  # first of all, for pydicom turns what it looks at from bytes into values
        frames = _frames(ds)
        patient_id = str(ds.get("PatientID") or "").strip()
        media_class = str(ds.file_meta.get("MediaStorageSOPClassUID", "")).encode(
            "latin-1", "replace"
        )
        transfer_syntax = str(ds.file_meta.get("TransferSyntaxUID", ""))
    implicit, little = ds.original_encoding
    order = "<" if little else ">"
    pixels_at, pixels_length = _pixels(file, bool(implicit), order)
    own = {key: value for key, value in values.items() if not (frames and key in _PER_FRAME)}
    return Elements(
        values={**own, "MediaStorageSOPClassUID": media_class},
        patient_id=patient_id,
        transfer_syntax=transfer_syntax,
        order=order,
        pixels_at=pixels_at,
        pixels_length=pixels_length,
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
    return tuple(
        shared | _grouped(item) for item in ds.get("PerFrameFunctionalGroupsSequence") or ()
    )


def _grouped(groups: Dataset) -> dict[str, bytes]:
    """The elements of the functional group macros in one item, each a sequence of one item."""
    found: dict[str, bytes] = {}
    for macro, keywords in _MACROS.items():
        for item in (groups.get(macro) or ())[:1]:
            values = _values(item)
            found |= {keyword: values[keyword] for keyword in keywords if keyword in values}
    return found


def _pixels(file: BinaryIO, implicit: bool, order: str) -> tuple[int, int] | tuple[None, None]:
    """Where the value of PixelData begins and how long its element says it is (PS3.5 7.1.2, 7.1.3), if
    `file` stands at such an element."""
    head = file.read(8 if implicit else 12)
    if len(head) < 8 or struct.unpack(f"{order}HH", head[:4]) != (
        PIXEL_DATA >> 16,
        PIXEL_DATA & 0xFFFF,
    ):
        return None, None
    if not implicit and head[4:6] not in _PIXEL_VRS:
        return None, None
    return file.tell(), struct.unpack(f"{order}I", head[-4:])[0]
