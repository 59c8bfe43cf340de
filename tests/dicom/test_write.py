"""Other readers find in written files what was given, and equal input gives equal bytes."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from ich3d.dicom.write import write_series
from tests.helpers.series import PATIENT_ID, stack


def test_itk_reads_the_hu_and_the_geometry_that_were_written(tmp_path: Path) -> None:
    series = stack()
    image = sitk.ReadImage([str(path) for path in write_series(series, tmp_path)])
    assert np.array_equal(sitk.GetArrayFromImage(image), series.hu)
    assert image.GetSpacing() == pytest.approx((0.4, 0.5, 5.0))
    assert image.GetOrigin() == pytest.approx((-100, -120, 0))


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    first, second = (write_series(stack(), tmp_path / name) for name in ("x", "y"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_paths_are_returned_in_the_order_of_the_slices(tmp_path: Path) -> None:
    names = ["c", "a", "b", "d"]
    paths = write_series(stack(file_names=names), tmp_path / "new" / "folder")
    assert [path.name for path in paths] == names
    numbers = [pydicom.dcmread(path).InstanceNumber for path in paths]
    assert numbers == [1, 2, 3, 4]


def test_extra_attributes_are_written_and_replace_those_that_are_set(tmp_path: Path) -> None:
    extra = {"KVP": "120", "PixelPaddingValue": -2000, "ImageType": ["ORIGINAL", "PRIMARY"]}
    (path,) = write_series(stack(n=1, extra=extra), tmp_path)
    dataset = pydicom.dcmread(path)
    assert (dataset.KVP, dataset.PixelPaddingValue) == (120, -2000)
    assert list(dataset.ImageType) == ["ORIGINAL", "PRIMARY"]
    assert dataset.PatientID == PATIENT_ID


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"file_names": ["only"]}, "hu has 4 slices, but file_names has length 1"),
        ({"position_mm": np.zeros((3, 3))}, "hu has 4 slices, but position_mm has length 3"),
        ({"hu": np.zeros((4, 8, 8))}, r"hu must be int16 \(Z, Y, X\), got float64"),
        ({"hu": np.zeros((8, 8), np.int16)}, r"got int16 \(8, 8\)"),
    ],
)
def test_pixels_and_lengths_that_do_not_fit_are_an_error(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        stack(**changes)
