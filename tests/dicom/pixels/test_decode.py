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
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from ich3d.core.hounsfield import AIR_HU
from ich3d.core.types import Volume
from ich3d.dicom.index import index
from ich3d.dicom.pixels.rescale import FILL_HU
from ich3d.dicom.volume import load_volume
from ich3d.dicom.write import SeriesToWrite
from tests.helpers.mutations import compressed
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
