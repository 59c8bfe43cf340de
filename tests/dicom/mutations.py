"""Small CT series in many encodings, and a seeded way to damage the bytes of their files."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from struct import unpack_from

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
)
PIXEL_DATA = 0x7FE00010
BEFORE_PIXELS = 0.7
"""The share of mutations that hit bytes before PixelData."""

TELLING = (
    "TransferSyntaxUID", "SOPInstanceUID", "Modality", "PatientID", "SeriesInstanceUID",
    "ImagePositionPatient", "ImageOrientationPatient", "SamplesPerPixel", "PhotometricInterpretation",
    "Rows", "Columns", "PixelSpacing", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "PixelPaddingValue", "RescaleIntercept", "RescaleSlope", "PixelData",
)  # fmt: skip


@dataclass(frozen=True)
class Element:
    """Where an element lies: tag, VR and length from `start`, value from `value` to `end`."""

    start: int
    value: int
    end: int
    is_telling: bool


@dataclass(frozen=True)
class Seed:
    """A sound file. In a deflated one, places are those of the inflated bytes behind `plain`."""

    content: bytes
    elements: tuple[Element, ...]
    pixels_at: int
    plain: int | None = None

    def open(self) -> bytes:
        if self.plain is None:
            return self.content
        return self.content[: self.plain] + zlib.decompress(self.content[self.plain :], -zlib.MAX_WBITS)

    def close(self, content: bytes) -> bytes:
        if self.plain is None:
            return content
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return content[: self.plain] + packer.compress(content[self.plain :]) + packer.flush()


def encode(path: Path, syntax: UID) -> Seed:
    """The file at `path` (explicit little endian, 16 bits) in another transfer syntax."""
    ds = pydicom.dcmread(path)
    if syntax == RLELossless:
        ds.compress(RLELossless, generate_instance_uid=False)
    return _seed(encoded(ds, syntax), syntax)


def encoded(ds: Dataset, syntax: str) -> bytes:
    """The bytes of a file, its pixels little endian or already compressed, in `syntax`."""
    if syntax == ExplicitVRBigEndian:
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    ds.file_meta.TransferSyntaxUID = syntax
    out = BytesIO()
    pydicom.dcmwrite(out, ds, implicit_vr=syntax == ImplicitVRLittleEndian,
                     little_endian=syntax != ExplicitVRBigEndian, force_encoding=True)  # fmt: skip
    return out.getvalue()


def _seed(content: bytes, syntax: UID) -> Seed:
    meta = list(_elements(content, 132, implicit=False, little=True, group=2))
    begin = meta[-1].end
    plain = begin if syntax == DeflatedExplicitVRLittleEndian else None
    opened = Seed(content, (), 0, plain).open()
    data = _elements(opened, begin, syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian)
    elements = (*meta, *data)
    return Seed(content, elements, elements[-1].start, plain)


def _elements(
    content: bytes, at: int, implicit: bool, little: bool, group: int | None = None
) -> Iterator[Element]:
    """The elements of a sound file without sequences, up to PixelData or to the end of `group`."""
    order = "<" if little else ">"
    tag = 0
    while tag != PIXEL_DATA:
        found, element = unpack_from(f"{order}HH", content, at)
        if group not in (None, found):
            return
        tag = found << 16 | element
        if implicit or content[at + 4 : at + 6] in (b"OB", b"OW"):
            value = at + (8 if implicit else 12)
            (length,) = unpack_from(f"{order}I", content, value - 4)
        else:
            value = at + 8
            (length,) = unpack_from(f"{order}H", content, at + 6)
        end = min(value + length, len(content))
        yield Element(at, value, end, pydicom.datadict.keyword_for_tag(tag) in TELLING)
        at = end


def mutate(seed: Seed, rng: np.random.Generator) -> bytes:
    """The bytes of `seed` after one to three mutations."""
    content = bytearray(seed.open())
    in_header = rng.random() < BEFORE_PIXELS
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if in_header:
            kind = rng.choice(
                (_flip, _flip_telling, _digit, _digit, _number, _swap_tags, _copy, _cut, _insert)
            )
            kind(content, seed, rng)
        else:
            low = min(seed.pixels_at, len(content) - 1)
            _damage(content, int(rng.integers(low, len(content))), rng)
    if rng.random() < 0.1:
        place = rng.integers(0, seed.pixels_at) if in_header else rng.integers(0, len(content))
        del content[int(place) :]
    return seed.close(bytes(content))


def _damage(content: bytearray, at: int, rng: np.random.Generator) -> None:
    match rng.integers(4):
        case 0 | 1:
            content[at] ^= 1 << int(rng.integers(8))
        case 2:
            del content[at : at + int(rng.integers(1, 40))]
        case _:
            content[at:at] = rng.bytes(int(rng.integers(1, 9)))


def _flip(content: bytearray, seed: Seed, rng: np.random.Generator) -> None:
    at = int(rng.integers(128, seed.pixels_at))
    if at < len(content):
        content[at] = int(rng.integers(256))


def _element(seed: Seed, rng: np.random.Generator, telling: bool = True) -> Element:
    return rng.choice([e for e in seed.elements if e.is_telling or not telling])


def _flip_telling(content: bytearray, seed: Seed, rng: np.random.Generator) -> None:
    """One bit of the tag, VR, length or value of an element that decides something."""
    element = _element(seed, rng)
    at = int(rng.integers(element.start, min(element.end, element.value + 80)))
    if at < len(content):
        content[at] ^= 1 << int(rng.integers(8))


def _digit(content: bytearray, seed: Seed, rng: np.random.Generator) -> None:
    """Another character in a value: the file stays sound, and says something else."""
    element = _element(seed, rng)
    if element.end - element.value and element.value < seed.pixels_at:
        at = int(rng.integers(element.value, element.end))
        content[at : at + 1] = bytes([rng.choice(list(b"0123456789.-\\ eE_+\0"))])


def _number(content: bytearray, seed: Seed, rng: np.random.Generator) -> None:
    """Another short in a two-byte value."""
    shorts = [e for e in seed.elements if e.is_telling and e.end - e.value == 2]
    element = rng.choice(shorts)
    number = int(rng.choice((0, 1, 2, 8, 11, 12, 13, 15, 16, 17, 32, 63, 64, 65, 255, 2048, 63536, 65535)))
    content[element.value : element.end] = number.to_bytes(2, rng.choice(("little", "big")))


def _swap_tags(content: bytearray, seed: Seed, rng: np.random.Generator) -> None:
    one, other = _element(seed, rng), _element(seed, rng, telling=False)
    a, b = slice(one.start, one.start + 4), slice(other.start, other.start + 4)
    content[a], content[b] = content[b], content[a]


def _copy(content: bytearray, seed: Seed, rng: np.random.Generator) -> None:
    """An element once more, at the place of another."""
    one, other = _element(seed, rng, telling=False), _element(seed, rng, telling=False)
    content[other.start : other.start] = content[one.start : min(one.end, one.value + 80)]


def _cut(content: bytearray, seed: Seed, rng: np.random.Generator) -> None:
    at = int(rng.integers(0, seed.pixels_at))
    del content[at : at + int(rng.integers(1, 40))]


def _insert(content: bytearray, seed: Seed, rng: np.random.Generator) -> None:
    at = int(rng.integers(0, seed.pixels_at))
    content[at:at] = rng.bytes(int(rng.integers(1, 9)))
