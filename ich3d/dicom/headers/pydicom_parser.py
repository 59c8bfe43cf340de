"""Parse a header with pydicom: every encoding, and the functional groups of multi-frame files."""

import struct
from collections.abc import Mapping
from typing import BinaryIO, Final

import pydicom
from pydicom.dataset import Dataset, FileDataset

from ich3d.dicom.headers.element_scanner import PIXEL_DATA
from ich3d.dicom.headers.elements import TAGS, Elements
from ich3d.dicom.pydicom_warnings import suppress_pydicom_warnings

_DATA_SET_TAGS: Final = tuple(tag for tag in TAGS.values() if 0x0002FFFF < tag < PIXEL_DATA)
_PIXEL_VRS: Final = (b"OB", b"OW", b"UN")

_MACROS: Final = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness"),
    "PixelValueTransformationSequence": ("RescaleIntercept", "RescaleSlope", "RescaleType"),
    "FrameContentSequence": (
        "FrameAcquisitionNumber",
        "FrameAcquisitionDateTime",
        "TemporalPositionIndex",
    ),
    "CardiacSynchronizationSequence": ("NominalPercentageOfCardiacPhase",),
    "ContrastBolusUsageSequence": ("ContrastBolusAgentPhase",),
    "CTXRayDetailsSequence": ("KVP",),
    "CTImageFrameTypeSequence": ("FrameType",),
    "CTReconstructionSequence": ("ConvolutionKernel",),
}
"""Functional group macros, and what is read from each (PS3.3 C.7.6.16.2 and C.8.15.3)."""

_CONTRAST_SEQUENCE: Final = 0x00180012
"""ContrastBolusAgentSequence, which in multi-frame files has the place of ContrastBolusAgent (PS3.3
C.7.6.4b)."""

_FRAME_KEYWORDS: Final = frozenset(keyword for keywords in _MACROS.values() for keyword in keywords)


def parse_with_pydicom(stream: BinaryIO) -> Elements:
    """Parse the header of a DICOM file, from a binary stream that stands at its beginning.

    The stream is left somewhere after the header. pydicom may raise almost any exception on a
    damaged file, and none of them is caught here.
    """
    with suppress_pydicom_warnings():
        dataset = pydicom.dcmread(
            stream,
            stop_before_pixels=True,
            force=True,
            specific_tags=[*_DATA_SET_TAGS, _CONTRAST_SEQUENCE],
        )
        # Raw bytes first: pydicom replaces them by converted values once an element was looked at.
        values = _raw_values(dataset)
        frames = _frame_values(dataset)
        patient_id = str(dataset.get("PatientID") or "").strip()
        has_contrast_sequence = bool(dataset.get(_CONTRAST_SEQUENCE))
        media_sop_class = str(dataset.file_meta.get("MediaStorageSOPClassUID", ""))
        transfer_syntax = str(dataset.file_meta.get("TransferSyntaxUID", ""))

    # In a multi-frame file these attributes belong to the frames, wherever else they occur.
    if frames:
        values = {key: value for key, value in values.items() if key not in _FRAME_KEYWORDS}
        if has_contrast_sequence:
            values.setdefault("ContrastBolusAgent", b"in ContrastBolusAgentSequence")
    values["MediaStorageSOPClassUID"] = media_sop_class.encode("latin-1", "replace")

    implicit, byte_order = _encoding(dataset)
    offset, length = _pixel_data_extent(stream, implicit, byte_order)
    return Elements(
        values=values,
        patient_id=patient_id,
        transfer_syntax=transfer_syntax,
        byte_order=byte_order,
        pixel_data_offset=offset,
        pixel_data_length=length,
        frames=frames,
    )


def _raw_values(dataset: Dataset) -> dict[str, bytes]:
    """The raw bytes of the elements of `TAGS` that the data set holds, by keyword."""
    values = {keyword: _raw_value(dataset, tag) for keyword, tag in TAGS.items()}
    return {keyword: value for keyword, value in values.items() if value is not None}


def _raw_value(dataset: Dataset, tag: int) -> bytes | None:
    """The raw bytes of one element; None where it is missing or the end of the file cuts it off."""
    if tag not in dataset:
        return None
    element = dataset.get_item(tag)
    value = element.value or b""
    if not isinstance(value, bytes) or len(value) < getattr(element, "length", 0):
        return None
    return value


def _frame_values(dataset: Dataset) -> tuple[Mapping[str, bytes], ...]:
    """The raw bytes of each frame's functional groups, which take precedence over shared ones."""
    shared: dict[str, bytes] = {}
    for groups in dataset.get("SharedFunctionalGroupsSequence") or ():
        shared |= _macro_values(groups)

    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    return tuple(shared | _macro_values(groups) for groups in per_frame)


def _macro_values(groups: Dataset) -> dict[str, bytes]:
    """The raw bytes of the attributes in `_MACROS`; each macro is a sequence of one item."""
    macro_values: dict[str, bytes] = {}
    for macro, keywords in _MACROS.items():
        for macro_item in (groups.get(macro) or ())[:1]:
            values = _raw_values(macro_item)
            macro_values |= {keyword: values[keyword] for keyword in keywords if keyword in values}
    return macro_values


def _encoding(dataset: FileDataset) -> tuple[bool, str]:
    """Whether the VR is implicit, and the byte order as `struct` writes it."""
    implicit, little_endian = dataset.original_encoding
    return bool(implicit), "<" if little_endian else ">"


def _pixel_data_extent(
    stream: BinaryIO, implicit: bool, byte_order: str
) -> tuple[int, int] | tuple[None, None]:
    """Byte offset and declared length of PixelData, if the stream stands at that element.

    The layout of an element is that of PS3.5 7.1.2 (explicit VR) and 7.1.3 (implicit VR).
    """
    head = stream.read(8 if implicit else 12)
    if len(head) < 8:
        return None, None

    group, number = struct.unpack(f"{byte_order}HH", head[:4])
    if group << 16 | number != PIXEL_DATA:
        return None, None
    if not implicit and head[4:6] not in _PIXEL_VRS:
        return None, None
    return stream.tell(), struct.unpack(f"{byte_order}I", head[-4:])[0]
