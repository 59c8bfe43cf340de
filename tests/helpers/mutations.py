"""Small CT series in many encodings, and a seeded way to damage the bytes of their files."""

import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from struct import pack, unpack_from
from typing import TypeVar

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

T = TypeVar("T")

SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEG2000Lossless,
)
PIXEL_DATA = 0x7FE00010
BEFORE_PIXELS = 0.7
"""The share of mutations that hit bytes before PixelData."""

SHARED: dict[str, tuple[str, ...]] = {
    "PixelMeasuresSequence": ("PixelSpacing",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
}
PER_FRAME: dict[str, tuple[str, ...]] = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PixelValueTransformationSequence": ("RescaleIntercept", "RescaleSlope"),
}
"""Functional groups of all frames and of one frame, and their attributes (PS3.3 C.7.6.16.2)."""

DECISIVE = (
    "TransferSyntaxUID", "SOPInstanceUID", "Modality", "PatientID", "SeriesInstanceUID",
    "ImagePositionPatient", "ImageOrientationPatient", "SamplesPerPixel",
    "PhotometricInterpretation", "Rows", "Columns", "PixelSpacing", "BitsAllocated", "BitsStored",
    "HighBit", "PixelRepresentation", "PixelPaddingValue", "RescaleIntercept",
    "RescaleSlope", "PixelData", "NumberOfFrames",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "PlanePositionSequence",
    "PlaneOrientationSequence", "PixelMeasuresSequence", "PixelValueTransformationSequence",
)  # fmt: skip


@dataclass(frozen=True)
class Element:
    """Byte offsets of a data element in its file.

    Tag, VR and length begin at `start`; the value lies from `value` to `end`. `is_decisive` where
    its keyword is one of `DECISIVE`.
    """

    start: int
    value: int
    end: int
    is_decisive: bool


@dataclass(frozen=True)
class Seed:
    """An undamaged file, its data elements, and the offset `pixels_at` of its PixelData.

    In a deflated file the offsets are those of the inflated bytes; `plain` is where these begin.
    """

    content: bytes
    elements: tuple[Element, ...]
    pixels_at: int
    plain: int | None = None

    def open(self) -> bytes:
        """The bytes with all that is deflated inflated: what mutations work on."""
        if self.plain is None:
            return self.content
        return self.content[: self.plain] + zlib.decompress(
            self.content[self.plain :], -zlib.MAX_WBITS
        )

    def close(self, content: bytes) -> bytes:
        """The reverse of `open`: deflate what was deflated."""
        if self.plain is None:
            return content
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return content[: self.plain] + packer.compress(content[self.plain :]) + packer.flush()


def encode(path: Path, syntax: UID) -> Seed:
    """The file at `path` (explicit little endian, 16 bits) in another transfer syntax."""
    ds = pydicom.dcmread(path)
    if syntax == RLELossless:
        ds.compress(RLELossless, generate_instance_uid=False)
    if syntax == JPEG2000Lossless:
        written_syntax, frame = compressed(path, "JPEG2000")
        assert written_syntax == syntax
        ds.PixelData = encapsulate([frame])
        ds["PixelData"].VR = "OB"
        ds["PixelData"].is_undefined_length = True
    return _seed(encoded(ds, syntax), syntax)


def mislabel(seed: Seed, syntax: UID) -> Seed:
    """A seed whose file meta information names another transfer syntax than it is encoded in."""
    (element,) = (e for e in seed.elements if seed.content[e.start : e.start + 4] == b"\2\0\x10\0")
    text = syntax.encode()
    text += b"\0" * (len(text) % 2)
    grown = len(text) - (element.end - element.value)
    content = bytearray(seed.content)
    content[element.value : element.end] = text
    content[element.value - 2 : element.value] = len(text).to_bytes(2, "little")
    (group_length,) = unpack_from("<I", content, 140)
    content[140:144] = (group_length + grown).to_bytes(4, "little")
    moved = [
        Element(e.start + grown, e.value + grown, e.end + grown, e.is_decisive)
        if e.start > element.start
        else e
        for e in seed.elements
    ]
    moved[seed.elements.index(element)] = Element(
        element.start, element.value, element.end + grown, element.is_decisive
    )
    return Seed(bytes(content), tuple(moved), seed.pixels_at + grown)


def without_delimiter(seed: Seed) -> Seed:
    """A seed of compressed pixels that ends before its sequence delimiter."""
    return Seed(seed.content[:-8], seed.elements, seed.pixels_at)


