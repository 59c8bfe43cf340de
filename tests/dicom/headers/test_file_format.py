"""Formats are recognized by the first bytes of a file."""

import gzip
from pathlib import Path

import pytest

from ich3d.dicom.headers.file_format import (
    damaged_dicom_problem,
    is_dicom,
    is_zip,
    other_format,
)
from ich3d.dicom.write import write_series
from tests.helpers.series import stack

ZIP_START = b"PK\x03\x04" + bytes(200)
PREFIXED = bytes(128) + b"DICM" + bytes(100)


@pytest.fixture
def ct_file(tmp_path: Path) -> bytes:
    """The bytes of a CT slice."""
    (path,) = write_series(stack(n=1), tmp_path)
    return path.read_bytes()


def without_preamble(content: bytes) -> bytes:
    """The data set of a file, from ImageType (0008,0008) on."""
    return content[content.index(b"\x08\x00\x08\x00CS") :]


def test_a_zip_is_known_by_its_signature() -> None:
    assert is_zip(ZIP_START)
    assert is_zip(b"PK\x05\x06" + bytes(18))
    assert not is_zip(b"PK\x01\x02" + bytes(200))
    assert not is_zip(PREFIXED)


def test_a_dicom_file_may_have_a_zip_signature_in_its_preamble() -> None:
    start = ZIP_START[:128] + PREFIXED[128:]
    assert not is_zip(start)
    assert is_dicom(start, len(start))


def test_a_dicom_file_is_known_by_its_prefix_or_by_its_first_element(ct_file: bytes) -> None:
    assert is_dicom(ct_file, len(ct_file))
    assert is_dicom(PREFIXED, len(PREFIXED))
    data_set = without_preamble(ct_file)
    assert is_dicom(data_set, len(data_set))
    assert is_dicom(data_set[:8], 8)


@pytest.mark.parametrize(
    "content",
    [
        b"x",
        b"\n",
        b"plain text " * 20,
        b"II*\0" + bytes(100),
        bytes(60) + b"x",
        bytes(132),
        bytes(4000),
    ],
)
def test_another_file_is_neither_dicom_nor_a_damaged_one(content: bytes) -> None:
    """A file of zeros that is longer than a preamble lacks the prefix: it is something else."""
    assert not is_dicom(content, len(content))
    assert damaged_dicom_problem(content, len(content)) == ""


@pytest.mark.parametrize("length", [1, 127, 128, 129, 131])
def test_a_file_may_end_within_its_preamble(ct_file: bytes, length: int) -> None:
    start = ct_file[:length]
    assert not is_dicom(start, length)
    assert damaged_dicom_problem(start, length) == "the file ends within its preamble"


NIFTI = bytes(344) + b"n+1\0" + bytes(200)
TAR = bytes(257) + b"ustar\x0000" + bytes(300)


@pytest.mark.parametrize(
    ("content", "sentence", "may_hold_dicom"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(300), "a PNG picture, not DICOM: give the DICOM", False),
        (b"\xff\xd8\xff\xe0" + bytes(300), "a JPEG picture, not DICOM: give the DICOM", False),
        (NIFTI, "a NIfTI image, not DICOM: give the DICOM files of the study", False),
        (
            gzip.compress(NIFTI, mtime=0),
            "packed with gzip, inside: a NIfTI image, not DICOM",
            False,
        ),
        (
            gzip.compress(b"text " * 99, mtime=0),
            "packed with gzip, inside: not a DICOM file",
            False,
        ),
        (
            gzip.compress(TAR, mtime=0),
            "packed with gzip, inside: an archive (tar): unpack it",
            True,
        ),
        (TAR, "an archive (tar): unpack it and give the folder", True),
        (b"7z\xbc\xaf\x27\x1c" + bytes(300), "an archive (7z): unpack it and give", True),
        (b"\x1f\x8b" + b"\xff" * 300, "a damaged gzip file: copy or download it again", True),
        (b"plain text " * 50, "not a DICOM file", False),
    ],
)
def test_a_file_of_another_format_says_what_it_is_and_what_to_do(
    content: bytes, sentence: str, may_hold_dicom: bool
) -> None:
    other = other_format(content)
    assert other.problem.startswith(sentence)
    assert other.may_hold_dicom == may_hold_dicom


def test_dicom_that_is_packed_with_gzip_is_known(ct_file: bytes) -> None:
    for level in (1, 9):
        other = other_format(gzip.compress(ct_file, level)[:8192])
        assert other.problem == "a DICOM file packed with gzip: unpack it with gunzip"
        assert other.may_hold_dicom


def test_the_prefix_may_be_damaged(ct_file: bytes) -> None:
    start = ct_file.replace(b"DICM", b"DIKM", 1)
    assert not is_dicom(start, len(start))
    problem = damaged_dicom_problem(start, len(start))
    assert problem == "the DICM prefix after the preamble is damaged"
