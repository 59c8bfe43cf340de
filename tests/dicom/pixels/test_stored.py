"""HU are exact, whatever way a file stores them."""

import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from ich3d.core.issues import IssueCode
from ich3d.core.types import Rejected, Volume
from ich3d.dicom.index import index
from ich3d.dicom.pixels.rescale import to_hu
from ich3d.dicom.pixels.stored import StoredValues
from ich3d.dicom.pixels.wrapping import looks_wrapped, unwrap
from ich3d.dicom.volume import load_volume
from tests.helpers.mutations import compressed


def store(path: Path, values: np.ndarray, syntax: str = "", **attributes: object) -> None:
    """Put stored values into a file, in their own dtype, with the attributes that describe them."""
    ds = pydicom.dcmread(path)
    ds.Rows, ds.Columns = values.shape
    ds.BitsAllocated = 8 * values.dtype.itemsize
    ds.BitsStored = ds.BitsAllocated
    ds.PixelRepresentation = int(values.dtype.kind == "i")
    for keyword, value in attributes.items():
        if keyword.startswith(
            "PixelPadding"
        ):  # US or SS, which pydicom cannot tell before the pixels are in
            ds.add_new(keyword, "SS" if isinstance(value, int) and value < 0 else "US", value)
        else:
            setattr(ds, keyword, value)
    if "HighBit" not in attributes:
        ds.HighBit = ds.BitsStored - 1
    ds.PixelData = values.astype(
        values.dtype.newbyteorder("<>"[syntax == ExplicitVRBigEndian])
    ).tobytes()
    ds.file_meta.TransferSyntaxUID = syntax or ds.file_meta.TransferSyntaxUID
    ds["PixelData"].VR = "OW"
    pydicom.dcmwrite(path, ds, implicit_vr=syntax == ImplicitVRLittleEndian,
                     little_endian=syntax != ExplicitVRBigEndian, force_encoding=True)  # fmt: skip


def load(path: Path) -> Volume:
    found = index(path)
    assert not found.rejected, found.rejected
    volume = load_volume(found.series[0])
    assert isinstance(volume, Volume), volume
    return volume


def codes(volume: Volume) -> set[IssueCode]:
    return {issue.code for issue in volume.issues} - {IssueCode.SINGLE_SLICE}


GRID = np.arange(16 * 16).reshape(16, 16)


@pytest.mark.parametrize(
    ("values", "attributes", "expected"),
    [
        (GRID.astype("<i2") - 100, {}, GRID - 100),
        (GRID.astype("<u2"), {"RescaleIntercept": "-1024"}, GRID - 1024),
        (GRID.astype("<i2"), {"RescaleSlope": "2", "RescaleIntercept": "-3"}, 2 * GRID - 3),
        (GRID.astype("<i2"), {"RescaleSlope": "0.5"}, np.rint(GRID / 2)),
        (GRID.astype("u1"), {"RescaleIntercept": "-40"}, GRID - 40),
        (GRID.astype("<i4"), {"RescaleIntercept": "-40"}, GRID - 40),
        (GRID.astype("<u2"), {"PhotometricInterpretation": "MONOCHROME1"}, GRID),
        ((GRID + 0xA000).astype("<u2"), {"BitsStored": 12}, GRID),
        (
            ((GRID - 128) & 0xFFF | 0x5000).astype("<u2"),
            {"BitsStored": 12, "PixelRepresentation": 1},
            GRID - 128,
        ),
        ((GRID << 4 | 0x3).astype("<u2"), {"BitsStored": 12, "HighBit": 15}, GRID),
    ],
    ids=["signed", "unsigned", "slope", "half to even", "8 bits", "32 bits", "monochrome1",
         "overlay bits", "12-bit two's complement", "high bit"],
)  # fmt: skip
def test_stored_values_become_exact_hu(write_stack, values, attributes, expected):
    (path,) = write_stack(n=1)
    store(path, values, **attributes)
    volume = load(path)
    assert np.array_equal(volume.hu[0], expected)
    assert not codes(volume)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_other_native_syntaxes_give_the_same_hu(write_stack, syntax):
    (path,) = write_stack(n=1)
    store(path, (GRID - 300).astype("i2"), syntax, PixelPaddingValue=-300)
    expected = GRID - 300
    expected[0, 0] = -1024
    assert np.array_equal(load(path).hu[0], expected)


def test_slope_and_intercept_are_each_slices_own(write_stack, tmp_path, edit_file):
    paths = write_stack(n=3, hu=np.full((3, 16, 16), 10, np.int16))
    edit_file(paths[1], RescaleSlope="3", RescaleIntercept="-7")
    assert load(tmp_path).hu[:, 0, 0].tolist() == [10, 23, 10]