def with_excess(path: Path) -> Seed:
    """The file at `path` in RLE, each segment a byte too long."""
    seed = encode(path, RLELossless)
    ds = pydicom.dcmread(BytesIO(seed.content))
    frame = next(generate_frames(ds.PixelData, number_of_frames=1))
    count, *offsets = unpack_from("<16L", frame)
    ends = [*offsets[1:count], len(frame)]
    segments = [
        frame[start:end] + b"\0\0" for start, end in zip(offsets[:count], ends, strict=True)
    ]
    starts = [64 + sum(map(len, segments[:k])) for k in range(count)]
    header = pack("<16L", count, *starts, *[0] * (15 - count))
    ds.PixelData = encapsulate([header + b"".join(segments)])
    out = BytesIO()
    ds.save_as(out)
    return _seed(out.getvalue(), RLELossless)


def encode_together(paths: list[Path]) -> Seed:
    """One Enhanced CT file whose frames are the slices at `paths`, each with its own groups."""
    slices = [pydicom.dcmread(path) for path in paths]
    ds = pydicom.dcmread(paths[0])
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    ds.NumberOfFrames = len(slices)
    ds.SharedFunctionalGroupsSequence = [_groups(ds, SHARED)]
    ds.PerFrameFunctionalGroupsSequence = [_groups(ds_slice, PER_FRAME) for ds_slice in slices]
    for keyword in (
        "PixelSpacing",
        "ImageOrientationPatient",
        "ImagePositionPatient",
        "RescaleSlope",
    ):
        del ds[keyword]
    del ds.RescaleIntercept
    ds.PixelData = b"".join(ds_slice.PixelData for ds_slice in slices)
    return _seed(encoded(ds, ExplicitVRLittleEndian), ExplicitVRLittleEndian)


def _groups(ds: Dataset, macros: dict[str, tuple[str, ...]]) -> Dataset:
    """The attributes of a slice as functional groups."""
    groups = Dataset()
    for macro, keywords in macros.items():
        group = Dataset()
        for keyword in keywords:
            group[keyword] = ds[keyword]
        setattr(groups, macro, Items([group]))
    return groups


def compressed(path: Path, name: str) -> tuple[str, bytes]:
    """The transfer syntax and the frame that ITK makes of the pixels of a file."""
    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder) / "packed"
        writer = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.UseCompressionOn()
        writer.SetCompressor(name)
        writer.SetFileName(str(packed))
        writer.Execute(sitk.ReadImage(str(path)))
        ds = pydicom.dcmread(packed)
    return ds.file_meta.TransferSyntaxUID, next(generate_frames(ds.PixelData, number_of_frames=1))


def encoded(ds: FileDataset, syntax: UID) -> bytes:
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
    content: bytes,
    at: int,
    implicit: bool,
    little: bool,
    group: int | None = None,
    end: int | None = None,
) -> Iterator[Element]:
    """The elements of an undamaged file, up to PixelData or to the end of `group`.

    A sequence is followed by the elements of its items; only files of explicit VR may hold one.
    """
    order = "<" if little else ">"
    tag = 0
    while tag != PIXEL_DATA and at < (len(content) if end is None else end):
        element_group, number = unpack_from(f"{order}HH", content, at)
        if group not in (None, element_group):
            return
        tag = element_group << 16 | number
        vr = content[at + 4 : at + 6]
        if implicit or vr in (b"OB", b"OW", b"SQ"):
            value = at + (8 if implicit else 12)
            (length,) = unpack_from(f"{order}I", content, value - 4)
        else:
            value = at + 8
            (length,) = unpack_from(f"{order}H", content, at + 6)
        is_decisive = pydicom.datadict.keyword_for_tag(tag) in DECISIVE
        at_end = min(value + length, len(content))
        if vr == b"SQ" and not implicit:
            yield Element(at, value, value, is_decisive)
            yield from _items(content, value, at_end)
        else:
            yield Element(at, value, at_end, is_decisive)
        at = at_end


def _items(content: bytes, at: int, end: int) -> Iterator[Element]:
    """The elements of a sequence's items: explicit little endian, lengths known (PS3.5 7.5)."""
    while at < end:
        (length,) = unpack_from("<I", content, at + 4)
        yield from _elements(content, at + 8, implicit=False, little=True, end=at + 8 + length)
        at += 8 + length


