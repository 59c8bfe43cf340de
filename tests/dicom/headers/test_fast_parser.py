"""The fast parser agrees with pydicom, or leaves the file to it."""

from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from ich3d.dicom.headers.elements import TAGS, Elements
from ich3d.dicom.headers.fast_parser import fast_parse
from ich3d.dicom.headers.pydicom_parser import parse_with_pydicom
from ich3d.dicom.write import write_series
from tests.helpers.mutations import encoded
from tests.helpers.series import edit, stack

PYDICOM_FILES = Path(str(get_testdata_file("CT_small.dcm", download=False))).parent
FAST_SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)


def is_parsed_fast(content: bytes) -> bool:
    """Whether the fast parser accepts a file; if so, it must agree with pydicom."""
    elements = fast_parse(content[:8192])
    if elements is None:
        return False
    assert comparable(elements) == comparable(parse_with_pydicom(BytesIO(content)))
    return True


def comparable(elements: Elements) -> dict[str, object]:
    """All that is read from a header; the SOP class as it is used, wherever it stands."""
    values = {key: elements.values.get(key) for key in TAGS if key != "MediaStorageSOPClassUID"}
    return {
        **values,
        "patient": elements.patient_id,
        "class": elements.sop_class,
        "syntax": elements.transfer_syntax,
        "byte order": elements.byte_order,
        "pixels": (elements.pixel_data_offset, elements.pixel_data_length),
        "frames": elements.frames,
    }


def ct_file(folder: Path, syntax: UID) -> bytes:
    """A CT slice in another transfer syntax."""
    (path,) = write_series(stack(n=1), folder)
    return encoded(pydicom.dcmread(path), syntax)


@pytest.mark.parametrize("syntax", FAST_SYNTAXES)
def test_ordinary_headers_are_parsed_fast(tmp_path: Path, syntax: UID) -> None:
    assert is_parsed_fast(ct_file(tmp_path, syntax))


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_other_encodings_are_left_to_pydicom(tmp_path: Path, syntax: UID) -> None:
    assert not is_parsed_fast(ct_file(tmp_path, syntax))


@pytest.mark.filterwarnings("ignore")  # pydicom warns about odd values of its own files
def test_both_parsers_agree_on_the_files_in_pydicom() -> None:
    paths = sorted(PYDICOM_FILES.rglob("*.dcm"))
    fast = {path.name for path in paths if is_parsed_fast(path.read_bytes())}
    assert {"CT_small.dcm", "693_J2KI.dcm", "MR_small_implicit.dcm"} <= fast


def test_a_patient_id_in_another_alphabet_is_left_to_pydicom(tmp_path: Path) -> None:
    (path,) = write_series(stack(n=1), tmp_path)
    edit(path, SpecificCharacterSet="ISO_IR 192", PatientID="Пациент")
    assert not is_parsed_fast(path.read_bytes())


@pytest.mark.parametrize(
    "tag_and_vr", [b"\x02\0\x02\0UI", b"\x10\0\x20\0LO"], ids=["SOP class", "patient"]
)
def test_a_text_with_the_vr_of_a_number_is_left_to_pydicom(
    tmp_path: Path, tag_and_vr: bytes
) -> None:
    (path,) = write_series(stack(n=1), tmp_path)
    content = path.read_bytes()
    assert fast_parse(content) is not None
    assert fast_parse(content.replace(tag_and_vr, tag_and_vr[:4] + b"UL", 1)) is None


@pytest.fixture(scope="module")
def ordinary_files(tmp_path_factory: pytest.TempPathFactory) -> dict[UID, bytes]:
    """A file in each transfer syntax that the fast parser reads."""
    folder = tmp_path_factory.mktemp("ordinary")
    return {syntax: ct_file(folder, syntax) for syntax in FAST_SYNTAXES}


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=300)
@given(data=st.data(), syntax=st.sampled_from(FAST_SYNTAXES))
def test_both_parsers_agree_on_damaged_headers(
    ordinary_files: dict[UID, bytes], data: st.DataObject, syntax: UID
) -> None:
    """Bytes before the pixels are changed, cut out and inserted."""
    content = bytearray(ordinary_files[syntax])
    for _ in range(data.draw(st.integers(1, 3))):
        damage(content, data)

    try:
        parse_with_pydicom(BytesIO(content))
    except Exception:
        assert fast_parse(bytes(content)) is None
    else:
        is_parsed_fast(bytes(content))


def damage(content: bytearray, data: st.DataObject) -> None:
    """Change one byte of the header, or remove or insert up to eight."""
    at = data.draw(st.integers(128, len(content) - 513))
    match data.draw(st.sampled_from(["change", "remove", "insert"])):
        case "change":
            content[at] = data.draw(st.integers(0, 255))
        case "remove":
            del content[at : at + data.draw(st.integers(1, 8))]
        case _:
            content[at:at] = data.draw(st.binary(min_size=1, max_size=8))