def test_without_a_padding_value_what_lies_below_air_is_padding(write_stack):
    (path,) = write_stack(n=1)
    values = np.full((16, 16), 30, "<i2")
    values[0, :4] = (-2000, -1025, -1024, -1023)
    store(path, values)
    assert load(path).hu[0, 0, :4].tolist() == [-1024, -1024, -1024, -1023]


@pytest.mark.parametrize(
    ("values", "attributes"),
    [
        (np.array([-2000, -1500, 30], "<i2"), {"PixelPaddingValue": -2000}),
        (
            np.array([63536, 64036, 30], "<u2"),
            {"PixelPaddingValue": -2000, "PixelRepresentation": 1},
        ),
        (np.array([-2000, -1500, 30], "<i2"), {"PixelPaddingValue": 63536}),
        (
            np.array([-3000, -1500, 30], "<i2"),
            {"PixelPaddingValue": -3024, "PixelPaddingRangeLimit": -2990},
        ),
    ],
    ids=["signed", "container", "written unsigned", "range"],
)
def test_a_padding_value_alone_marks_padding(write_stack, values, attributes):
    (path,) = write_stack(n=1)
    store(path, np.broadcast_to(values, (16, 3)), **attributes)
    assert load(path).hu[0, 0].tolist() == [-1024, -1500, 30]


@pytest.mark.parametrize("syntax", ["", ExplicitVRBigEndian])
def test_a_range_of_padding_holds_both_its_ends_and_may_run_either_way(write_stack, syntax):
    values = np.broadcast_to(np.array([-3025, -3024, -3000, -2990, -2989, 30], "i2"), (16, 6))
    for ends in ((-3024, -2990), (-2990, -3024)):
        (path,) = write_stack(n=1)
        store(path, values, syntax, PixelPaddingValue=ends[0], PixelPaddingRangeLimit=ends[1])
        assert load(path).hu[0, 0].tolist() == [-3025, -1024, -1024, -1024, -2989, 30]


@pytest.mark.parametrize("syntax", ["", ExplicitVRBigEndian])
def test_a_range_limit_without_its_value_says_nothing(write_stack, syntax):
    (path,) = write_stack(n=1)
    values = np.broadcast_to(np.array([-2000, 500, 30], "i2"), (16, 3))
    store(path, values, syntax, PixelPaddingRangeLimit=500)
    assert load(path).hu[0, 0].tolist() == [-1024, 500, 30]


def test_padding_beyond_the_stored_bits_spares_the_value_it_aliases(write_stack):
    """-2000 in a 16-bit container reads 2096 in twelve bits, and so does dense bone."""
    (path,) = write_stack(n=1)
    values = np.full((16, 16), 1054, "<u2")
    values[0, :2] = (63536, 2096)
    store(path, values, BitsStored=12, RescaleIntercept="-1024", PixelPaddingValue=63536)
    assert load(path).hu[0, 0, :3].tolist() == [-1024, 1072, 30]


def test_an_empty_padding_value_is_none(write_stack):
    (path,) = write_stack(n=1)
    store(path, np.full((16, 16), -2000, "<i2"), PixelPaddingValue=None)
    assert load(path).hu[0, 0, 0] == -1024


def test_hu_beyond_16_bits_are_clipped_with_a_warning(write_stack):
    (path,) = write_stack(n=1)
    values = np.full((16, 16), 100, "<u2")
    values[0, :3] = 60000
    store(path, values, RescaleIntercept="-1024")
    volume = load(path)
    assert volume.hu[0, 0, 0] == 32767
    (issue,) = (issue for issue in volume.issues if issue.code is IssueCode.HU_CLIPPED)
    assert f"{path.name} in 3 pixels" in issue.detail


def head(air: int = -1000) -> np.ndarray:
    """HU (3, 32, 32): a disc of brain in a skull, in air."""
    y, x = np.mgrid[-16:16, -16:16]
    radius = np.hypot(y, x)
    hu = np.where(radius < 9, 35, np.where(radius < 11, 1200, air)) + (x % 3)
    hu[radius > 15] = air
    return np.stack([hu] * 3).astype(np.int16)


def write_wrapped(write_stack, hu: np.ndarray, intercept: str) -> list[Path]:
    paths = write_stack(n=len(hu), hu=hu)
    for path, values in zip(paths, hu, strict=True):
        store(path, (values & 0xFFF).astype("<u2"), BitsStored=12, RescaleIntercept=intercept)
    return paths