def mutate(seed: Seed, rng: np.random.Generator) -> bytes:
    """The bytes of `seed` after one to three mutations."""
    content = bytearray(seed.open())
    in_header = rng.random() < BEFORE_PIXELS
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if in_header:
            _pick(MUTATIONS, rng)(content, seed, rng)
        else:
            low = min(seed.pixels_at, len(content) - 1)
            _damage(content, int(rng.integers(low, len(content))), rng)
    if rng.random() < 0.1:
        place = rng.integers(0, seed.pixels_at) if in_header else rng.integers(0, len(content))
        del content[int(place) :]
    return seed.close(bytes(content))


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """The bytes of any file after one mutation."""
    changed = bytearray(content)
    _damage(changed, int(rng.integers(len(changed))), rng)
    return bytes(changed)


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


def _element(seed: Seed, rng: np.random.Generator, decisive_only: bool = True) -> Element:
    return _pick([e for e in seed.elements if e.is_decisive or not decisive_only], rng)


def _flip_decisive(content: bytearray, seed: Seed, rng: np.random.Generator) -> None:
    """One bit of the tag, VR, length or value of an element that decides something."""
    element = _element(seed, rng)
    at = int(rng.integers(element.start, min(element.end, element.value + 80)))
    if at < len(content):
        content[at] ^= 1 << int(rng.integers(8))


def _digit(content: bytearray, seed: Seed, rng: np.random.Generator) -> None:
    """Replace a character of a value: the file stays readable, but its content changes."""
    element = _element(seed, rng)
    if element.end - element.value and element.value < seed.pixels_at:
        at = int(rng.integers(element.value, element.end))
        content[at : at + 1] = bytes([rng.choice(list(b"0123456789.-\\ eE_+\0"))])


def _number(content: bytearray, seed: Seed, rng: np.random.Generator) -> None:
    """Replace a two-byte value by another number."""
    shorts = [e for e in seed.elements if e.is_decisive and e.end - e.value == 2]
    element = _pick(shorts, rng)
    number = int(
        rng.choice((0, 1, 2, 8, 11, 12, 13, 15, 16, 17, 32, 63, 64, 65, 255, 2048, 63536, 65535))
    )
    content[element.value : element.end] = number.to_bytes(2, rng.choice(("little", "big")))


def _swap_tags(content: bytearray, seed: Seed, rng: np.random.Generator) -> None:
    first, second = _element(seed, rng), _element(seed, rng, decisive_only=False)
    a, b = slice(first.start, first.start + 4), slice(second.start, second.start + 4)
    content[a], content[b] = content[b], content[a]


def _copy(content: bytearray, seed: Seed, rng: np.random.Generator) -> None:
    """Insert a copy of one element before another."""
    source = _element(seed, rng, decisive_only=False)
    target = _element(seed, rng, decisive_only=False)
    content[target.start : target.start] = content[
        source.start : min(source.end, source.value + 80)
    ]


def _cut(content: bytearray, seed: Seed, rng: np.random.Generator) -> None:
    at = int(rng.integers(0, seed.pixels_at))
    del content[at : at + int(rng.integers(1, 40))]


def _insert(content: bytearray, seed: Seed, rng: np.random.Generator) -> None:
    at = int(rng.integers(0, seed.pixels_at))
    content[at:at] = rng.bytes(int(rng.integers(1, 9)))


def _size(content: bytearray, seed: Seed, rng: np.random.Generator) -> None:
    """Declare a huge size: in Rows or Columns, or as the length of an element."""
    huge = int(rng.choice((0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE)))
    if rng.random() < 0.5:
        shorts = [e for e in seed.elements if e.is_decisive and e.end - e.value == 2]
        element = _pick(shorts, rng)
        content[element.value : element.end] = (huge & 0xFFFF).to_bytes(2, "little")
    else:
        element = _element(seed, rng, decisive_only=False)
        width = min(4, element.value - element.start - 4)
        content[element.value - width : element.value] = huge.to_bytes(4, "little")[:width]


MUTATIONS = (
    _flip,
    _flip_decisive,
    _digit,
    _digit,
    _number,
    _size,
    _swap_tags,
    _copy,
    _cut,
    _insert,
)
"""Ways to damage a header; `_digit` twice, because it finds the most."""


def _pick(choices: Sequence[T], rng: np.random.Generator) -> T:
    """One of `choices`, each as likely."""
    return choices[int(rng.integers(len(choices)))]
