"""Deflated files: everything after the file meta information is compressed (PS3.5 A.5)."""

import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final, cast

from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from ich3d.core.issues import IssueCode
from ich3d.dicom.headers.elements import InvalidHeader
from ich3d.dicom.limits import WHOLE_FILE_BYTES, HeaderStream, unpacking_problem
from ich3d.dicom.pydicom_warnings import suppress_pydicom_warnings

_PREFIX_END: Final = 132
_CHUNK_BYTES: Final = 1 << 20

_DEFLATED_UID: Final = DeflatedExplicitVRLittleEndian.encode()
_PLAIN_UID: Final = ExplicitVRLittleEndian.encode().ljust(len(_DEFLATED_UID), b"\0")
"""The UIDs of a deflated and of an inflated file, padded to one length."""


@contextmanager
def inflated(stream: BinaryIO, size: int) -> Iterator[tuple[BinaryIO, int, bool]]:
    """The plain form of a DICOM file: itself, or, where it is deflated, its inflated copy.

    Yields a seekable stream at its beginning, its size in bytes, and whether it was deflated. The
    copy is a file in Explicit VR Little Endian. It lies in memory up to `WHOLE_FILE_BYTES`, else
    in a temporary file.

    Raises:
        InvalidHeader: with TOO_LARGE for a bomb, with UNREADABLE where the data are damaged.
    """
    meta_end = _deflated_from(stream)
    stream.seek(0)
    if meta_end is None:
        yield stream, size, False
        return

    with tempfile.SpooledTemporaryFile(WHOLE_FILE_BYTES, prefix="ich3d-") as plain:
        plain.write(stream.read(meta_end).replace(_DEFLATED_UID, _PLAIN_UID))
        _inflate(stream, size - meta_end, cast(BinaryIO, plain))
        plain_bytes = plain.tell()
        plain.seek(0)
        yield cast(BinaryIO, plain), plain_bytes, True


def _deflated_from(stream: BinaryIO) -> int | None:
    """Byte offset after the file meta information of a deflated file; None for any other file."""
    stream.seek(0)
    if stream.read(_PREFIX_END)[128:] != b"DICM":
        stream.seek(0)  # pydicom reads such a file's group 0002 as well, if there is one

    with suppress_pydicom_warnings():
        meta = read_dataset(
            cast(BinaryIO, HeaderStream(stream)),
            is_implicit_VR=False,
            is_little_endian=True,
            stop_when=_is_data_set,
        )
        is_deflated = meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
    return stream.tell() if is_deflated else None


def _is_data_set(tag: BaseTag, vr: str | None, length: int) -> bool:
    """Whether an element lies behind the file meta information."""
    return tag.group != 2


def _inflate(stream: BinaryIO, packed_bytes: int, plain: BinaryIO) -> None:
    """Append what the rest of `stream` inflates to; no more than a bound is ever inflated."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    start = plain.tell()
    try:
        while not inflater.eof:
            packed = inflater.unconsumed_tail or stream.read(_CHUNK_BYTES)
            if not packed:
                raise InvalidHeader(IssueCode.UNREADABLE, "its deflated part is damaged")
            plain.write(inflater.decompress(packed, _CHUNK_BYTES))
            problem = unpacking_problem(plain.tell() - start, packed_bytes)
            if problem:
                raise InvalidHeader(IssueCode.TOO_LARGE, f"its deflated part {problem}")
    except zlib.error:
        raise InvalidHeader(IssueCode.UNREADABLE, "its deflated part is damaged") from None
