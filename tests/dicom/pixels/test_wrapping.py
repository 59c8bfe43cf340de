"""Wrapped 12-bit values are recognized by their pixels and mended; all others stay as they are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ich3d.core.issues import IssueCode
from ich3d.dicom.pixels.stored import StoredValues
from ich3d.dicom.pixels.wrapping import looks_wrapped, unwrap
from tests.helpers.pixels import WriteStack, issue_codes, load, store_values


def head(air: int = -1000) -> np.ndarray:
    """HU (3, 32, 32): a disc of brain in a skull, in air."""
    y, x = np.mgrid[-16:16, -16:16]
    radius = np.hypot(y, x)
    hu = np.where(radius < 9, 35, np.where(radius < 11, 1200, air)) + (x % 3)
    hu[radius > 15] = air
    return np.stack([hu] * 3).astype(np.int16)


def write_wrapped(write_stack: WriteStack, hu: np.ndarray, intercept: str) -> list[Path]:
    paths = write_stack(n=len(hu), hu=hu)
    for path, values in zip(paths, hu, strict=True):
        store_values(
            path, (values & 0xFFF).astype("<u2"), BitsStored=12, RescaleIntercept=intercept
        )
    return paths


@pytest.mark.parametrize("intercept", ["0", "1", "-99"])
def test_wrapped_twelve_bit_hu_are_mended(
    tmp_path: Path, write_stack: WriteStack, intercept: str
) -> None:
    write_wrapped(write_stack, head(), intercept)
    volume = load(tmp_path)
    assert np.array_equal(volume.hu, head())
    assert issue_codes(volume) == {IssueCode.WRAP_MENDED}
    assert "3 slices" in volume.issues[0].detail


@pytest.mark.parametrize(("n", "counted"), [(1, "in 1 slice,"), (3, "in 3 slices,")])
def test_the_issue_counts_the_mended_slices(
    tmp_path: Path, write_stack: WriteStack, n: int, counted: str
) -> None:
    write_wrapped(write_stack, head()[:n], "0")
    (issue,) = (issue for issue in load(tmp_path).issues if issue.code is IssueCode.WRAP_MENDED)
    assert counted in issue.detail


def test_an_honest_twelve_bit_image_is_not_touched(tmp_path: Path, write_stack: WriteStack) -> None:
    """Air clipped at 0, an intercept of 0: the header of a wrapped image, without its pixels."""
    honest = np.maximum(head(), 0)
    honest[1, 5:9, 5:9] = 4000  # a filling of metal
    write_wrapped(write_stack, honest, "0")
    volume = load(tmp_path)
    assert np.array_equal(volume.hu, honest)
    assert not issue_codes(volume)


@pytest.mark.parametrize(
    "attributes",
    [
        {"RescaleIntercept": "-1024"},
        {"RescaleIntercept": "-100"},
        {"BitsStored": 13},
        {"RescaleSlope": "0.5"},
    ],
)
def test_other_headers_are_never_taken_for_wrapped(
    write_stack: WriteStack, attributes: dict[str, Any]
) -> None:
    (path,) = write_stack(n=1)
    values = (head()[0] & 0xFFF).astype("<u2")
    store_values(path, values, **{"BitsStored": 12, "RescaleIntercept": "0", **attributes})
    volume = load(path)
    slope, intercept = (
        float(attributes.get(k, d)) for k, d in (("RescaleSlope", 1), ("RescaleIntercept", 0))
    )
    assert np.array_equal(volume.hu[0], np.rint(values * slope + intercept))
    assert IssueCode.WRAP_MENDED not in issue_codes(volume)


@pytest.mark.parametrize("air", [-1000, -1001, -1024])
def test_the_darkest_air_is_air(tmp_path: Path, write_stack: WriteStack, air: int) -> None:
    write_wrapped(write_stack, head(air), "0")
    assert load(tmp_path).hu.min() == air


@pytest.mark.parametrize(
    ("stored", "hu"),
    [(3072, -1024), (3095, -1001), (3096, -1000), (3996, -100), (4095, -1), (0, 0), (3071, 3071)],
)
def test_values_from_3072_on_are_negative(stored: int, hu: int) -> None:
    values = np.array([[stored]])
    assert unwrap(StoredValues(values, None), 12).values.item() == hu


@given(arrays.arrays(np.int32, (4, 4), elements=st.integers(-1024, 3071)))
def test_unwrapping_undoes_wrapping(hu: np.ndarray) -> None:
    assert np.array_equal(unwrap(StoredValues(hu & 0xFFF, None), 12).values, hu)


def test_evenly_spread_values_are_no_evidence_of_a_wrap() -> None:
    assert not looks_wrapped([np.arange(4096).reshape(64, 64)], 12)


def write_unsigned(
    write_stack: WriteStack, stored: np.ndarray, intercept: str = "0", **attributes: Any
) -> None:
    """Slices of stored values (Z, Y, X), modulo 16 bits and marked as unsigned."""
    for path, values in zip(write_stack(n=len(stored)), stored, strict=True):
        store_values(path, values.astype("<u2"), RescaleIntercept=intercept, **attributes)


@pytest.mark.parametrize("crop", [slice(None), slice(12, 20)], ids=["head", "little is negative"])
def test_wrapped_sixteen_bit_hu_are_mended(
    tmp_path: Path, write_stack: WriteStack, crop: slice
) -> None:
    hu = head()[:, crop, crop].copy()
    hu[:2, :2, :2] = (-1, -1024)
    hu[2] = np.abs(hu[2])  # a slice in which nothing is negative
    write_unsigned(write_stack, hu)
    volume = load(tmp_path)
    assert np.array_equal(volume.hu, hu)
    assert issue_codes(volume) == {IssueCode.WRAP_MENDED}
    (issue,) = volume.issues
    assert "signed 16-bit values, held as unsigned in 2 slices" in issue.detail


@pytest.mark.parametrize("fill", [-2000, -3024, -32768])
def test_a_wrapped_fill_of_sixteen_bits_becomes_air(
    tmp_path: Path, write_stack: WriteStack, fill: int
) -> None:
    """The head itself is stored above 0, and the background beyond the field of view is not."""
    hu = head()
    write_unsigned(write_stack, np.where(hu == -1000, fill, hu + 1024), "-1024")
    volume = load(tmp_path)
    assert np.array_equal(volume.hu, np.where(hu == -1000, -1024, hu))
    assert issue_codes(volume) == {IssueCode.WRAP_MENDED}


@pytest.mark.parametrize(
    ("stored", "attributes"),
    [
        (np.full((3, 16, 16), 60000), {"RescaleSlope": "0.05"}),
        (np.linspace(0, 65535, 768).reshape(3, 16, 16), {"RescaleSlope": "0.05"}),
        (np.linspace(0, 65535, 768).reshape(3, 16, 16), {}),
        (np.full((3, 16, 16), 31000), {}),
    ],
    ids=["small slope", "small slope, all values", "all values", "below the sign bit"],
)
def test_other_sixteen_bit_values_are_not_unwrapped(
    tmp_path: Path, write_stack: WriteStack, stored: np.ndarray, attributes: dict[str, Any]
) -> None:
    write_unsigned(write_stack, stored, "-1024", **attributes)
    volume = load(tmp_path)
    assert IssueCode.WRAP_MENDED not in issue_codes(volume)
    slope = float(attributes.get("RescaleSlope", 1))
    expected = np.rint(stored.astype("<u2") * slope - 1024).clip(None, 32767)
    assert np.array_equal(volume.hu, expected)


def test_one_damaged_pixel_of_sixteen_bits_is_no_evidence(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    stored = np.full((1, 64, 64), 1060)
    stored[0, 5, 5] = 65000
    write_unsigned(write_stack, stored, "-1024")
    assert load(tmp_path).hu[0, 5, 5] == 32767
