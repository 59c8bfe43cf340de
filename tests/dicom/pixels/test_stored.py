"""Stored values are read out of their pixel cells, whatever the layout of bits and the padding."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRBigEndian

from ich3d.core.issues import IssueCode
from ich3d.core.types import Issue
from ich3d.dicom.index import index
from ich3d.dicom.pixels.stored import StoredValues, read_slice, read_slices
from tests.helpers.lifelike import lifelike_head
from tests.helpers.pixels import RAMP, WriteStack, issue_codes, load, store_values


@pytest.mark.parametrize(
    ("values", "attributes", "expected"),
    [
        (RAMP.astype("<i2") - 100, {}, RAMP - 100),
        (RAMP.astype("<u2"), {"RescaleIntercept": "-1024"}, RAMP - 1024),
        (RAMP.astype("<i2"), {"RescaleSlope": "2", "RescaleIntercept": "-3"}, 2 * RAMP - 3),
        (RAMP.astype("<i2"), {"RescaleSlope": "0.5"}, np.rint(RAMP / 2)),
        (RAMP.astype("u1"), {"RescaleIntercept": "-40"}, RAMP - 40),
        (RAMP.astype("<i4"), {"RescaleIntercept": "-40"}, RAMP - 40),
        (RAMP.astype("<u2"), {"PhotometricInterpretation": "MONOCHROME1"}, RAMP),
        ((RAMP + 0xA000).astype("<u2"), {"BitsStored": 12}, RAMP),
        (
            ((RAMP - 128) & 0xFFF | 0x5000).astype("<u2"),
            {"BitsStored": 12, "PixelRepresentation": 1},
            RAMP - 128,
        ),
        ((RAMP << 4 | 0x3).astype("<u2"), {"BitsStored": 12, "HighBit": 15}, RAMP),
    ],
    ids=["signed", "unsigned", "slope", "half to even", "8 bits", "32 bits", "monochrome1",
         "overlay bits", "12-bit two's complement", "high bit"],
)  # fmt: skip
def test_stored_values_become_exact_hu(
    write_stack: WriteStack, values: np.ndarray, attributes: dict[str, Any], expected: np.ndarray
) -> None:
    (path,) = write_stack(n=1)
    store_values(path, values, **attributes)
    volume = load(path)
    assert np.array_equal(volume.hu[0], expected)
    assert not issue_codes(volume)


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
def test_a_padding_value_alone_marks_padding(
    write_stack: WriteStack, values: np.ndarray, attributes: dict[str, Any]
) -> None:
    (path,) = write_stack(n=1)
    store_values(path, np.broadcast_to(values, (16, 3)), **attributes)
    assert load(path).hu[0, 0].tolist() == [-1024, -1500, 30]


@pytest.mark.parametrize("syntax", ["", ExplicitVRBigEndian])
def test_a_range_of_padding_holds_both_its_ends_and_may_run_either_way(
    write_stack: WriteStack, syntax: str
) -> None:
    values = np.broadcast_to(np.array([-1825, -1824, -1800, -1790, -1789, 30], "i2"), (16, 6))
    for ends in ((-1824, -1790), (-1790, -1824)):
        (path,) = write_stack(n=1)
        store_values(
            path, values, syntax, PixelPaddingValue=ends[0], PixelPaddingRangeLimit=ends[1]
        )
        assert load(path).hu[0, 0].tolist() == [-1825, -1024, -1024, -1024, -1789, 30]


@pytest.mark.parametrize("syntax", ["", ExplicitVRBigEndian])
def test_a_range_limit_without_its_value_says_nothing(write_stack: WriteStack, syntax: str) -> None:
    (path,) = write_stack(n=1)
    values = np.broadcast_to(np.array([-2000, 500, 30], "i2"), (16, 3))
    store_values(path, values, syntax, PixelPaddingRangeLimit=500)
    assert load(path).hu[0, 0].tolist() == [-1024, 500, 30]


def test_padding_beyond_the_stored_bits_spares_the_value_it_aliases(
    write_stack: WriteStack,
) -> None:
    """-2000 in a 16-bit container reads 2096 in twelve bits, and so does dense bone."""
    (path,) = write_stack(n=1)
    values = np.full((16, 16), 1054, "<u2")
    values[0, :2] = (63536, 2096)
    store_values(path, values, BitsStored=12, RescaleIntercept="-1024", PixelPaddingValue=63536)
    assert load(path).hu[0, 0, :3].tolist() == [-1024, 1072, 30]


def test_an_empty_padding_value_is_none(write_stack: WriteStack) -> None:
    (path,) = write_stack(n=1)
    store_values(path, np.full((16, 16), -2000, "<i2"), PixelPaddingValue=None)
    assert load(path).hu[0, 0, 0] == -1024


def test_a_slice_is_read_with_its_padding(write_stack: WriteStack) -> None:
    (path,) = write_stack(n=1)
    store_values(path, RAMP.astype("<i2"), PixelPaddingValue=7)
    (header,) = index(path).series[0].headers
    stored = read_slice(header)
    assert isinstance(stored, StoredValues)
    assert np.array_equal(stored.values, RAMP)
    assert stored.is_padding is not None
    assert np.array_equal(stored.is_padding, RAMP == 7)


def test_a_file_that_is_gone_is_an_issue_and_the_others_are_read(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    """It is unreadable and not undecodable: the next time it may be there."""
    paths = write_stack()
    (series,) = index(tmp_path).series
    paths[1].unlink()
    first, second, *_ = read_slices(series.headers)
    assert isinstance(first, StoredValues)
    assert isinstance(second, Issue)
    assert second.code is IssueCode.UNREADABLE
    assert second.detail.startswith(f"{paths[1].name}: PixelData (7FE0,0010) cannot be read")


@pytest.mark.parametrize("high_bit", [10, 16])
def test_a_high_bit_that_does_not_fit_is_an_issue(write_stack: WriteStack, high_bit: int) -> None:
    (path,) = write_stack(n=1)
    store_values(path, RAMP.astype("<u2"), BitsStored=12, HighBit=high_bit)
    (header,) = index(path).series[0].headers
    issue = read_slice(header)
    assert isinstance(issue, Issue)
    assert issue.code is IssueCode.UNDECODABLE
    assert "HighBit (0028,0102) does not fit BitsStored (0028,0101)" in issue.detail


@pytest.mark.parametrize(
    ("bits", "high_bit", "change"),
    [
        (11, 10, lambda hu: (hu + 1024).astype("<u2")),
        (10, 9, lambda hu: hu.astype("<i2")),
        (8, 7, lambda hu: hu.astype("<i2")),
        (12, 11, lambda hu: ((hu + 1024) << 4).astype("<u2")),
        (12, 15, lambda hu: (hu + 1024).astype("<u2")),
    ],
    ids=["11 of 12 bits", "10 of 16 bits", "8 of 16 bits", "left-aligned", "right-aligned"],
)
def test_values_that_need_more_bits_than_they_have_are_doubted(
    write_stack: WriteStack,
    bits: int,
    high_bit: int,
    change: Callable[[np.ndarray], np.ndarray],
) -> None:
    (path,) = write_stack(n=1)
    values = change(lifelike_head(1)[0])
    store_values(path, values, BitsStored=bits, HighBit=high_bit, RescaleIntercept="-1024")
    (issue,) = (i for i in load(path).issues if i.code is IssueCode.IMPLAUSIBLE_HU)
    assert "BitsStored (0028,0101)" in issue.detail
    assert path.name in issue.detail


@pytest.mark.parametrize(
    ("bits", "change"),
    [
        (12, lambda hu: hu.clip(-1024, 2047).astype("<i2")),
        (12, lambda hu: (hu.clip(-1024, 2047) & 0xFFF).astype("<i2")),
        (16, lambda hu: hu.astype("<i2")),
        (15, lambda hu: hu.astype("<i2")),
    ],
    ids=["copies of the sign", "no copies of the sign", "16 bits", "15 bits"],
)
def test_unused_bits_without_data_are_not_doubted(
    write_stack: WriteStack, bits: int, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    (path,) = write_stack(n=1)
    hu = lifelike_head(1)[0]
    store_values(path, change(hu), BitsStored=bits)
    volume = load(path)
    assert np.array_equal(volume.hu[0], hu)
    assert not issue_codes(volume)


@pytest.mark.parametrize("syntax", ["", ExplicitVRBigEndian])
def test_an_overlay_in_unused_bits_is_no_data(write_stack: WriteStack, syntax: str) -> None:
    (path,) = write_stack(n=1)
    hu = lifelike_head(1)[0]
    values = (hu + 1024).astype("<u2")
    values[10:14, 10:50] |= 0x8000
    ds = pydicom.dcmread(path)
    ds.add_new(0x60000102, "US", 15)
    ds.save_as(path)
    store_values(path, values, syntax, BitsStored=12, RescaleIntercept="-1024")
    volume = load(path)
    assert np.array_equal(volume.hu[0], hu)
    assert not issue_codes(volume)


@pytest.mark.parametrize("padding", [{}, {"PixelPaddingValue": -2000}], ids=["none", "another"])
def test_a_fill_beyond_the_stored_bits_is_air(
    write_stack: WriteStack, padding: dict[str, Any]
) -> None:
    (path,) = write_stack(n=1)
    hu = lifelike_head(1)[0]
    values = np.where(hu < -990, 0x8000, hu.clip(-1024, 2047) & 0xFFF).astype("<u2")
    store_values(path, values, BitsStored=12, PixelRepresentation=1, **padding)
    volume = load(path)
    assert np.array_equal(volume.hu[0], np.where(hu < -990, -1024, hu))
    assert not issue_codes(volume)


@pytest.mark.parametrize(
    ("value", "limit", "intercept"),
    [(-32768, 32767, 0), (-32768, 32767, -1024), (-2000, -1, 0), (-3024, 1100, -1024)],
)
def test_a_range_of_padding_that_holds_hu_of_the_body_is_ignored(
    tmp_path: Path, write_stack: WriteStack, value: int, limit: int, intercept: int
) -> None:
    hu = lifelike_head(3)
    for path, pixels in zip(write_stack(n=3), hu, strict=True):
        stored = np.where(pixels < -995, value, pixels - intercept).astype("<i2")
        store_values(
            path,
            stored,
            PixelPaddingValue=value,
            PixelPaddingRangeLimit=limit,
            RescaleIntercept=str(intercept),
        )
    volume = load(tmp_path)
    assert np.array_equal(volume.hu, np.where(hu < -995, -1024, hu))
    (issue,) = volume.issues
    assert issue.code is IssueCode.PADDING_IGNORED
    assert "a000.dcm" in issue.detail
    assert "PixelPaddingRangeLimit (0028,0121)" in issue.detail
    assert "2 more slices" in issue.detail
