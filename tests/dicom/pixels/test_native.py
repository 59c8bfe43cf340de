"""Native frames are read as pydicom reads them, or left to pydicom."""

import warnings
from collections.abc import Callable
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from ich3d.core.types import Volume
from ich3d.dicom.index import index
from ich3d.dicom.pixels.native import native_frame
from ich3d.dicom.volume import load_volume
from ich3d.dicom.write import SeriesToWrite, write_series
from tests.helpers.mutations import encoded
from tests.helpers.pixels import WriteStack

BUNDLED = Path(str(get_testdata_file("CT_small.dcm", download=False))).parent
StoredImage = tuple[dict[str, int], list[int], str, str]
"""Attributes, pixel cells, RescaleSlope and RescaleIntercept of an image."""

NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)


def agrees(content: bytes) -> bool:
    """Whether `native_frame` takes the file; if so, pydicom must see the same."""
    frame = native_frame(content)
    if frame is None:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = pydicom.dcmread(BytesIO(content))
        expected = ds.pixel_array
    assert np.array_equal(frame.cells, expected.view("u2"))
    assert frame.high_bit == ds.get("HighBit")
    given = (ds.get("PixelPaddingValue"), ds.get("PixelPaddingRangeLimit"))
    assert frame.padding == tuple(
        value for value in given if value is not None and given[0] is not None
    )
    return True


def test_the_files_in_pydicom_are_read_as_pydicom_reads_them() -> None:
    taken = [path.name for path in sorted(BUNDLED.rglob("*.dcm")) if agrees(path.read_bytes())]
    assert {"CT_small.dcm", "MR_small.dcm", "MR_small_implicit.dcm"} <= set(taken)


def variant(path: Path, syntax: UID = ExplicitVRLittleEndian, **values: object) -> bytes:
    ds = pydicom.dcmread(path)
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return encoded(ds, syntax)


def nested() -> Sequence:
    inner, outer = Dataset(), Dataset()
    inner.CodeValue = "x"
    inner.is_undefined_length_sequence_item = True
    outer.PurposeOfReferenceCodeSequence = Sequence([inner, Dataset()])
    outer["PurposeOfReferenceCodeSequence"].is_undefined_length = True
    outer.is_undefined_length_sequence_item = True
    return Sequence([outer, inner])


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("undefined", [True, False])
def test_sequences_are_passed_over(write_stack: WriteStack, syntax: UID, undefined: bool) -> None:
    (path,) = write_stack(n=1)
    ds = pydicom.dcmread(path)
    ds.ReferencedImageSequence = nested()
    ds["ReferencedImageSequence"].is_undefined_length = undefined
    ds.save_as(path)
    assert agrees(variant(path, syntax))


def elements_of(content: bytes) -> tuple[bytes, bytes]:
    """A file before and from its first element of group 0008."""
    at = content.index(b"\x08\x00\x08\x00CS")
    return content[:at], content[at:]


def test_whatever_is_unusual_is_left_to_pydicom(write_stack: WriteStack) -> None:
    (path,) = write_stack(n=1)
    plain = path.read_bytes()
    head, rest = elements_of(plain)
    assert agrees(plain)
    twice = head + b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100" * 2 + rest
    unusual = {
        "no preamble": plain[132:],
        "no file meta": plain[:132] + rest,
        "big endian": variant(path, ExplicitVRBigEndian),
        "deflated": variant(path, DeflatedExplicitVRLittleEndian),
        "explicit called implicit": plain.replace(
            b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2\0\0\0", 1
        ),
        "implicit called explicit": variant(path, ImplicitVRLittleEndian).replace(
            b"\x12\x001.2.840.10008.1.2\0", b"\x14\x001.2.840.10008.1.2.1\0", 1
        ),
        "an element twice": twice,
        "an unknown VR": plain.replace(b"\x08\x00\x60\x00CS", b"\x08\x00\x60\x00ZZ"),
        "8 bits": variant(path, BitsAllocated=8, BitsStored=8, HighBit=7, PixelData=bytes(256)),
        "two frames": variant(path, NumberOfFrames=2),
        "more pixels than rows": variant(path, Rows=15),
        "cut": plain[:-1],
        "no pixels": plain[: plain.index(b"\xe0\x7f\x10\x00")],
        "nothing": b"",
    }
    assert [name for name, content in unusual.items() if native_frame(content) is not None] == []


def test_a_file_nested_without_end_is_left_to_pydicom(write_stack: WriteStack) -> None:
    (path,) = write_stack(n=1)
    head, rest = elements_of(path.read_bytes())
    deep = b"\x08\x00\x05\x00SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 5000
    assert native_frame(head + deep + rest) is None


