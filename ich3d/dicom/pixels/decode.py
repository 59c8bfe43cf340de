"""The frames of any DICOM file, of whatever transfer syntax.

Uncompressed frames are read by pydicom, RLE by `rle`, and all other compressed frames by SimpleITK
in a process of its own. Optional decoders that pydicom may find on a machine are never used, so a
file gives the same pixels everywhere.
"""

from io import BytesIO
from typing import Final

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.utils import pixel_array
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

from ich3d.dicom.pixels import rle, sitk_process
from ich3d.dicom.pixels.native import (
    OVERLAY_BIT_POSITIONS,
    DecoderError,
    Frame,
    padding_range,
)
from ich3d.dicom.pydicom_warnings import suppress_pydicom_warnings

_IMAGE_KEYWORDS: Final = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
)
_PADDING_KEYWORDS: Final = ("PixelPaddingValue", "PixelPaddingRangeLimit")
_KEYWORDS: Final = (*_IMAGE_KEYWORDS, *_PADDING_KEYWORDS, "NumberOfFrames", "PixelData")

_TAGS: Final = [*map(Tag, _KEYWORDS), *map(Tag, sorted(OVERLAY_BIT_POSITIONS))]

_J2K_START: Final = b"\xff\x4f\xff\x51"
"""The first bytes of a JPEG 2000 stream: the markers SOC and SIZ (ISO 15444-1 A.4.1, A.5.1)."""

_J2K_DEPTH_OFFSET: Final = 42
"""Offset of the byte with the bit depth and, in its highest bit, the sign (ISO 15444-1 A.5.1)."""


def read_dataset(content: bytes) -> FileDataset:
    """The elements that `decode` needs of a file. Raises whatever pydicom raises."""
    with suppress_pydicom_warnings():
        ds = pydicom.dcmread(BytesIO(content), force=True, specific_tags=_TAGS)
        _set_transfer_syntax(ds)
        return ds


def decode(ds: FileDataset, index: int) -> Frame:
    """The frame at `index`, from 0. Raises whatever the decoders raise on damaged pixels."""
    with suppress_pydicom_warnings():
        padding = [
            None if ds.get(keyword) in (None, "") else int(ds[keyword].value)
            for keyword in _PADDING_KEYWORDS
        ]
        high_bit = int(ds.HighBit) if "HighBit" in ds else None
        return Frame(
            cells=_cells(ds, index),
            bits_allocated=ds.BitsAllocated,
            high_bit=high_bit,
            padding=padding_range(*padding),
            has_overlay_bits=any(tag in ds for tag in OVERLAY_BIT_POSITIONS),
        )


def _cells(ds: FileDataset, index: int) -> np.ndarray:
    """The pixel cells (Y, X) of a frame, by the decoder of its transfer syntax."""
    syntax = ds.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        return pixel_array(ds, index=index, raw=True, correct_unused_bits=False)

    frame = _encapsulated_frame(ds, index)
    # pydicom cuts off RLE segments that are too long, SimpleITK fills up those that are too short.
    if syntax == RLELossless:
        return rle.decode(frame, ds.Rows, ds.Columns, ds.BitsAllocated // 8)
    if syntax in JPEG2000TransferSyntaxes:
        _require_equal_sign(ds, frame)
    return sitk_process.decode(_single_frame_dataset(ds, frame))


def _encapsulated_frame(ds: FileDataset, index: int) -> bytes:
    """The compressed bytes of the frame at `index` (PS3.5 A.4)."""
    return get_frame(ds.PixelData, index, number_of_frames=int(ds.get("NumberOfFrames") or 1))


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


def _single_frame_dataset(ds: FileDataset, frame: bytes) -> Dataset:
    """A dataset of one compressed frame, without rescale and without anything about the patient."""
    single = Dataset()
    single.file_meta = FileMetaDataset()
    single.file_meta.TransferSyntaxUID = ds.file_meta.TransferSyntaxUID
    single.SOPClassUID = single.file_meta.MediaStorageSOPClassUID = CTImageStorage
    single.SOPInstanceUID = single.file_meta.MediaStorageSOPInstanceUID = UID("2.25.1")
    for keyword in _IMAGE_KEYWORDS:
        if keyword in ds:
            single[keyword] = ds[keyword]

    single.PixelData = encapsulate([frame])
    single["PixelData"].VR = "OB"
    single["PixelData"].is_undefined_length = True
    return single
