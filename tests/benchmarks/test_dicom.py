"""Every way to read DICOM that is compared runs, and reads the same pixels."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from ich3d.benchmarks.dicom import (
    benchmark_dicom,
    ich3d_check_then_load,
    ich3d_headers,
    ich3d_index_and_load,
    ich3d_load,
    ich3d_load_together,
    monai_load_image,
    pydicom_headers,
    pydicom_pixels,
    raw_read,
    simpleitk_series,
)
from ich3d.core.types import Volume


@pytest.fixture
def files(write_stack: Callable[..., list[Path]]) -> list[Path]:
    return write_stack(n=4)


def test_all_readers_return_the_same_pixels(files: list[Path]) -> None:
    import SimpleITK as sitk

    volume = ich3d_load(files)
    assert isinstance(volume, Volume)
    other = ich3d_index_and_load(files)
    assert isinstance(other, Volume)
    np.testing.assert_array_equal(other.hu, volume.hu)

    np.testing.assert_array_equal(sitk.GetArrayFromImage(simpleitk_series(files)), volume.hu)
    monai_image = np.asarray(monai_load_image(files))  # (X, Y, Z), descending or ascending
    assert monai_image.shape == volume.hu.T.shape
    assert np.sort(monai_image, axis=None).tolist() == np.sort(volume.hu, axis=None).tolist()

    ds = pydicom.dcmread(files[0])
    hu = np.asarray(pydicom_pixels(files)) * ds.RescaleSlope + ds.RescaleIntercept
    np.testing.assert_array_equal(hu, volume.hu)


def test_all_readers_of_headers_read_each_file(files: list[Path]) -> None:
    assert raw_read(files) == [file.stat().st_size for file in files]
    assert ich3d_headers(files) == pydicom_headers(files) == len(files)


@pytest.mark.slow
def test_the_benchmark_runs() -> None:
    table = benchmark_dicom(repeats=1)
    for name in ("raw read", "ich3d load", "SimpleITK", "MONAI", "workers: 2"):
        assert name in table


def test_volumes_of_one_series_are_the_same_however_they_are_read(
    write_stack: Callable[..., list[Path]], edit_file: Callable[..., None]
) -> None:
    files = [*write_stack("soft", n=4), *write_stack("bone", n=4)]
    for file in files:
        kernel = file.parent.name
        edit_file(
            file,
            ConvolutionKernel=kernel,
            SOPInstanceUID=f"2.25.{kernel == 'bone':d}{file.stem[-1]}",
        )
    pixels = np.random.default_rng(1).integers(0, 99, (16, 16), dtype=np.int16)
    for file in files[4:]:
        edit_file(file, PixelData=pixels.tobytes())

    volumes = [ich3d_check_then_load(files), ich3d_load_together(files)]
    for separate, together in zip(*volumes, strict=True):
        assert isinstance(separate, Volume)
        assert isinstance(together, Volume)
        np.testing.assert_array_equal(separate.hu, together.hu)
    assert [len(found) for found in volumes] == [2, 2]
