"""Frames of every transfer syntax are decoded exactly."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.data import get_testdata_file
from pydicom.encaps import generate_frames
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from ich3d.core.hounsfield import AIR_HU
from ich3d.core.issues import IssueCode
from ich3d.core.types import Volume
from ich3d.dicom.index import index
from ich3d.dicom.pixels.decode import GE_PRIVATE_SYNTAX
from ich3d.dicom.pixels.rescale import FILL_HU
from ich3d.dicom.volume import load_volume
from ich3d.dicom.write import SeriesToWrite
from tests.helpers.mutations import SYNTAXES, compressed, encode, encoded, mislabel
from tests.helpers.pixels import RAMP, EditFile, WriteStack, load, store_frame, store_values


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_other_uncompressed_syntaxes_give_the_same_hu(write_stack: WriteStack, syntax: str) -> None:
    (path,) = write_stack(n=1)
    store_values(path, (RAMP - 300).astype("i2"), syntax, PixelPaddingValue=-300)
    expected = RAMP - 300
    expected[0, 0] = -1024
    assert np.array_equal(load(path).hu[0], expected)


def test_jpeg_lossless_is_decoded_exactly(write_stack: WriteStack) -> None:
    (path,) = write_stack(n=1)
    before = load(path).hu
    syntax, frame = compressed(path, "JPEG")
    assert syntax == JPEGLosslessSV1
    store_frame(path, syntax, frame)
    assert np.array_equal(load(path).hu, before)


def test_a_rescale_is_applied_once_to_jpeg_lossless(
    write_stack: WriteStack, edit_file: EditFile
) -> None:
    (path,) = write_stack(n=1, hu=np.full((1, 16, 16), 50, np.int16))
    store_frame(path, *compressed(path, "JPEG"))
    edit_file(path, RescaleSlope="2", RescaleIntercept="-30")
    assert np.all(load(path).hu == 70)


def test_rle_is_decoded_exactly(write_stack: WriteStack) -> None:
    (path,) = write_stack(n=1)
    before = load(path).hu
    ds = pydicom.dcmread(path)
    ds.compress(RLELossless, generate_instance_uid=False)
    ds.save_as(path)
    assert np.array_equal(load(path).hu, before)


def test_encodings_may_be_mixed_within_a_series(
    tmp_path: Path, write_stack: WriteStack, make_stack: Callable[..., SeriesToWrite]
) -> None:
    implicit, big, rle, jpeg, jpeg2000, plain = write_stack(n=6)
    hu = make_stack(n=6).hu
    store_values(implicit, hu[0], ImplicitVRLittleEndian)
    store_values(big, hu[1], ExplicitVRBigEndian)
    ds = pydicom.dcmread(rle)
    ds.compress(RLELossless, generate_instance_uid=False)
    ds.save_as(rle)
    store_frame(jpeg, *compressed(jpeg, "JPEG"))
    syntax, frame = compressed(jpeg2000, "JPEG2000")
    assert syntax == JPEG2000Lossless
    store_frame(jpeg2000, syntax, frame)
    volume = load(tmp_path)
    assert [header.file.path for header in volume.series.headers][-1] == plain
    assert np.array_equal(volume.hu, hu)


def in_syntax(path: Path, label: UID, encoding: UID) -> None:
    """Store a file in the `encoding` of one transfer syntax under the `label` of another."""
    path.write_bytes(mislabel(encode(path, encoding), label).content)


def encoding_details(volume: Volume) -> list[str]:
    return [i.detail for i in volume.issues if i.code is IssueCode.ENCODING_MENDED]


@pytest.mark.parametrize(
    ("label", "encoding", "sentence", "by_itk"),
    [
        (
            ExplicitVRLittleEndian,
            ImplicitVRLittleEndian,
            "its elements have implicit VR, TransferSyntaxUID (0002,0010) says explicit",
            True,
        ),
        (
            ImplicitVRLittleEndian,
            ExplicitVRLittleEndian,
            "its elements have explicit VR, TransferSyntaxUID (0002,0010) says implicit",
            False,  # ITK opens no such file
        ),
        (
            GE_PRIVATE_SYNTAX,
            ImplicitVRLittleEndian,
            "its transfer syntax is GE's private one",
            True,
        ),
    ],
)
def test_elements_under_a_wrong_label_give_exact_hu_and_a_warning(
    tmp_path: Path, write_stack: WriteStack, label: UID, encoding: UID, sentence: str, by_itk: bool
) -> None:
    paths = write_stack()
    before = load(tmp_path).hu
    for path, hu in zip(paths, before, strict=True):
        big_endian = label == GE_PRIVATE_SYNTAX  # its pixels alone
        edit_pixels = hu.astype(">i2" if big_endian else "<i2").tobytes()
        content = path.read_bytes()
        path.write_bytes(content[: -len(edit_pixels)] + edit_pixels)
        in_syntax(path, label, encoding)
    volume = load(tmp_path)
    assert np.array_equal(volume.hu, before)
    (detail,) = encoding_details(volume)
    assert detail.startswith(f"a000.dcm: {sentence}; the pixels of 4 such slices were read")
    if by_itk:
        first = sitk.ReadImage(str(paths[0]), imageIO="GDCMImageIO")
        assert np.array_equal(sitk.GetArrayFromImage(first)[0], before[0])


@pytest.mark.parametrize("codec", ["RLE", "JPEG", "JPEG2000"])
@pytest.mark.parametrize(
    "end",
    [b"", b"\xfe\xff\xdd\xe0", b"\xfc\xff\xfc\xffOB\0\0\4\0\0\0\0\0\0\0"],
    ids=["no delimiter", "half of it", "padding instead of it"],
)
def test_without_a_sequence_delimiter_pixels_are_those_that_itk_reads(
    write_stack: WriteStack, codec: str, end: bytes
) -> None:
    (path,) = write_stack(n=1)
    before = load(path).hu
    if codec == "RLE":
        path.write_bytes(encode(path, RLELossless).content)
    else:
        store_frame(path, *compressed(path, codec))
    assert not encoding_details(load(path))

    content = path.read_bytes()
    assert content.endswith(b"\xfe\xff\xdd\xe0" + bytes(4))
    path.write_bytes(content[:-8] + end)
    volume = load(path)
    assert np.array_equal(volume.hu, before)
    (detail,) = encoding_details(volume)
    assert "the sequence delimiter behind its compressed pixels is missing" in detail
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), before)


def test_ordinary_files_have_no_warning_about_their_encoding(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    for path, syntax in zip(write_stack(n=len(SYNTAXES)), SYNTAXES, strict=True):
        path.write_bytes(encode(path, syntax).content)
    assert not encoding_details(load(tmp_path))


def test_pixels_of_eight_bits_in_big_endian_words_are_swapped(write_stack: WriteStack) -> None:
    (path,) = write_stack(n=1)
    ds = pydicom.dcmread(path)
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.PixelData = RAMP.astype("u1").tobytes()
    path.write_bytes(encoded(ds, ExplicitVRBigEndian))
    pixels = pydicom.dcmread(path).pixel_array
    assert np.array_equal(load(path).hu[0], pixels)


def test_jpeg_ls_is_decoded_exactly(write_stack: WriteStack) -> None:
    """pydicom ships one image with this compression and without any."""
    files = [
        get_testdata_file(f"MR_small{kind}.dcm", download=False)
        for kind in ("", "_jpeg_ls_lossless")
    ]
    native, packed = (pydicom.dcmread(str(file)) for file in files)
    (path,) = write_stack(n=1)
    store_values(path, native.pixel_array)
    before = load(path).hu
    store_frame(path, JPEGLSLossless, next(generate_frames(packed.PixelData, number_of_frames=1)))
    assert np.array_equal(load(path).hu, before)
    assert before.max() > 1000


def test_without_a_transfer_syntax_the_encoding_is_detected(write_stack: WriteStack) -> None:
    (path,) = write_stack(n=1)
    before = load(path).hu
    ds = pydicom.dcmread(path)
    del ds.file_meta.TransferSyntaxUID
    ds.save_as(path, implicit_vr=False, little_endian=True)
    assert np.array_equal(load(path).hu, before)


def test_real_ct_files_of_pydicom_have_the_hu_that_itk_reads() -> None:
    bundled = Path(str(get_testdata_file("CT_small.dcm", download=False))).parent
    names = []
    for path in sorted(path for path in bundled.rglob("*") if path.is_file()):
        indexed = index(path)
        if not indexed.series:
            continue
        names.append(path.name)
        volume = load_volume(indexed.series[0])
        assert isinstance(volume, Volume), volume
        itk = by_itk(path)
        assert np.array_equal(volume.hu, np.where(itk <= FILL_HU, AIR_HU, itk)), path
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
            hu[hu < -1024] = -1024
            return hu
        padding = ds.PixelPaddingValue * int(ds.RescaleSlope) + int(ds.RescaleIntercept)
    hu[hu == padding] = -1024
    return hu
