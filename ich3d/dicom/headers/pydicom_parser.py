"""Parse a header with pydicom: every encoding, and the functional groups of multi-frame files."""

import struct
from collections.abc import Mapping, Sequence
from typing import BinaryIO, Final, NamedTuple, cast

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.tag import Tag

from ich3d.dicom.headers.element_scanner import PIXEL_DATA
from ich3d.dicom.headers.elements import TAGS, Elements
from ich3d.dicom.limits import HeaderStream
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
        "FrameReferenceDateTime",
        "StackID",
        "TemporalPositionIndex",
    ),
    "TemporalPositionSequence": ("TemporalPositionTimeOffset",),
    "CardiacSynchronizationSequence": ("NominalPercentageOfCardiacPhase",),
    "ContrastBolusUsageSequence": ("ContrastBolusAgentAdministered", "ContrastBolusAgentPhase"),
    "CTXRayDetailsSequence": ("KVP",),
    "CTImageFrameTypeSequence": ("FrameType", "VolumeBasedCalculationTechnique"),
    "CTReconstructionSequence": ("ConvolutionKernel",),
}
"""Functional group macros, and what is read from each (PS3.3 C.7.6.16.2 and C.8.15.3)."""

_MACRO_KEYWORDS: Final = {int(Tag(macro)): keywords for macro, keywords in _MACROS.items()}
"""The same by the tag of the macro's sequence."""

_CONTRAST_SEQUENCE: Final = 0x00180012
"""ContrastBolusAgentSequence, which in multi-frame files has the place of ContrastBolusAgent (PS3.3
C.7.6.4b)."""

_FRAME_KEYWORDS: Final = frozenset(keyword for keywords in _MACROS.values() for keyword in keywords)


class PixelDataElement(NamedTuple):
    """Byte offset of the value of PixelData, its declared length in bytes, its VR if it has one."""

    offset: int
    length: int
    vr: str


def parse_with_pydicom(stream: BinaryIO) -> Elements:
    """Parse the header of a DICOM file, from a binary stream that stands at its beginning.

    The stream is left somewhere after the header. pydicom may raise almost any exception on a
    damaged file, and none of them is caught here.
    """
    dataset, pixel_data = read_until_pixels(stream, [*_DATA_SET_TAGS, _CONTRAST_SEQUENCE])
    with suppress_pydicom_warnings():
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

    return Elements(
        values=values,
        patient_id=patient_id,
        transfer_syntax=transfer_syntax,
        byte_order=_byte_order(dataset),
        pixel_data_offset=None if pixel_data is None else pixel_data.offset,
        pixel_data_length=None if pixel_data is None else pixel_data.length,
        frames=frames,
    )


def read_until_pixels(
    stream: BinaryIO, tags: Sequence[int]
) -> tuple[FileDataset, PixelDataElement | None]:
    """Read some elements of a plain file, and where its PixelData is; None if that is missing.

    `stream` stands at its beginning, and is left somewhere after the header. Raises
    `HeaderTooLarge`, and whatever pydicom raises.
    """
    with suppress_pydicom_warnings():
        dataset = pydicom.dcmread(
            cast(BinaryIO, HeaderStream(stream)),
            stop_before_pixels=True,
            force=True,
            specific_tags=list(tags),
        )
    return dataset, _pixel_data_element(stream, _is_implicit(dataset), _byte_order(dataset))


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
    """The raw bytes of the attributes in `_MACROS`; each macro is a sequence of one item.

    Nothing else is looked at, because there may be thousands of frames.
    """
    macro_values: dict[str, bytes] = {}
    for tag in sorted(_MACRO_KEYWORDS.keys() & groups.keys()):
        for macro_item in (groups[tag].value or ())[:1]:
            for keyword in _MACRO_KEYWORDS[tag]:
                value = _raw_value(macro_item, TAGS[keyword])
                if value is not None:
                    macro_values[keyword] = value
    return macro_values


def _byte_order(dataset: FileDataset) -> str:
    """The byte order as `struct` writes it."""
    _, little_endian = dataset.original_encoding
    return "<" if little_endian else ">"


def _is_implicit(dataset: FileDataset) -> bool:
    """Whether the elements just read have no VR, whatever the transfer syntax says of it."""
    for tag in list(dataset.keys()):
        element = dataset.get_item(tag)
        if isinstance(element, RawDataElement):
            return element.is_implicit_VR
    return bool(dataset.original_encoding[0])


def _pixel_data_element(
    stream: BinaryIO, implicit: bool, byte_order: str
) -> PixelDataElement | None:
    """PixelData, if the stream stands at that element.

    The layout of an element is that of PS3.5 7.1.2 (explicit VR) and 7.1.3 (implicit VR).
    """
    head = stream.read(8 if implicit else 12)
    if len(head) < (8 if implicit else 12):
        return None

    group, number = struct.unpack(f"{byte_order}HH", head[:4])
    if group << 16 | number != PIXEL_DATA:
        return None
    if not implicit and head[4:6] not in _PIXEL_VRS:
        return None
    (length,) = struct.unpack(f"{byte_order}I", head[-4:])
    vr = "" if implicit else head[4:6].decode("ascii")
    return PixelDataElement(stream.tell(), length, vr)
