"""Small CT series in many encodings, and a seeded way to damage the bytes of their files."""

import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from struct import unpack_from

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset
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

SHARED = {
    "PixelMeasuresSequence": ("PixelSpacing",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
}
OWN = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PixelValueTransformationSequence": ("RescaleIntercept", "RescaleSlope"),
}
"""The functional groups of a multi-frame file and of each frame, and what they hold (PS3.3 C.7.6.16.2)."""

TELLING = (
    "TransferSyntaxUID", "SOPInstanceUID", "Modality", "PatientID", "SeriesInstanceUID",
    "ImagePositionPatient", "ImageOrientationPatient", "SamplesPerPixel", "PhotometricInterpretation",
    "Rows", "Columns", "PixelSpacing", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "PixelPaddingValue", "RescaleIntercept", "RescaleSlope", "PixelData", "NumberOfFrames",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "PlanePositionSequence",
    "PlaneOrientationSequence", "PixelMeasuresSequence", "PixelValueTransformationSequence",
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
        return self.content[: self.plain] + zlib.decompress(
            self.content[self.plain :], -zlib.MAX_WBITS
        )

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
    if syntax == JPEG2000Lossless:
        made, frame = compressed(path, "JPEG2000")
        assert made == syntax
        ds.PixelData = encapsulate([frame])
        ds["PixelData"].VR = "OB"
        ds["PixelData"].is_undefined_length = True
    return _seed(encoded(ds, syntax), syntax)


def encode_together(paths: list[Path]) -> Seed:
    """The slices at `paths` as the frames of one Enhanced CT file, each with functional groups of its own."""
    slices = [pydicom.dcmread(path) for path in paths]
    ds = pydicom.dcmread(paths[0])
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    ds.NumberOfFrames = len(slices)
    ds.SharedFunctionalGroupsSequence = [_groups(ds, SHARED)]
    ds.PerFrameFunctionalGroupsSequence = [_groups(one, OWN) for one in slices]
    for keyword in (
        "PixelSpacing",
        "ImageOrientationPatient",
        "ImagePositionPatient",
        "RescaleSlope",
    ):
        del ds[keyword]
    del ds.RescaleIntercept
    ds.PixelData = b"".join(one.PixelData for one in slices)
    return _seed(encoded(ds, ExplicitVRLittleEndian), ExplicitVRLittleEndian)


def _groups(ds: Dataset, macros: dict[str, tuple[str, ...]]) -> Dataset:
    """The attributes of a slice as functional groups."""
    groups = Dataset()
    for macro, keywords in macros.items():
        item = Dataset()
        for keyword in keywords:
            item[keyword] = ds[keyword]
        setattr(groups, macro, Items([item]))
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
    content: bytes,
    at: int,
    implicit: bool,
    little: bool,
    group: int | None = None,
    end: int | None = None,
) -> Iterator[Element]:
    """The elements of a sound file, up to PixelData or to the end of `group`; sequences, which only an
    explicit one may have, with the elements of their items after them."""
    order = "<" if little else ">"
    tag = 0
    while tag != PIXEL_DATA and at < (len(content) if end is None else end):
        found, element = unpack_from(f"{order}HH", content, at)
        if group not in (None, found):
            return
        tag = found << 16 | element
        vr = content[at + 4 : at + 6]
        if implicit or vr in (b"OB", b"OW", b"SQ"):
            value = at + (8 if implicit else 12)
            (length,) = unpack_from(f"{order}I", content, value - 4)
        else:
            value = at + 8
            (length,) = unpack_from(f"{order}H", content, at + 6)
        is_telling = pydicom.datadict.keyword_for_tag(tag) in TELLING
        at_end = min(value + length, len(content))
        if vr == b"SQ" and not implicit:
            yield Element(at, value, value, is_telling)
            yield from _items(content, value, at_end)
        else:
            yield Element(at, value, at_end, is_telling)
        at = at_end


def _items(content: bytes, at: int, end: int) -> Iterator[Element]:
    """The elements of the items of an explicit little-endian sequence, all of known lengths (PS3.5 7.5)."""
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
    number = int(
        rng.choice((0, 1, 2, 8, 11, 12, 13, 15, 16, 17, 32, 63, 64, 65, 255, 2048, 63536, 65535))
    )
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
