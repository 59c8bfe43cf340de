"""Pixel containers of one frame as they are in the file, through pydicom, and where it cannot, SimpleITK."""

from typing import Final

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from ich3d.dicom import itk

IMAGE_KEYWORDS: Final = (
    "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated", "BitsStored",
    "HighBit", "PixelRepresentation",
)  # fmt: skip
PIXEL_KEYWORDS: Final = (*IMAGE_KEYWORDS, "NumberOfFrames", "PixelData")
"""What `decode` needs of a dataset."""


def decode(ds: FileDataset, index: int) -> np.ndarray:
    """The containers (Y, X) of the frame at `index`, unused bits and all. Whatever the decoders raise on
    damaged pixels passes through."""
    _name_syntax(ds)
    try:
        return pixel_array(ds, index=index, raw=True, correct_unused_bits=False)
    except Exception:  # pydicom has no decoder, or a decoder of its own gave up
        if not ds.file_meta.TransferSyntaxUID.is_compressed:
            raise
    return itk.decode(_bare_image(ds, index))


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
    for keyword in IMAGE_KEYWORDS:
        if keyword in ds:
            bare[keyword] = ds[keyword]
    frame = get_frame(ds.PixelData, index, number_of_frames=int(ds.get("NumberOfFrames") or 1))
    bare.PixelData = encapsulate([frame])
    bare["PixelData"].VR = "OB"
    bare["PixelData"].is_undefined_length = True
    return bare
