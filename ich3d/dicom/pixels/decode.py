"""The frames of any DICOM file, of whatever transfer syntax.

Uncompressed frames are read here, RLE by `rle`, and all other compressed frames by SimpleITK
in a process of its own. Optional decoders that pydicom may find on a machine are never used, so a
file gives the same pixels everywhere.
"""

import struct
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO, Final

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    RLELossless,
)

from ich3d.dicom.headers.element_scanner import UNDEFINED_LENGTH
from ich3d.dicom.headers.pixel_length import DELIMITER, walk_items
from ich3d.dicom.headers.pydicom_parser import PixelDataElement, read_until_pixels
from ich3d.dicom.pixels import rle, sitk_process
from ich3d.dicom.pixels.native import (
    OVERLAY_BIT_POSITIONS,
    DecoderError,
    Frame,
    padding_range,
)
from ich3d.dicom.pydicom_warnings import suppress_pydicom_warnings

_NUMBER_KEYWORDS: Final = (
    "SamplesPerPixel",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
)
_IMAGE_KEYWORDS: Final = (*_NUMBER_KEYWORDS, "PhotometricInterpretation", "HighBit")
_PADDING_KEYWORDS: Final = ("PixelPaddingValue", "PixelPaddingRangeLimit")
_TAGS: Final = (
    *(int(Tag(keyword)) for keyword in (*_IMAGE_KEYWORDS, *_PADDING_KEYWORDS, "NumberOfFrames")),
    *sorted(OVERLAY_BIT_POSITIONS),
)

GE_PRIVATE_SYNTAX: Final = UID("1.2.840.113619.5.2")
"""Elements in implicit VR little endian, pixels big endian: "Implicit VR Big Endian DLX (GE)"."""

_J2K_START: Final = b"\xff\x4f\xff\x51"
"""The first bytes of a JPEG 2000 stream: the markers SOC and SIZ (ISO 15444-1 A.4.1, A.5.1)."""

_JPEG_FRAME_MARKERS: Final = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
"""SOF markers of JPEG (ISO 10918-1 table B.1) and of JPEG-LS (ISO 14495-1 C.1.1)."""

_J2K_DEPTH_OFFSET: Final = 42
"""Offset of the byte with the bit depth and, in its highest bit, the sign (ISO 15444-1 A.5.1)."""


@dataclass(frozen=True)
class FrameSource:
    """An unusual file, whose frames are read and decoded one at a time.

    Attributes:
        header: the elements that `decode` needs, without PixelData.
        stream: the plain file (`headers.deflated.inflated`), or its mended PixelData.
        pixel_data: where PixelData is in the stream.
        deviation: how the file breaks the rules of its encoding although its pixels are exact;
            empty where it does not.
    """

    header: FileDataset
    stream: BinaryIO
    pixel_data: PixelDataElement
    deviation: str


def open_frames(stream: BinaryIO, size: int) -> FrameSource:
    """The frames of a plain file of `size` bytes that is open at its beginning.

    Raises DecoderError where PixelData is missing, and whatever pydicom raises.
    """
    header, pixel_data = read_until_pixels(stream, _TAGS)
    if pixel_data is None:
        raise DecoderError("PixelData is missing")

    # The encoding that is declared, before a missing transfer syntax is added.
    deviation = _label_deviation(header, pixel_data)
    with suppress_pydicom_warnings():
        _set_transfer_syntax(header)
        for keyword in (*_IMAGE_KEYWORDS, "NumberOfFrames"):
            header.get(keyword)  # pydicom raises here if it has a VR that is not known
        for keyword in _NUMBER_KEYWORDS:
            if not isinstance(header.get(keyword), int):
                raise DecoderError(f"{keyword} is not a single number")

    if pixel_data.length == UNDEFINED_LENGTH:
        items = walk_items(stream, pixel_data.offset, size)
        if not items.has_delimiter:
            deviation = "the sequence delimiter behind its compressed pixels is missing"
            stream.seek(pixel_data.offset)
            stream = BytesIO(stream.read(items.end - pixel_data.offset) + DELIMITER)
            pixel_data = pixel_data._replace(offset=0)
    return FrameSource(header, stream, pixel_data, deviation)


def decode(source: FrameSource, index: int) -> Frame:
    """The frame at `index`, from 0. Raises whatever the decoders raise on damaged pixels."""
    header = source.header
    with suppress_pydicom_warnings():
        padding = [
            None if header.get(keyword) in (None, "") else int(header[keyword].value)
            for keyword in _PADDING_KEYWORDS
        ]
        high_bit = int(header.HighBit) if "HighBit" in header else None
        cells, deviation = _cells(source, index)
        return Frame(
            cells=cells,
            bits_allocated=header.BitsAllocated,
            high_bit=high_bit,
            padding=padding_range(*padding),
            has_overlay_bits=any(tag in header for tag in OVERLAY_BIT_POSITIONS),
            deviation=deviation or source.deviation,
        )


