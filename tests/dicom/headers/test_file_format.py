"""Formats are recognized by the first bytes of a file."""

from pathlib import Path

import pytest

from ich3d.dicom.headers.file_format import damaged_dicom_problem, is_dicom, is_zip
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


def test_the_prefix_may_be_damaged(ct_file: bytes) -> None:
    start = ct_file.replace(b"DICM", b"DIKM", 1)
    assert not is_dicom(start, len(start))
    problem = damaged_dicom_problem(start, len(start))
    assert problem == "the DICM prefix after the preamble is damaged"
