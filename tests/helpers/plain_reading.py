"""A plain reading of one CT file with pydicom and numpy: what an accepted volume is judged by."""

import warnings
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset
from pydicom.pixels.utils import pixel_array
from pydicom.uid import JPEG2000, JPEG2000Lossless, RLELossless

AIR = -1024
FILL = -2000
DELIMITER = b"\xfe\xff\xdd\xe0" + bytes(4)
MACRO = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
}
"""The functional group that holds an attribute of a frame (PS3.3 C.7.6.16.2)."""


@dataclass(frozen=True)
class Plain:
    """The slice of one file.

    `directions (2, 3)` are unit vectors along a row and a column; `hu (Y, X)` are Hounsfield units;
    `wrapped_hu (Y, X)` are those under the assumption that 12-bit or 16-bit values have wrapped.
    """

    series_uid: str
    patient_id: str
    position_mm: np.ndarray
    directions: np.ndarray
    pixel_spacing_mm: np.ndarray
    hu: np.ndarray
    wrapped_hu: np.ndarray | None


def read_plainly(content: bytes, frame: int | None) -> Plain:
    """The slice of a single-frame file, or of frame `frame`, counted from 1.

    Raises:
        Exception: of any kind, where the file is damaged. Such a file should not be accepted.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = pydicom.dcmread(BytesIO(with_delimiter(content)), force=True)
        holders = {keyword: holder(ds, frame, keyword) for keyword in MACRO}

        def of_slice(keyword: str, count: int) -> np.ndarray:
            return numbers(holders[keyword], keyword, count)

        directions = of_slice("ImageOrientationPatient", 6).reshape(2, 3)
        pixels = containers(ds, frame or 1)
        stored = stored_values(ds, pixels)
        rescale = (of_slice("RescaleSlope", 1), of_slice("RescaleIntercept", 1))
        return Plain(
            series_uid=text(ds, "SeriesInstanceUID"),
            patient_id=text(ds, "PatientID"),
            position_mm=of_slice("ImagePositionPatient", 3),
            directions=directions / np.linalg.norm(directions, axis=1, keepdims=True),
            pixel_spacing_mm=of_slice("PixelSpacing", 2),
            hu=rescaled(stored, *rescale, padding(ds, pixels, stored, *rescale)),
            wrapped_hu=unwrapped(ds, stored, *rescale, padding(ds, pixels, stored, *rescale)),
        )


def with_delimiter(content: bytes) -> bytes:
    """A file that ends within or before the delimiter behind its compressed pixels, completed.

    pydicom finds no PixelData in such a file.
    """
    ds = pydicom.dcmread(BytesIO(content), force=True, stop_before_pixels=True)
    syntax = ds.file_meta.get("TransferSyntaxUID")
    if syntax not in (RLELossless, JPEG2000Lossless, JPEG2000):
        return content
    n_left = next((n for n in range(8, 0, -1) if content.endswith(DELIMITER[:n])), 0)
    return content + DELIMITER[n_left:]


def holder(ds: FileDataset, frame: int | None, keyword: str) -> Dataset:
    """The data set that holds an attribute of a slice.

    This is the file itself or, in a multi-frame file, an item of a functional group: of the frame's
    own groups first, else of the shared ones.
    """
    per_frame = ds.get("PerFrameFunctionalGroupsSequence")
    if not per_frame:
        assert frame is None
        return ds
    assert len(per_frame) == int(ds.get("NumberOfFrames") or 1)
    for groups in (per_frame[(frame or 1) - 1], *(ds.get("SharedFunctionalGroupsSequence") or ())):
        items = groups.get(MACRO[keyword])
        if items and keyword in items[0]:
            return items[0]  # type: ignore[no-any-return]
    raise AssertionError(f"no {keyword} in frame {frame}")


def text(ds: Dataset, keyword: str) -> str:
    """The value of an attribute as text, decoded from its bytes whatever its VR."""
    return (
        (ds.get_item(keyword).value or b"").decode("latin-1").rstrip("\0") if keyword in ds else ""
    )


def numbers(ds: Dataset, keyword: str, count: int) -> np.ndarray:
    """The `count` finite numbers of an attribute (count,)."""
    parts = text(ds, keyword).split("\\")
    assert len(parts) == count, keyword
    assert not {"_", "\0"} & set("".join(parts)), keyword
    values = np.array([float(part) for part in parts])
    assert np.all(np.isfinite(values)), keyword
    return values


def containers(ds: FileDataset, frame: int) -> np.ndarray:
    """The pixels of a frame (Y, X) as unsigned integers of BitsAllocated bits, not yet masked."""
    assert ds.SamplesPerPixel == 1
    assert text(ds, "PhotometricInterpretation").strip() in ("MONOCHROME1", "MONOCHROME2")
    _, little = ds.original_encoding
    dtype = np.dtype(f"{'<' if little else '>'}u{ds.BitsAllocated // 8}")
    if ds.file_meta.get("TransferSyntaxUID") in (RLELossless, JPEG2000Lossless, JPEG2000):
        pixels = pixel_array(ds, index=frame - 1, raw=True, correct_unused_bits=False)
        return pixels.view(f"u{pixels.dtype.itemsize}").astype(np.int64)
    assert not ds["PixelData"].is_undefined_length
    count = ds.Rows * ds.Columns
    assert len(ds.PixelData) >= count * dtype.itemsize * int(ds.get("NumberOfFrames") or 1)
    pixels = np.frombuffer(ds.PixelData, dtype, count, offset=(frame - 1) * count * dtype.itemsize)
    return pixels.reshape(ds.Rows, ds.Columns).astype(np.int64)


def stored_values(ds: FileDataset, pixels: np.ndarray) -> np.ndarray:
    """The stored values (Y, X): BitsStored bits of each pixel, with sign where there is one."""
    bits = ds.BitsStored
    low = ds.get("HighBit", bits - 1) + 1 - bits
    assert 0 <= low <= ds.BitsAllocated - bits
    values: np.ndarray = pixels >> low & (1 << bits) - 1
    assert ds.PixelRepresentation in (0, 1)
    if ds.PixelRepresentation == 1:
        values = np.where(values >= 1 << (bits - 1), values - (1 << bits), values)
    return values


def rescaled(
    stored: np.ndarray, slope: np.ndarray, intercept: np.ndarray, is_padding: np.ndarray | None
) -> np.ndarray:
    """HU (Y, X): rounded half to even, padding and fills set to air, clipped to 16 bits."""
    hu = np.rint(stored * slope + intercept)
    hu[hu < AIR if is_padding is None else is_padding | (hu <= FILL)] = AIR
    clipped: np.ndarray = np.clip(hu, -32768, 32767)
    return clipped


def padding(
    ds: FileDataset,
    pixels: np.ndarray,
    stored: np.ndarray,
    slope: np.ndarray,
    intercept: np.ndarray,
) -> np.ndarray | None:
    """Which pixels (Y, X) lie in the declared padding range; None if no padding is declared.

    A range that holds HU of fat, water, brain or bone is none, and its limit is ignored.
    """
    ends = [ds.get(key) for key in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if ends[0] in (None, ""):
        return None
    ends = [int(end) for end in ends if end not in (None, "")]
    span = 1 << ds.BitsAllocated
    body = np.rint((np.array([-100, 0, 40, 1000]) - intercept) / slope)
    if np.any((body - min(ends)) % span <= (max(ends) - min(ends)) % span):
        ends = ends[:1]
    reach = (max(ends) - min(ends)) % span

    # Files declare the padding value with or without its sign: either form counts.
    raw, value = ((values - min(ends)) % span <= reach for values in (pixels, stored))
    is_padding: np.ndarray = raw | value
    return is_padding


def unwrapped(
    ds: FileDataset,
    stored: np.ndarray,
    slope: np.ndarray,
    intercept: np.ndarray,
    is_padding: np.ndarray | None,
) -> np.ndarray | None:
    """HU (Y, X) of values that wrapped around, where the header allows that; else None."""
    if ds.PixelRepresentation != 0 or slope != 1:
        return None
    if ds.BitsStored == 16:
        signed = np.where(stored >= 32768, stored - 65536, stored)
        return rescaled(signed, slope, intercept, is_padding)
    if ds.BitsStored != 12 or intercept <= -100:
        return None
    hu = np.where(stored >= 3072, stored - 4096, stored)
    return hu if is_padding is None else np.where(is_padding, AIR, hu)
