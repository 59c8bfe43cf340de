"""What `index` does with every kind of file."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EncapsulatedPDFStorage,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)

from ich3d.core.errors import DataError
from ich3d.core.issues import IssueCode
from ich3d.core.types import Volume
from ich3d.dicom.headers.elements import tag_text
from ich3d.dicom.index import Index, index
from ich3d.dicom.volume import load_volume


def accounted(found: Index) -> list[str]:
    """Every file that the index speaks of, as often as it does."""
    in_series = [h.path.relative_to(found.root).as_posix() for s in found.series for h in s.headers]
    others = [path for item in (*found.left_out, *found.rejected) for path in item.paths]
    return sorted(in_series + others)


def on_disk(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_every_file_is_accounted_for_exactly_once(tmp_path, write_stack, edit_file):
    write_stack("deep/er", name="good")
    bad = write_stack("bad", name="bad")
    edit_file(bad[2], ImagePositionPatient=None)
    copies = write_stack("copies", name="good")
    mr = write_stack("mr", name="mr")
    edit_file(mr[0], Modality="MR")
    (tmp_path / "notes.dcm").write_text("plain text " * 50)
    (tmp_path / "short").write_bytes(b"x")
    (tmp_path / "empty.dcm").write_bytes(b"")

    found = index(tmp_path)

    assert accounted(found) == on_disk(tmp_path)
    assert found.n_files == len(on_disk(tmp_path))
    assert sum(item.code is IssueCode.DUPLICATE for item in found.left_out) == len(copies)


def test_names_and_extensions_mean_nothing(tmp_path, write_stack):
    write_stack(file_names=["IM_0001", "notes.txt", "scan.jpg", ".hidden"])
    found = index(tmp_path)
    assert [len(series) for series in found.series] == [4]
    assert not found.left_out


def test_text_called_dcm_is_left_out(tmp_path):
    (tmp_path / "report.dcm").write_text("a report " * 100)
    (item,) = index(tmp_path).left_out
    assert (item.code, item.paths) == (IssueCode.NOT_DICOM, ("report.dcm",))


def test_one_file_is_a_folder_of_one(write_stack):
    path = write_stack()[1]
    found = index(path)
    assert found.n_files == 1
    assert found.series[0].headers[0].path == path


def test_a_missing_path_is_the_users_mistake(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        index(tmp_path / "nowhere")


def test_an_empty_folder_holds_nothing(tmp_path):
    found = index(tmp_path)
    assert (found.n_files, found.series, found.left_out, found.rejected) == (0, (), (), ())


def test_progress_sees_every_file(tmp_path, write_stack):
    paths = write_stack()
    seen = []

    def watch(files):
        for file in files:
            seen.append(file.path)
            yield file

    index(tmp_path, progress=watch)
    assert sorted(seen) == sorted(paths)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"Modality": "MR"}, IssueCode.NOT_CT),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, IssueCode.LOCALIZER),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, IssueCode.NO_IMAGE),
        (
            {
                "SOPClassUID": SecondaryCaptureImageStorage,
                "ImagePositionPatient": None,
                "ImageOrientationPatient": None,
            },
            IssueCode.NO_IMAGE,
        ),
        ({"SOPClassUID": EncapsulatedPDFStorage, "PixelData": None}, IssueCode.NO_IMAGE),
    ],
)
def test_sound_files_that_are_no_ct_slice_are_left_out(
    tmp_path, write_stack, edit_file, changes, code
):
    paths = write_stack(n=5)
    edit_file(paths[4], **changes)
    found = index(tmp_path)
    assert [len(series) for series in found.series] == [4]
    assert [(item.code, item.paths) for item in found.left_out] == [(code, (paths[4].name,))]
    assert not found.rejected


FLAWS = [
    (
        {"ImagePositionPatient": None},
        IssueCode.NO_POSITION,
        "ImagePositionPatient (0020,0032) is missing",
    ),
    (
        {"ImagePositionPatient": b""},
        IssueCode.NO_POSITION,
        "ImagePositionPatient (0020,0032) is empty",
    ),
    ({"ImagePositionPatient": b"1\\2 "}, IssueCode.NO_POSITION, "holds 2 values"),
    ({"ImagePositionPatient": b"1\\2\\up"}, IssueCode.NO_POSITION, "does not read as numbers"),
    ({"ImagePositionPatient": b"1\\2\\nan "}, IssueCode.NO_POSITION, "not finite"),
    ({"ImagePositionPatient": b"1\\2\\1e300 "}, IssueCode.NO_POSITION, "beyond 1,000,000"),
    (
        {"ImageOrientationPatient": None},
        IssueCode.NO_ORIENTATION,
        "ImageOrientationPatient (0020,0037)",
    ),
    ({"ImageOrientationPatient": b""}, IssueCode.NO_ORIENTATION, "is empty"),
    ({"ImageOrientationPatient": b"1\\0\\0 "}, IssueCode.NO_ORIENTATION, "holds 3 values"),
    (
        {"ImageOrientationPatient": b"0\\0\\0\\0\\0\\0 "},
        IssueCode.NO_ORIENTATION,
        "perpendicular unit vectors",
    ),
    (
        {"ImageOrientationPatient": b"1\\0\\0\\1\\0\\0 "},
        IssueCode.NO_ORIENTATION,
        "perpendicular unit vectors",
    ),
    ({"PixelSpacing": None}, IssueCode.NO_PIXEL_SPACING, "PixelSpacing (0028,0030) is missing"),
    ({"PixelSpacing": b"0.5 "}, IssueCode.NO_PIXEL_SPACING, "holds 1 value and not 2"),
    ({"PixelSpacing": b"0\\0 "}, IssueCode.NO_PIXEL_SPACING, "not positive"),
    ({"PixelSpacing": b"1e-310\\1e-310 "}, IssueCode.NO_PIXEL_SPACING, "below 0.001 mm"),
    ({"RescaleSlope": None}, IssueCode.NO_RESCALE, "RescaleSlope (0028,1053) is missing"),
    ({"RescaleSlope": b"0 "}, IssueCode.NO_RESCALE, "RescaleSlope (0028,1053) is 0"),
    ({"RescaleIntercept": None}, IssueCode.NO_RESCALE, "RescaleIntercept (0028,1052) is missing"),
    ({"RescaleIntercept": b""}, IssueCode.NO_RESCALE, "RescaleIntercept (0028,1052) is empty"),
    ({"SOPInstanceUID": None}, IssueCode.NO_UID, "SOPInstanceUID (0008,0018) is missing"),
    ({"Rows": None}, IssueCode.UNREADABLE, "Rows (0028,0010) is missing"),
    ({"Columns": 0}, IssueCode.UNREADABLE, "Columns (0028,0011) is 0"),
    ({"BitsStored": 20}, IssueCode.UNREADABLE, "BitsStored (0028,0101) is 20"),
    ({"BitsAllocated": 12}, IssueCode.UNREADABLE, "BitsAllocated (0028,0100) is 12"),
    ({"SamplesPerPixel": None}, IssueCode.UNREADABLE, "SamplesPerPixel (0028,0002) is missing"),
    (
        {"PhotometricInterpretation": None},
        IssueCode.UNREADABLE,
        "PhotometricInterpretation (0028,0004)",
    ),
    ({"NumberOfFrames": 3}, IssueCode.UNREADABLE, "NumberOfFrames (0028,0008)"),
    (
        {"Modality": None, "SOPClassUID": None},
        IssueCode.UNREADABLE,
        "Modality (0008,0060) is missing",
    ),
    ({"PixelData": None}, IssueCode.TRUNCATED_PIXELS, "PixelData (7FE0,0010) is missing"),
    (
        {"PixelData": bytes(300)},
        IssueCode.TRUNCATED_PIXELS,
        "PixelData (7FE0,0010) holds 300 of 512 bytes",
    ),
]


@pytest.mark.parametrize(("changes", "code", "sentence"), FLAWS)
def test_a_flawed_file_takes_its_series_with_it(
    tmp_path, write_stack, edit_file, changes, code, sentence
):
    paths = write_stack("x", name="flawed")
    edit_file(paths[1], **changes)
    if "SOPClassUID" in changes:
        forget_meta_class(paths[1])
    write_stack("y", name="sound")

    found = index(tmp_path)

    (rejected,) = found.rejected
    assert rejected.code is code
    assert rejected.detail.startswith(f"x/{paths[1].name}: ")
    assert sentence in rejected.detail
    assert rejected.paths == tuple(f"x/{path.name}" for path in paths)
    assert rejected.subject != found.series[0].volume_id
    assert [len(series) for series in found.series] == [4]


@pytest.mark.parametrize(
    ("keyword", "code"),
    [
        ("ImagePositionPatient", IssueCode.NO_POSITION),
        ("ImageOrientationPatient", IssueCode.NO_ORIENTATION),
        ("PixelSpacing", IssueCode.NO_PIXEL_SPACING),
        ("RescaleSlope", IssueCode.NO_RESCALE),
        ("RescaleIntercept", IssueCode.NO_RESCALE),
    ],
)
@pytest.mark.parametrize("value", [None, b""])
def test_what_is_missing_in_all_slices_has_no_default(
    tmp_path, write_stack, edit_file, keyword, code, value
):
    for path in write_stack():
        edit_file(path, **{keyword: value})
    found = index(tmp_path)
    assert not found.series
    (rejected,) = found.rejected
    assert (rejected.code, len(rejected.paths)) == (code, 4)
    assert rejected.detail.startswith("a000.dcm: ")
    assert tag_text(keyword) in rejected.detail


def forget_meta_class(path: Path) -> None:
    """Take the SOP class out of the file meta information too."""
    ds = pydicom.dcmread(path)
    del ds.file_meta.MediaStorageSOPClassUID
    ds.save_as(path, enforce_file_format=False)


def test_further_flaws_of_a_series_are_counted(tmp_path, write_stack, edit_file):
    for path in write_stack()[1:]:
        edit_file(path, PixelSpacing=None)
    (rejected,) = index(tmp_path).rejected
    assert "2 more files" in rejected.detail


@pytest.mark.parametrize("share", [0.5, 0.9, 0.999])
def test_files_cut_within_their_pixels_are_rejected(tmp_path, write_stack, share):
    path = write_stack()[3]
    whole = path.read_bytes()
    start = len(whole) - 512
    path.write_bytes(whole[: start + int(512 * share)])
    (rejected,) = index(tmp_path).rejected
    assert rejected.code is IssueCode.TRUNCATED_PIXELS
    assert "of 512 bytes" in rejected.detail
    assert len(rejected.paths) == 4


def test_a_file_cut_anywhere_is_never_a_slice(tmp_path, write_stack):
    whole = write_stack(n=1)[0].read_bytes()
    path = tmp_path / "a000.dcm"
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        found = index(path)
        assert not found.series, length
        assert accounted(found) == ["a000.dcm"], length


def test_a_file_cut_before_its_uids_is_rejected_alone(tmp_path, write_stack):
    paths = write_stack(n=5)
    whole = paths[4].read_bytes()
    paths[4].write_bytes(whole[: whole.index(b"CT", 400)])
    (tmp_path / "empty").write_bytes(b"")
    found = index(tmp_path)
    assert [len(series) for series in found.series] == [4]
    assert {item.paths for item in found.rejected} == {(paths[4].name,), ("empty",)}
    assert {item.subject for item in found.rejected} == {paths[4].name, "empty"}
    assert IssueCode.EMPTY_FILE in {item.code for item in found.rejected}


@pytest.mark.parametrize("length", [0, 1, 127, 128, 129, 131])
def test_a_file_that_ends_within_its_preamble_is_rejected_alone(tmp_path, write_stack, length):
    paths = write_stack(n=5)
    paths[4].write_bytes(paths[4].read_bytes()[:length])
    found = index(tmp_path)
    assert [len(series) for series in found.series] == [4]
    assert not found.left_out
    (rejected,) = found.rejected
    assert (rejected.subject, rejected.paths) == (paths[4].name, (paths[4].name,))
    assert rejected.code is (IssueCode.UNREADABLE if length else IssueCode.EMPTY_FILE)
    assert rejected.detail == f"{paths[4].name}: the file " + (
        "ends within its preamble" if length else "is empty"
    )


def test_a_file_with_a_damaged_prefix_is_rejected_alone(tmp_path, write_stack):
    paths = write_stack(n=5)
    paths[4].write_bytes(paths[4].read_bytes().replace(b"DICM", b"DIKM", 1))
    (rejected,) = index(tmp_path).rejected
    assert rejected.paths == (paths[4].name,)
    assert rejected.detail == f"{paths[4].name}: the DICM prefix after its preamble is damaged"


@pytest.mark.parametrize("length", [8, 60, 131, 132, 200])
def test_a_file_without_preamble_that_is_cut_is_rejected_alone(tmp_path, write_stack, length):
    paths = write_stack(n=5)
    whole = paths[4].read_bytes()
    start = whole.index(b"\x08\x00\x08\x00CS")
    paths[4].write_bytes(whole[start : start + length])
    found = index(tmp_path)
    assert [len(series) for series in found.series] == [4]
    assert [item.paths for item in found.rejected] == [(paths[4].name,)]
    assert not found.left_out


@pytest.mark.parametrize(
    "content", [b"x", b"\n", b"II*\0" + bytes(100), bytes(60) + b"x", bytes(132), bytes(4000)]
)
def test_a_short_file_of_something_else_is_left_out(tmp_path, content):
    """A file of zeros that is longer than a preamble lacks the prefix: it is something else."""
    (tmp_path / "short").write_bytes(content)
    found = index(tmp_path)
    assert [item.code for item in found.left_out] == [IssueCode.NOT_DICOM]
    assert not found.rejected


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_native_syntaxes_are_read_and_measured(tmp_path, write_stack, syntax):
    paths = write_stack()
    for path in paths:
        rewrite(path, syntax, cut=0)
    assert [len(series) for series in index(tmp_path).series] == [4]
    rewrite(paths[2], syntax, cut=2)
    assert index(tmp_path).rejected[0].code is IssueCode.TRUNCATED_PIXELS


def rewrite(path: Path, syntax: str, cut: int) -> None:
    ds = pydicom.dcmread(path)
    pixels = ds.PixelData
    if syntax == ExplicitVRBigEndian:
        pixels = ds.pixel_array.astype(">i2").tobytes()
    ds.PixelData = pixels[: len(pixels) - cut]
    ds.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(path, ds, implicit_vr=syntax == ImplicitVRLittleEndian,
                     little_endian=syntax != ExplicitVRBigEndian, force_encoding=True)  # fmt: skip


def test_a_file_without_preamble_and_meta_is_read(tmp_path, write_stack, make_stack):
    for path in write_stack():
        whole = path.read_bytes()
        path.write_bytes(whole[whole.index(b"\x08\x00\x08\x00CS") :])
    found = index(tmp_path)
    volume = load_volume(found.series[0])
    assert isinstance(volume, Volume)
    assert np.array_equal(volume.hu, make_stack().hu)


def test_rsna_headers_are_enough(tmp_path, write_stack, make_stack, recwarn):
    """Tilted, as an ordinary series of theirs is, and named in no order."""
    tilted = {
        "col_dir": (0.0, 0.98, -0.19),
        "position_mm": np.array([(-100, -120, 5.1 * i) for i in range(4)]),
    }
    for i, path in enumerate(write_stack(file_names=["c", "a", "d", "b"], **tilted)):
        make_rsna(path, i)
    found = index(tmp_path)
    volume = load_volume(found.series[0])
    assert isinstance(volume, Volume)
    assert np.array_equal(volume.hu, make_stack().hu)
    assert volume.affine_mm[:3, 2] == pytest.approx((0, 0, 5.1))
    assert found.series[0].spacing_mm == pytest.approx(5.0, abs=0.01)
    assert found.series[0].tilt_deg == pytest.approx(10.97, abs=0.01)
    assert [series.volume_id for series in found.series] == ["ID_series"]
    assert [header.sop_uid for header in found.series[0].headers] == [f"ID_{i}" for i in range(4)]
    assert not found.series[0].reasons
    assert not recwarn.list


RSNA = (
    "SOPInstanceUID", "Modality", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "StudyID",
    "ImagePositionPatient", "ImageOrientationPatient", "SamplesPerPixel", "PhotometricInterpretation",
    "Rows", "Columns", "PixelSpacing", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "WindowCenter", "WindowWidth", "RescaleIntercept", "RescaleSlope", "PixelData",
)  # fmt: skip


def make_rsna(path: Path, number: int) -> None:
    """The 22 attributes that the RSNA 2019 files hold, under identifiers that are no UIDs."""
    ds = pydicom.dcmread(path)
    for element in list(ds):
        if element.keyword not in RSNA:
            del ds[element.tag]
    for keyword, value in (
        ("SOPInstanceUID", f"ID_{number}"),
        ("StudyInstanceUID", "ID_study"),
        ("SeriesInstanceUID", "ID_series"),
    ):
        ds[keyword] = pydicom.DataElement(
            keyword, "UI", value, validation_mode=pydicom.config.IGNORE
        )
    ds.file_meta.MediaStorageSOPInstanceUID = "2.25.5"
    ds.save_as(path, enforce_file_format=False)


def test_what_pydicom_remarks_on_a_damaged_file_is_not_told(write_stack, caplog, recwarn):
    """A length that is wrong makes one value of many, the patient's among them, which pydicom would quote."""
    caplog.set_level("DEBUG")
    (path,) = write_stack(n=1)
    sound = b"\x02\0\x10\0UI\x14\0"
    whole = path.read_bytes()
    assert sound in whole
    path.write_bytes(whole.replace(sound, sound[:6] + (500).to_bytes(2, "little"), 1))
    assert not index(path).series
    assert not caplog.records
    assert not recwarn.list


def test_no_word_of_an_index_names_the_patient(tmp_path, write_stack, edit_file, caplog):
    caplog.set_level("DEBUG")
    write_stack("a")
    edit_file(write_stack("b", name="b")[0], PatientID="Other-Patient")
    found = index(tmp_path)
    words = caplog.text + repr(found.rejected) + repr(found.left_out)
    assert found.rejected[0].code is IssueCode.MIXED_PATIENTS
    assert "Secret" not in words
    assert "Other" not in words