def _cells(source: FrameSource, index: int) -> tuple[np.ndarray, str]:
    """The pixel cells (Y, X) of a frame, by the decoder of its transfer syntax; its deviation."""
    header = source.header
    syntax = header.file_meta.TransferSyntaxUID
    if syntax == GE_PRIVATE_SYNTAX or not syntax.is_encapsulated:
        return _native_cells(source, index), ""

    frame = _encapsulated_frame(source, index)
    # pydicom cuts off RLE segments that are too long, SimpleITK fills up those that are too short.
    if syntax == RLELossless:
        return rle.decode(frame, header.Rows, header.Columns, header.BitsAllocated // 8)
    _require_equal_size(header, frame)
    if syntax in JPEG2000TransferSyntaxes:
        _require_equal_sign(header, frame)
    return sitk_process.decode(_single_frame_dataset(header, frame)), ""


def _native_cells(source: FrameSource, index: int) -> np.ndarray:
    """The pixel cells (Y, X) of an uncompressed frame (PS3.5 8.1.1)."""
    header = source.header
    is_big = header.file_meta.TransferSyntaxUID in (ExplicitVRBigEndian, GE_PRIVATE_SYNTAX)
    cell_bytes = header.BitsAllocated // 8
    frame_bytes = header.Rows * header.Columns * cell_bytes

    source.stream.seek(source.pixel_data.offset + index * frame_bytes)
    content = source.stream.read(frame_bytes)
    if cell_bytes == 1 and is_big and source.pixel_data.vr == "OW":
        content = np.frombuffer(content, "u2").byteswap().tobytes()  # two pixels a word
    cells = np.frombuffer(content, f"{'>' if is_big else '<'}u{cell_bytes}")
    return cells.reshape(header.Rows, header.Columns)


def _encapsulated_frame(source: FrameSource, index: int) -> bytes:
    """The compressed bytes of the frame at `index` (PS3.5 A.4)."""
    source.stream.seek(source.pixel_data.offset)
    n_frames = int(source.header.get("NumberOfFrames") or 1)
    return get_frame(source.stream, index, number_of_frames=n_frames)


def _label_deviation(header: FileDataset, pixel_data: PixelDataElement) -> str:
    """How the encoding of the data set differs from what the transfer syntax says; or empty."""
    declared_implicit, _ = header.original_encoding
    is_implicit = pixel_data.vr == ""
    syntax = header.file_meta.get("TransferSyntaxUID")
    if syntax == GE_PRIVATE_SYNTAX:
        return "its transfer syntax is GE's private one"
    if syntax is None or declared_implicit == is_implicit:
        return ""
    found, declared = ("implicit", "explicit") if is_implicit else ("explicit", "implicit")
    return f"its elements have {found} VR, TransferSyntaxUID (0002,0010) says {declared}"


def _require_equal_size(ds: FileDataset, frame: bytes) -> None:
    """Raise DecoderError where a frame claims another size than Rows and Columns.

    A decoder would allocate what the frame claims, which may be 65535 x 65535.
    """
    size = _j2k_size(frame) if frame.startswith(_J2K_START) else _jpeg_size(frame)
    if size is not None and size != (ds.Rows, ds.Columns):
        claimed = f"{size[0]} x {size[1]} pixels"
        raise DecoderError(f"it is compressed as {claimed} and not as {ds.Rows} x {ds.Columns}")


def _j2k_size(frame: bytes) -> tuple[int, int] | None:
    """Rows and columns that a JPEG 2000 stream claims (ISO 15444-1 A.5.1); None if it is cut."""
    if len(frame) < _J2K_DEPTH_OFFSET:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", frame, 8)
    return bottom - top, right - left


def _jpeg_size(frame: bytes) -> tuple[int, int] | None:
    """Rows and columns in the frame header of a JPEG or JPEG-LS stream (ISO 10918-1 B.2.2).

    None where there is no such header, or where it leaves the rows open (B.2.5).
    """
    position = 2
    while frame[position : position + 1] == b"\xff" and position + 9 <= len(frame):
        marker, length, _, rows, columns = struct.unpack_from(">BHBHH", frame, position + 1)
        if marker in _JPEG_FRAME_MARKERS:
            return (rows, columns) if rows else None
        position += 1 if marker == 0xFF else 2 + length
    return None


def _require_equal_sign(ds: FileDataset, frame: bytes) -> None:
    """Raise DecoderError for a JPEG 2000 stream of signed values in a file of unsigned ones.

    Decoders disagree about such a frame. They agree about the reverse, which real files contain.
    """
    depth_byte = frame[_J2K_DEPTH_OFFSET : _J2K_DEPTH_OFFSET + 1]
    is_signed = frame.startswith(_J2K_START) and depth_byte > b"\x7f"
    if is_signed and ds.PixelRepresentation == 0:
        raise DecoderError(
            "it holds signed values, which PixelRepresentation (0028,0103) calls unsigned"
        )


def _set_transfer_syntax(ds: FileDataset) -> None:
    """Add a missing TransferSyntaxUID: that of the encoding which pydicom detected."""
    if "TransferSyntaxUID" in ds.file_meta:
        return
    # The keys are (is implicit VR, is little endian).
    syntaxes: dict[tuple[bool | None, bool | None], UID] = {
        (True, True): ImplicitVRLittleEndian,
        (False, True): ExplicitVRLittleEndian,
        (False, False): ExplicitVRBigEndian,
    }
    ds.file_meta.TransferSyntaxUID = syntaxes[ds.original_encoding]


def _single_frame_dataset(header: FileDataset, frame: bytes) -> Dataset:
    """A dataset of one compressed frame, without rescale and without anything about the patient."""
    single = Dataset()
    single.file_meta = FileMetaDataset()
    single.file_meta.TransferSyntaxUID = header.file_meta.TransferSyntaxUID
    single.SOPClassUID = single.file_meta.MediaStorageSOPClassUID = CTImageStorage
    single.SOPInstanceUID = single.file_meta.MediaStorageSOPInstanceUID = UID("2.25.1")
    for keyword in _IMAGE_KEYWORDS:
        if keyword in header:
            single[keyword] = header[keyword]

    single.PixelData = encapsulate([frame])
    single["PixelData"].VR = "OB"
    single["PixelData"].is_undefined_length = True
    return single
