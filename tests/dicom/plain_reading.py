"""A plain reading of one CT file with pydicom and numpy: what an accepted volume is judged by."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileDataset
from pydicom.pixels.utils import pixel_array
from pydicom.uid import RLELossless

AIR = -1024


@dataclass(frozen=True)
class Plain:
    """What one file says of its slice; `wrapped_hu` is its HU if its values are wrapped 12-bit ones."""

    series_uid: str
    patient_id: str
    position_mm: np.ndarray
    directions: np.ndarray
    pixel_spacing_mm: np.ndarray
    hu: np.ndarray
    wrapped_hu: np.ndarray | None


def read_plainly(path: Path) -> Plain:
    """Whatever goes wrong is raised: then nobody should have accepted the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = pydicom.dcmread(path, force=True)
        directions = numbers(ds, "ImageOrientationPatient", 6).reshape(2, 3)
        stored = stored_values(ds)
        return Plain(
            series_uid=text(ds, "SeriesInstanceUID"),
            patient_id=text(ds, "PatientID"),
            position_mm=numbers(ds, "ImagePositionPatient", 3),
            directions=directions / np.linalg.norm(directions, axis=1, keepdims=True),
            pixel_spacing_mm=numbers(ds, "PixelSpacing", 2),
            hu=rescaled(ds, stored),
            wrapped_hu=unwrapped(ds, stored),
        )


def text(ds: FileDataset, keyword: str) -> str:
    """A value by its bytes: a damaged VR does not change what they say."""
    return (ds.get_item(keyword).value or b"").decode("latin-1").rstrip("\0") if keyword in ds else ""


def numbers(ds: FileDataset, keyword: str, count: int) -> np.ndarray:
    parts = text(ds, keyword).split("\\")
    assert len(parts) == count, keyword
    assert not {"_", "\0"} & set("".join(parts)), keyword
    found = np.array([float(part) for part in parts])
    assert np.all(np.isfinite(found)), keyword
    return found


def containers(ds: FileDataset) -> np.ndarray:
    """The pixels as unsigned whole numbers of BitsAllocated bits."""
    assert ds.SamplesPerPixel == 1
    assert ds.PhotometricInterpretation in ("MONOCHROME1", "MONOCHROME2")
    _, little = ds.original_encoding
    dtype = np.dtype(f"{'<' if little else '>'}u{ds.BitsAllocated // 8}")
    if ds.file_meta.get("TransferSyntaxUID") == RLELossless:
        pixels = pixel_array(ds, raw=True, correct_unused_bits=False)
        return pixels.view(f"u{pixels.dtype.itemsize}").astype(np.int64)
    assert not ds["PixelData"].is_undefined_length
    count = ds.Rows * ds.Columns
    assert len(ds.PixelData) >= count * dtype.itemsize
    return np.frombuffer(ds.PixelData, dtype, count).reshape(ds.Rows, ds.Columns).astype(np.int64)


def stored_values(ds: FileDataset) -> np.ndarray:
    bits = ds.BitsStored
    low = ds.get("HighBit", bits - 1) + 1 - bits
    assert 0 <= low <= ds.BitsAllocated - bits
    values = containers(ds) >> low & (1 << bits) - 1
    assert ds.PixelRepresentation in (0, 1)
    if ds.PixelRepresentation == 1:
        values = np.where(values >= 1 << (bits - 1), values - (1 << bits), values)
    return values


def rescaled(ds: FileDataset, stored: np.ndarray) -> np.ndarray:
    """HU by the rule: half to even, padding to air, clipped to 16 bits."""
    hu = np.rint(stored * numbers(ds, "RescaleSlope", 1) + numbers(ds, "RescaleIntercept", 1))
    is_padding = padding(ds, stored)
    hu[hu < AIR if is_padding is None else is_padding] = AIR
    return np.clip(hu, -32768, 32767)


def padding(ds: FileDataset, stored: np.ndarray) -> np.ndarray | None:
    ends = [ds.get(key) for key in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if ends[0] in (None, ""):
        return None
    ends = [int(end) for end in ends if end not in (None, "")]
    span = 1 << ds.BitsAllocated
    reach = max(ends) - min(ends)
    raw, value = ((pixels - min(ends)) % span <= reach for pixels in (containers(ds), stored))
    return raw | value


def unwrapped(ds: FileDataset, stored: np.ndarray) -> np.ndarray | None:
    slope, intercept = numbers(ds, "RescaleSlope", 1), numbers(ds, "RescaleIntercept", 1)
    if ds.BitsStored != 12 or ds.PixelRepresentation != 0 or slope != 1 or intercept <= -100:
        return None
    hu = (stored + 1000) % 4096 - 1000
    is_padding = padding(ds, stored)
    return hu if is_padding is None else np.where(is_padding, AIR, hu)