@pytest.mark.parametrize("intercept", ["0", "1", "-99"])
def test_wrapped_twelve_bit_hu_are_mended(tmp_path, write_stack, intercept):
    write_wrapped(write_stack, head(), intercept)
    volume = load(tmp_path)
    assert np.array_equal(volume.hu, head())
    assert codes(volume) == {IssueCode.WRAP_MENDED}
    assert "3 slices" in volume.issues[0].detail


@pytest.mark.parametrize(("n", "told"), [(1, "in 1 slice,"), (3, "in 3 slices,")])
def test_slices_are_counted_as_people_do(tmp_path, write_stack, n, told):
    write_wrapped(write_stack, head()[:n], "0")
    (issue,) = (
        issue for issue in load(tmp_path).issues if issue.code is IssueCode.WRAP_MENDED
    )
    assert told in issue.detail


def test_an_honest_twelve_bit_image_is_not_touched(tmp_path, write_stack):
    """Air clipped at 0, an intercept of 0: the header of a wrapped image, without its pixels."""
    honest = np.maximum(head(), 0)
    honest[1, 5:9, 5:9] = 4000  # a filling of metal
    write_wrapped(write_stack, honest, "0")
    volume = load(tmp_path)
    assert np.array_equal(volume.hu, honest)
    assert not codes(volume)


@pytest.mark.parametrize(
    "attributes",
    [
        {"RescaleIntercept": "-1024"},
        {"RescaleIntercept": "-100"},
        {"BitsStored": 13},
        {"RescaleSlope": "0.5"},
    ],
)
def test_other_headers_are_never_taken_for_wrapped(write_stack, attributes):
    (path,) = write_stack(n=1)
    values = (head()[0] & 0xFFF).astype("<u2")
    store(path, values, **{"BitsStored": 12, "RescaleIntercept": "0", **attributes})
    volume = load(path)
    slope, intercept = (
        float(attributes.get(k, d)) for k, d in (("RescaleSlope", 1), ("RescaleIntercept", 0))
    )
    assert np.array_equal(volume.hu[0], np.rint(values * slope + intercept))
    assert not codes(volume)


@given(arrays.arrays(np.int32, (4, 4), elements=st.integers(-1000, 3095)))
def test_unwrapping_undoes_wrapping(hu):
    assert np.array_equal(unwrap(StoredValues(hu & 0xFFF, None)).values, hu)


def test_evenly_spread_values_are_no_evidence_of_a_wrap():
    assert not looks_wrapped([np.arange(4096).reshape(64, 64)])


@settings(max_examples=50)
@given(
    arrays.arrays(np.int32, (3, 3), elements=st.integers(-(2**15), 2**16)),
    st.integers(1, 4),
    st.integers(-2000, 2000),
)
def test_whole_slopes_give_whole_arithmetic(values, slope, intercept):
    exact = values.astype(object) * slope + intercept
    hu, clipped = to_hu(StoredValues(values, np.zeros((3, 3), bool)), float(slope), float(intercept))
    assert hu.tolist() == [[min(max(v, -32768), 32767) for v in row] for row in exact.tolist()]
    assert clipped == sum(not -32768 <= v <= 32767 for v in exact.ravel())


def put_frame(path: Path, syntax: str, frame: bytes) -> None:
    ds = pydicom.dcmread(path)
    ds.file_meta.TransferSyntaxUID = syntax
    ds.PixelData = encapsulate([frame])
    ds["PixelData"].VR = "OB"
    ds.save_as(path)


def test_jpeg_lossless_is_decoded_exactly(write_stack):
    (path,) = write_stack(n=1)
    before = load(path).hu
    syntax, frame = compressed(path, "JPEG")
    assert syntax == JPEGLosslessSV1
    put_frame(path, syntax, frame)
    assert np.array_equal(load(path).hu, before)


def test_a_rescale_is_applied_once_to_jpeg_lossless(write_stack, edit_file):
    (path,) = write_stack(n=1, hu=np.full((1, 16, 16), 50, np.int16))
    put_frame(path, *compressed(path, "JPEG"))
    edit_file(path, RescaleSlope="2", RescaleIntercept="-30")
    assert np.all(load(path).hu == 70)


def test_rle_is_decoded_exactly(write_stack):
    (path,) = write_stack(n=1)
    before = load(path).hu
    ds = pydicom.dcmread(path)
    ds.compress(RLELossless, generate_instance_uid=False)
    ds.save_as(path)
    assert np.array_equal(load(path).hu, before)


