"""The scanner finds the elements of ordinary files and refuses all others."""

import struct
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from ich3d.dicom.headers.element_scanner import (
    UNDEFINED_LENGTH,
    UnusualFile,
    Value,
    scan_elements,
)
from ich3d.dicom.write import write_series
from tests.helpers.series import stack

MODALITY = 0x00080060
ROWS = 0x00280010
PREAMBLE = bytes(128) + b"DICM"


def explicit(tag: int, vr: bytes, value: bytes) -> bytes:
    """An element in explicit VR little endian."""
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    if vr in (b"OW", b"SQ"):
        return head + struct.pack("<xxI", len(value)) + value
    return head + struct.pack("<H", len(value)) + value


def implicit(tag: int, value: bytes, length: int | None = None) -> bytes:
    """An element in implicit VR little endian; `length` replaces that of the value."""
    n_bytes = len(value) if length is None else length
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, n_bytes) + value


def header(syntax: str) -> bytes:
    """Preamble and file meta information."""
    return PREAMBLE + explicit(0x00020010, b"UI", syntax.encode() + b"\0" * (len(syntax) % 2))


PIXELS = explicit(0x7FE00010, b"OW", bytes(4))
EXPLICIT_CT = header(ExplicitVRLittleEndian) + explicit(MODALITY, b"CS", b"CT") + PIXELS


def test_wanted_elements_and_the_place_of_pixel_data_are_found() -> None:
    scanned = scan_elements(EXPLICIT_CT, {MODALITY, ROWS})
    assert scanned.transfer_syntax == ExplicitVRLittleEndian
    assert scanned.values[MODALITY] == Value(b"CS", b"CT")
    assert ROWS not in scanned.values
    assert (scanned.pixel_data_offset, scanned.pixel_data_length) == (len(EXPLICIT_CT) - 4, 4)


def test_elements_that_are_not_wanted_are_passed_over() -> None:
    assert MODALITY not in scan_elements(EXPLICIT_CT, {ROWS}).values


def test_the_header_alone_is_enough(tmp_path: Path) -> None:
    (path,) = write_series(stack(n=1), tmp_path)
    content = path.read_bytes()
    offset = len(content) - 2 * 16 * 16
    scanned = scan_elements(content[:offset], {ROWS})
    assert scanned.values[ROWS] == Value(b"US", (16).to_bytes(2, "little"))
    assert (scanned.pixel_data_offset, scanned.pixel_data_length) == (offset, 2 * 16 * 16)


def test_sequences_of_undefined_length_are_passed_over() -> None:
    """A sequence with one item, both of undefined length (PS3.5 7.5)."""
    inner = implicit(MODALITY, b"MR") + implicit(0xFFFEE00D, b"")
    items = implicit(0xFFFEE000, inner, UNDEFINED_LENGTH) + implicit(0xFFFEE0DD, b"")
    content = (
        header(ImplicitVRLittleEndian)
        + implicit(0x00081140, items, UNDEFINED_LENGTH)
        + implicit(ROWS, b"\x10\0")
        + implicit(0x7FE00010, bytes(4))
    )
    scanned = scan_elements(content, {MODALITY, ROWS})
    assert scanned.values[ROWS] == Value(b"", b"\x10\0")
    assert MODALITY not in scanned.values


@pytest.mark.parametrize(
    "content",
    [
        b"",
        PREAMBLE,
        EXPLICIT_CT[:-10],
        EXPLICIT_CT.replace(b"DICM", b"DIKM"),
        EXPLICIT_CT.replace(b"CS", b"XX"),
        header("1.2.840.10008.1.2.2") + PIXELS,
        header("1.2.840.10008.1.2.\t") + PIXELS,
        header(ImplicitVRLittleEndian) + explicit(MODALITY, b"CS", b"CT") + PIXELS,
        header(ExplicitVRLittleEndian) + explicit(ROWS, b"US", b"\1\0") * 2 + PIXELS,
        header(ExplicitVRLittleEndian) + explicit(0x7FE00009, b"OW", b""),
    ],
    ids=[
        "empty",
        "no file meta information",
        "cut in PixelData's element",
        "no prefix",
        "unknown VR",
        "big endian",
        "a damaged transfer syntax",
        "explicit elements in an implicit file",
        "tags that do not ascend",
        "no PixelData",
    ],
)
def test_unusual_files_are_left_to_pydicom(content: bytes) -> None:
    with pytest.raises(UnusualFile):
        scan_elements(content, {MODALITY, ROWS})


def test_items_that_nest_without_end_are_unusual() -> None:
    sequence = implicit(0x00081140, b"", UNDEFINED_LENGTH)
    item = implicit(0xFFFEE000, b"", UNDEFINED_LENGTH)
    content = header(ImplicitVRLittleEndian) + (sequence + item) * 2000
    with pytest.raises(UnusualFile):
        scan_elements(content, {ROWS})
