"""The frames of any file: native ones through pydicom, RLE with its lengths checked, and all that is
compressed through SimpleITK in a process of its own, whatever decoders pydicom may find on a machine."""

from io import BytesIO
from typing import Final

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.utils import pixel_array
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
from ich3d.dicom.pixels.native import DecoderError, Image, padding_range
from ich3d.dicom.pydicom_warnings import suppress_pydicom_warnings

_IMAGE_KEYWORDS: Final = (
    "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated", "BitsStored",
    "HighBit", "PixelRepresentation",
)  # fmt: skip
_PADDING_KEYWORDS: Final = ("PixelPaddingValue", "PixelPaddingRangeLimit")
_J2K_START: Final = b"\xff\x4f\xff\x51"
_J2K_DEPTH: Final = 42
"""How a JPEG 2000 stream begins, and where it tells depth and sign (ISO 15444-1 A.4.1, A.5.1)."""

_KEYWORDS: Final = (*_IMAGE_KEYWORDS, *_PADDING_KEYWORDS, "NumberOfFrames", "PixelData")


def dataset(content: bytes) -> FileDataset:
    """What `decode` needs of the bytes of a file. pydicom's exceptions pass through."""
    with suppress_pydicom_warnings():
        ds = pydicom.dcmread(BytesIO(content), force=True, specific_tags=list(_KEYWORDS))
        _name_syntax(ds)
        return ds


def decode(ds: FileDataset, index: int) -> Image:
    """The frame at `index`. Whatever the decoders raise on damaged pixels passes through."""
    with suppress_pydicom_warnings():
        ends = [
            int(ds[key].value) if ds.get(key) not in (None, "") else None
            for key in _PADDING_KEYWORDS
        ]
        high_bit = int(ds.HighBit) if "HighBit" in ds else None
        return Image(_container(ds, index), ds.BitsAllocated, high_bit, padding_range(*ends))


def _container(ds: FileDataset, index: int) -> np.ndarray:
    syntax = ds.file_meta.TransferSyntaxUID
    if (
        syntax == RLELossless
    ):  # pydicom cuts what is too long, and SimpleITK fills what is too short
        return rle.decode(_frame(ds, index), ds.Rows, ds.Columns, ds.BitsAllocated // 8)
    if syntax in JPEG2000TransferSyntaxes:
        _require_one_sign(ds, _frame(ds, index))
    if syntax.is_encapsulated:
        return sitk_process.decode(_bare_image(ds, index))
    return pixel_array(ds, index=index, raw=True, correct_unused_bits=False)


def _frame(ds: FileDataset, index: int) -> bytes:
    """The encapsulated frame at `index` (PS3.5 A.4)."""
    return get_frame(ds.PixelData, index, number_of_frames=int(ds.get("NumberOfFrames") or 1))


def _require_one_sign(ds: FileDataset, frame: bytes) -> None:
    """Refuse a JPEG 2000 stream of signed values in a file of unsigned ones: decoders give other values each.
    The other way round, which real files have, they agree."""
    is_signed = frame.startswith(_J2K_START) and frame[_J2K_DEPTH : _J2K_DEPTH + 1] > b"\x7f"
    if is_signed and ds.PixelRepresentation == 0:
        raise DecoderError(
            "it holds signed values, which PixelRepresentation (0028,0103) calls unsigned"
        )


def _name_syntax(ds: FileDataset) -> None:
    """Give a file without TransferSyntaxUID the one that its bytes were found to follow."""
    if "TransferSyntaxUID" in ds.file_meta:
        return
    syntaxes: dict[tuple[bool | None, bool | None], UID] = {
        (True, True): ImplicitVRLittleEndian,
        (False, True): ExplicitVRLittleEndian,
        (False, False): ExplicitVRBigEndian,
    }
    ds.file_meta.TransferSyntaxUID = syntaxes[ds.original_encoding]


def _bare_image(ds: FileDataset, index: int) -> Dataset:
    """An image of one frame's pixels without a rescale and without a patient."""
    bare = Dataset()
    bare.file_meta = FileMetaDataset()
    bare.file_meta.TransferSyntaxUID = ds.file_meta.TransferSyntaxUID
    bare.SOPClassUID = bare.file_meta.MediaStorageSOPClassUID = CTImageStorage
    bare.SOPInstanceUID = bare.file_meta.MediaStorageSOPInstanceUID = UID("2.25.1")
    for keyword in _IMAGE_KEYWORDS:
        if keyword in ds:
            bare[keyword] = ds[keyword]
    bare.PixelData = encapsulate([_frame(ds, index)])
    bare["PixelData"].VR = "OB"
    bare["PixelData"].is_undefined_length = True
    return bare