def test_encodings_may_be_mixed_within_a_series(tmp_path, write_stack, make_stack):
    implicit, big, rle, jpeg, jpeg2000, plain = write_stack(n=6)
    hu = make_stack(n=6).hu
    store(implicit, hu[0], ImplicitVRLittleEndian)
    store(big, hu[1], ExplicitVRBigEndian)
    ds = pydicom.dcmread(rle)
    ds.compress(RLELossless, generate_instance_uid=False)
    ds.save_as(rle)
    put_frame(jpeg, *compressed(jpeg, "JPEG"))
    syntax, frame = compressed(jpeg2000, "JPEG2000")
    assert syntax == JPEG2000Lossless
    put_frame(jpeg2000, syntax, frame)
    volume = load(tmp_path)
    assert [header.path for header in volume.series.headers][-1] == plain
    assert np.array_equal(volume.hu, hu)


def test_jpeg_ls_is_decoded_exactly(write_stack):
    """The frame is that of a file in pydicom's wheel, which ships the same image without compression."""
    files = [
        get_testdata_file(f"MR_small{kind}.dcm", download=False)
        for kind in ("", "_jpeg_ls_lossless")
    ]
    native, packed = (pydicom.dcmread(str(file)) for file in files)
    (path,) = write_stack(n=1)
    store(path, native.pixel_array)
    before = load(path).hu
    put_frame(path, JPEGLSLossless, next(generate_frames(packed.PixelData, number_of_frames=1)))
    assert np.array_equal(load(path).hu, before)
    assert before.max() > 1000


def test_a_compressed_file_cut_within_its_frame_is_rejected(write_stack):
    (path,) = write_stack(n=1)
    put_frame(path, *compressed(path, "JPEG"))
    path.write_bytes(path.read_bytes()[:-40])
    assert index(path).rejected[0].code is IssueCode.TRUNCATED_PIXELS


@pytest.mark.parametrize("keep", [0, 30, 200])
def test_a_frame_that_does_not_decode_rejects_the_volume(tmp_path, write_stack, keep):
    paths = write_stack()
    syntax, frame = compressed(paths[2], "JPEG")
    put_frame(paths[2], syntax, frame[:keep] + b"\xff" * 10)
    (series,) = index(tmp_path).series
    rejected = load_volume(series)
    assert isinstance(rejected, Rejected)
    assert (rejected.code, rejected.subject) == (IssueCode.UNDECODABLE, series.volume_id)
    assert "PixelData (7FE0,0010)" in rejected.detail
    assert paths[2].name in rejected.detail
    assert len(rejected.paths) == 4


@pytest.mark.parametrize("high_bit", [10, 16])
def test_a_high_bit_that_does_not_fit_rejects_the_volume(write_stack, high_bit):
    (path,) = write_stack(n=1)
    store(path, GRID.astype("<u2"), BitsStored=12, HighBit=high_bit)
    rejected = load_volume(index(path).series[0])
    assert isinstance(rejected, Rejected)
    assert rejected.code is IssueCode.UNDECODABLE
    assert "HighBit (0028,0102) does not fit BitsStored (0028,0101)" in rejected.detail


def test_a_file_that_is_gone_rejects_the_volume(tmp_path, write_stack):
    paths = write_stack()
    (series,) = index(tmp_path).series
    paths[0].unlink()
    rejected = load_volume(series)
    assert isinstance(rejected, Rejected)
    assert rejected.code is IssueCode.UNREADABLE  # and not damaged: another time it may be there


def test_a_file_without_a_transfer_syntax_is_read_as_it_looks(write_stack):
    (path,) = write_stack(n=1)
    before = load(path).hu
    ds = pydicom.dcmread(path)
    del ds.file_meta.TransferSyntaxUID
    ds.save_as(path, implicit_vr=False, little_endian=True)
    assert np.array_equal(load(path).hu, before)


def test_the_real_ct_files_in_pydicom_give_the_hu_that_itk_gives():
    bundled = Path(str(get_testdata_file("CT_small.dcm", download=False))).parent
    names = []
    for path in sorted(path for path in bundled.rglob("*") if path.is_file()):
        found = index(path)
        if not found.series:
            continue
        names.append(path.name)
        volume = load_volume(found.series[0])
        assert isinstance(volume, Volume), volume
        assert np.array_equal(volume.hu, by_itk(path)), path
    assert {"CT_small.dcm", "693_J2KI.dcm", "J2K_pixelrep_mismatch.dcm", "17106", "2062"} <= set(
        names
    )
    assert len(names) >= 12


def by_itk(path: Path) -> np.ndarray:
    """HU as SimpleITK reads them, with padding as air."""
    hu: np.ndarray = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # values that do not touch the pixels
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        if "PixelPaddingValue" not in ds:
            return np.maximum(hu, -1024)
        padding = ds.PixelPaddingValue * int(ds.RescaleSlope) + int(ds.RescaleIntercept)
    return np.where(hu == padding, -1024, hu)
