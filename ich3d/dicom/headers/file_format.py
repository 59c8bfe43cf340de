"""Recognize files by their first bytes; names and extensions are not looked at."""

import struct
import zlib
from typing import Final, NamedTuple

from ich3d.dicom.files import ZIP_SIGNATURES

_PREAMBLE_BYTES: Final = 128
_PREFIX: Final = b"DICM"
_HEADER_BYTES: Final = _PREAMBLE_BYTES + len(_PREFIX)
"""A DICOM file begins with 128 bytes for any use and a prefix of four bytes (PS3.10 7.1)."""

_EMPTY_PREAMBLE: Final = bytes(_PREAMBLE_BYTES)
"""The preamble of most writers. It tells a damaged DICOM file from a file of another format."""

_ARCHIVES: Final = {
    "7z": (0, b"7z\xbc\xaf\x27\x1c"),
    "bzip2": (0, b"BZh"),
    "rar": (0, b"Rar!\x1a\x07"),
    "tar": (257, b"ustar"),
    "xz": (0, b"\xfd7zXZ\0"),
    "Zstandard": (0, b"\x28\xb5\x2f\xfd"),
}
"""Archives of other formats, and the offset and the bytes by which they are known."""

_PICTURES: Final = {
    "NIfTI image": (344, b"n+1\0"),
    "NIfTI header": (344, b"ni1\0"),
    "NIfTI-2 image": (4, b"n+2\0"),
    "NRRD image": (0, b"NRRD"),
    "PNG picture": (0, b"\x89PNG\r\n\x1a\n"),
    "JPEG picture": (0, b"\xff\xd8\xff"),
    "TIFF picture": (0, b"II*\0"),
}
"""Image formats other than DICOM, known in the same way."""

_GZIP: Final = b"\x1f\x8b"


class OtherFormat(NamedTuple):
    """What a file is that is not DICOM, in a sentence, and whether there may be DICOM in it."""

    problem: str
    may_hold_dicom: bool


def other_format(start: bytes) -> OtherFormat:
    """Say what a file with these first bytes (512 or more) is, and what to do with it."""
    if start.startswith(_GZIP):
        return _gzip_format(start)
    for name, (offset, magic) in _ARCHIVES.items():
        if start.startswith(magic, offset):
            return OtherFormat(f"an archive ({name}): unpack it and give the folder", True)
    for name, (offset, magic) in _PICTURES.items():
        if start.startswith(magic, offset):
            return OtherFormat(f"a {name}, not DICOM: give the DICOM files of the study", False)
    return OtherFormat("not a DICOM file", False)


def _gzip_format(start: bytes) -> OtherFormat:
    """What a file packed with gzip is, by the first bytes that are in it."""
    try:
        inner = zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(start, 1024)
    except zlib.error:
        return OtherFormat("a damaged gzip file: copy or download it again", True)
    if is_dicom(inner, len(inner)):
        return OtherFormat("a DICOM file packed with gzip: unpack it with gunzip", True)
    inside = other_format(inner)
    return OtherFormat(f"packed with gzip, inside: {inside.problem}", inside.may_hold_dicom)


def is_zip(start: bytes) -> bool:
    """Tell whether a file with these first bytes (132 or more) is a zip.

    A DICOM file may carry a zip signature in its preamble, so the prefix counts more.
    """
    return not _has_prefix(start) and start[:4] in ZIP_SIGNATURES


def is_dicom(start: bytes, size: int) -> bool:
    """Tell whether a file of `size` bytes with these first bytes is a DICOM file.

    It is one if it has the prefix. Without a prefix it is one if it begins like a data set, as
    files from before PS3.10 do: with an element of group 0002 or 0008 that fits into the file.
    """
    return _has_prefix(start) or any(
        _begins_data_set(start, size, byte_order) for byte_order in "<>"
    )


def damaged_dicom_problem(start: bytes, size: int) -> str:
    """Say what is damaged in a file that `is_dicom` refuses although it has an empty preamble.

    Returns an empty string where nothing shows that the file was ever DICOM.
    """
    expected = _EMPTY_PREAMBLE + _PREFIX
    if size < _HEADER_BYTES and expected.startswith(start):
        return "the file ends within its preamble"

    data_set = start[_HEADER_BYTES:]
    if start.startswith(_EMPTY_PREAMBLE) and _begins_data_set(data_set, size, "<"):
        return "the DICM prefix after the preamble is damaged"
    return ""


def _has_prefix(start: bytes) -> bool:
    return start[_PREAMBLE_BYTES:_HEADER_BYTES] == _PREFIX


def _begins_data_set(start: bytes, size: int, byte_order: str) -> bool:
    """Whether the first element is of group 0002 or 0008 and fits into a file of `size` bytes."""
    if len(start) < 8:
        return False
    group, number, length = struct.unpack_from(f"{byte_order}HHI", start)
    if group not in (0x0002, 0x0008) or number > 0x0100:
        return False

    # In explicit VR the four bytes of the length are the VR and a short length.
    vr = start[4:6]
    return length < size or (vr.isalpha() and vr.isupper())
