"""The short way to a header says what pydicom says, or nothing."""

from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from ich3d.dicom.headers.elements import TAGS, Elements
from ich3d.dicom.headers.fast_parser import fast_parse
from ich3d.dicom.headers.pydicom_parser import parse_with_pydicom
from ich3d.dicom.write import write_series

BUNDLED = Path(str(get_testdata_file("CT_small.dcm", download=False))).parent


def agrees(content: bytes) -> bool:
    """Whether the short way is taken; then it must agree with the long one."""
    short = fast_parse(content[:8192])
    if short is None:
        return False
    assert told(short) == told(parse_with_pydicom(BytesIO(content)))
    return True


def told(elements: Elements) -> dict[str, object]:
    values = {key: elements.values.get(key) for key in TAGS if key != "MediaStorageSOPClassUID"}
    return {
        **values,
        "patient": elements.patient_id,
        "class": elements.sop_class,
        "syntax": elements.transfer_syntax,
        "order": elements.order,
        "pixels": (elements.pixels_at, elements.pixels_length),
        "frames": elements.frames,
    }


def content(make_stack, folder: Path, syntax: str) -> bytes:
    (path,) = write_series(make_stack(n=1), folder)
    ds = pydicom.dcmread(path)
    ds.file_meta.TransferSyntaxUID = syntax
    out = BytesIO()
    pydicom.dcmwrite(out, ds, implicit_vr=syntax == ImplicitVRLittleEndian,
                     little_endian=syntax != ExplicitVRBigEndian, force_encoding=True)  # fmt: skip
    return out.getvalue()


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_ordinary_headers_take_the_short_way(tmp_path, make_stack, syntax):
    assert agrees(content(make_stack, tmp_path, syntax))


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_other_encodings_do_not(tmp_path, make_stack, syntax):
    assert not agrees(content(make_stack, tmp_path, syntax))


@pytest.mark.filterwarnings("ignore")  # pydicom remarks on odd files, once for each value
def test_the_files_in_pydicom_are_told_alike():
    taken = [path.name for path in sorted(BUNDLED.rglob("*.dcm")) if agrees(path.read_bytes())]
    assert {"CT_small.dcm", "693_J2KI.dcm", "MR_small_implicit.dcm"} <= set(taken)


def test_a_patient_in_another_alphabet_takes_the_long_way(write_stack, edit_file):
    (path,) = write_stack(n=1)
    edit_file(path, SpecificCharacterSet="ISO_IR 192", PatientID="Пациент")
    assert not agrees(path.read_bytes())
    assert parse_with_pydicom(BytesIO(path.read_bytes())).patient_id == "Пациент"


@pytest.mark.parametrize(
    "sound", [b"\x02\0\x02\0UI", b"\x10\0\x20\0LO"], ids=["SOP class", "patient"]
)
def test_a_text_that_is_called_a_number_takes_the_long_way(write_stack, sound):
    (path,) = write_stack(n=1)
    assert fast_parse(path.read_bytes()) is not None
    assert fast_parse(path.read_bytes().replace(sound, sound[:4] + b"UL", 1)) is None


@pytest.fixture(scope="module")
def ordinary(make_stack, tmp_path_factory) -> dict[str, bytes]:
    """A file in each syntax that the short way knows."""
    folder = tmp_path_factory.mktemp("ordinary")
    return {
        syntax: content(make_stack, folder, syntax)
        for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    }


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=300, deadline=None)
@given(data=st.data(), syntax=st.sampled_from([ExplicitVRLittleEndian, ImplicitVRLittleEndian]))
def test_changed_bytes_are_told_alike(ordinary, data, syntax):
    """Bytes flipped, cut out and put in before the pixels: the same elements or the long way."""
    mutable = bytearray(ordinary[syntax])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(128, len(mutable) - 513))
        if data.draw(st.booleans()):
            mutable[at] = data.draw(st.integers(0, 255))
        elif data.draw(st.booleans()):
            del mutable[at : at + data.draw(st.integers(1, 8))]
        else:
            mutable[at:at] = data.draw(st.binary(min_size=1, max_size=8))
    try:
        parse_with_pydicom(BytesIO(mutable))
    except Exception:
        assert fast_parse(bytes(mutable)) is None
    else:
        agrees(bytes(mutable))
