"""HU are exact where they are whole, rounded where not, and clipped where they do not fit."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ich3d.dicom.pixels.rescale import to_hu
from ich3d.dicom.pixels.stored import StoredValues
from tests.helpers.pixels import EditFile, WriteStack, load, store_values


def test_each_slice_has_its_own_slope_and_intercept(
    write_stack: WriteStack, tmp_path: Path, edit_file: EditFile
) -> None:
    paths = write_stack(n=3, hu=np.full((3, 16, 16), 10, np.int16))
    edit_file(paths[1], RescaleSlope="3", RescaleIntercept="-7")
    assert load(tmp_path).hu[:, 0, 0].tolist() == [10, 23, 10]


def test_without_a_padding_value_all_below_air_is_padding(write_stack: WriteStack) -> None:
    (path,) = write_stack(n=1)
    values = np.full((16, 16), 30, "<i2")
    values[0, :4] = (-2000, -1025, -1024, -1023)
    store_values(path, values)
    assert load(path).hu[0, 0, :4].tolist() == [-1024, -1024, -1024, -1023]


@settings(max_examples=50)
@given(
    arrays.arrays(np.int32, (3, 3), elements=st.integers(-(2**15), 2**16)),
    st.integers(1, 4),
    st.integers(-2000, 2000),
)
def test_whole_slopes_give_whole_arithmetic(values: np.ndarray, slope: int, intercept: int) -> None:
    exact = values.astype(object) * slope + intercept
    hu, clipped = to_hu(
        StoredValues(values, np.zeros((3, 3), bool)), float(slope), float(intercept)
    )
    assert hu.tolist() == [
        [min(v, 32767) if v > -2000 else -1024 for v in row] for row in exact.tolist()
    ]
    assert clipped == sum(v > 32767 for v in exact.ravel())


def test_padding_is_air_whatever_its_hu() -> None:
    is_padding = np.array([[True, False, False]])
    hu, n_clipped = to_hu(StoredValues(np.array([[500, -1500, 30]]), is_padding), 1.0, 0.0)
    assert hu.tolist() == [[-1024, -1500, 30]]
    assert n_clipped == 0


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, -1024.0), (1.0, 0.0), (0.5, 0.0)])
def test_a_fill_is_air_beside_another_padding_value(slope: float, intercept: float) -> None:
    values = np.array([[-32768, -4000, 30]])
    hu, n_clipped = to_hu(StoredValues(values, np.zeros((1, 3), bool)), slope, intercept)
    assert hu.tolist() == [[-1024, -1024, 30 * slope + intercept]]
    assert n_clipped == 0


def test_halves_are_rounded_to_even() -> None:
    hu, _ = to_hu(StoredValues(np.array([[1, 3, 5]]), None), 0.5, 0.0)
    assert hu.tolist() == [[0, 2, 2]]