@st.composite
def stored_images(draw: st.DrawFn) -> StoredImage:
    """A 16-bit image of 3 x 4 pixel cells, with a rescale that is whole or has a few decimals."""
    bits = draw(st.sampled_from([1, 8, 11, 12, 12, 13, 16, 16, 16]))
    attributes = {
        "BitsStored": bits,
        "HighBit": draw(st.sampled_from([bits - 1, bits - 1, 15])),
        "PixelRepresentation": draw(st.integers(0, 1)),
    }
    cells = draw(st.lists(st.integers(0, 0xFFFF), min_size=12, max_size=12))
    if draw(st.booleans()):
        attributes["PixelPaddingValue"] = draw(st.sampled_from(cells))
        if draw(st.booleans()):
            attributes["PixelPaddingRangeLimit"] = draw(st.integers(0, 0xFFFF))
    whole = st.integers(-3, 3).filter(bool).map(str)
    slope = draw(
        st.one_of(st.just("1"), whole, st.sampled_from(["0.5", "1.25", "-0.001", "40000"]))
    )
    intercept = draw(
        st.one_of(st.integers(-70000, 70000).map(str), st.sampled_from(["-1024", "0.5", "0.25"]))
    )
    if (attributes["PixelRepresentation"], slope) == (0, "1"):
        # Else it may be taken for wrapped, which has its own tests.
        intercept = "-1024" if bits == 12 else intercept
        cells = [cell & 0x7FFF for cell in cells] if bits == 16 else cells
    return attributes, cells, slope, intercept


def by_the_rule(attributes: dict[str, int], cell: int, slope: str, intercept: str) -> int:
    """One pixel's HU in whole numbers and fractions."""
    bits = attributes["BitsStored"]
    signed = attributes["PixelRepresentation"]
    stored = cell >> (attributes["HighBit"] + 1 - bits) & ((1 << bits) - 1)
    if signed and stored >> (bits - 1):
        stored -= 1 << bits
    ends = [
        attributes[key]
        for key in ("PixelPaddingValue", "PixelPaddingRangeLimit")
        if key in attributes
    ]
    if signed:
        ends = [end - 0x10000 if end >> 15 else end for end in ends]
    hu = stored * Fraction(slope) + Fraction(intercept)
    is_padding = round(hu) < (-1999 if ends else -1024)
    if ends:
        body = [round((hu - float(intercept)) / float(slope)) for hu in (-100, 0, 40, 1000)]
        if any(is_between(value, ends) for value in body):
            ends = ends[:1]
        is_padding |= any(is_between(value, ends) for value in (cell, stored))
    return -1024 if is_padding else min(round(hu), 32767)


def is_between(value: int, ends: list[int]) -> bool:
    """Whether a value lies in a range, both its ends included, modulo 16 bits."""
    return (value - min(ends)) % 0x10000 <= (max(ends) - min(ends)) % 0x10000


@pytest.fixture(scope="module")
def blank(
    make_stack: Callable[..., SeriesToWrite], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    (path,) = write_series(make_stack(n=1), tmp_path_factory.mktemp("rule"))
    return path


@settings(max_examples=80)
@given(stored_images(), st.sampled_from(NATIVE))
def test_every_rescale_and_bit_layout_follows_the_rule(
    blank: Path, image: StoredImage, syntax: UID
) -> None:
    attributes, cells, slope, intercept = image
    signed = attributes["PixelRepresentation"]
    ds = pydicom.dcmread(blank)
    ds.Rows, ds.Columns, ds.RescaleSlope, ds.RescaleIntercept = 3, 4, slope, intercept
    for keyword, value in attributes.items():
        if keyword.startswith("PixelPadding"):  # US or SS, as the pixels are
            ds.add_new(keyword, "SS" if signed else "US", value - (value >> 15 << 16) * signed)
        else:
            setattr(ds, keyword, value)
    # Unused bits are declared to hold an overlay, else one value there may be taken for a fill.
    ds.add_new(0x60000102, "US", 15)
    ds.PixelData = np.array(cells, "<u2").tobytes()
    path = blank.with_name("image")
    path.write_bytes(encoded(ds, syntax))
    assert (native_frame(path.read_bytes()) is not None) == (syntax != ExplicitVRBigEndian)
    (series,) = index(path).series
    volume = load_volume(series)
    assert isinstance(volume, Volume)
    expected = [by_the_rule(attributes, cell, slope, intercept) for cell in cells]
    assert volume.hu.ravel().tolist() == expected
