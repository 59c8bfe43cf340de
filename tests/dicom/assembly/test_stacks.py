"""Slices at one position: copies, sweeps that overlap, and slices that differ."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless

from ich3d.core.issues import IssueCode
from ich3d.core.types import Volume
from ich3d.dicom.index import index
from ich3d.dicom.uids import uid
from ich3d.dicom.volume import load_volume
from tests.helpers.pixels import EditFile, WriteStack

SWEEP_ATTRIBUTES = [
    ("ConvolutionKernel", "(0018,1210)", "H31s", "H60s"),
    ("AcquisitionNumber", "(0020,0012)", "1", "2"),
    (
        "ImageType",
        "(0008,0008)",
        ["ORIGINAL", "PRIMARY", "AXIAL"],
        ["DERIVED", "SECONDARY", "AVERAGE"],
    ),
]


@pytest.fixture
def write_sweep(write_stack: WriteStack) -> Callable[..., list[Path]]:
    """Writes `n` slices of one series from `lowest` mm on, 5 mm apart; `name` seeds the pixels."""

    def write(name: str, lowest: float = 0.0, n: int = 4, **extra: Any) -> list[Path]:
        return write_stack(
            name=name, n=n, series_uid=uid("series", "a"), study_uid=uid("study", "a"), extra=extra,
            position_mm=np.array([(-100.0, -120.0, lowest + 5.0 * i) for i in range(n)]),
        )  # fmt: skip

    return write


@pytest.mark.parametrize(("keyword", "tag", "one", "other"), SWEEP_ATTRIBUTES)
@pytest.mark.parametrize("shift", [0.0, 2.5, 5.0, 15.0])
def test_sweeps_that_overlap_are_a_volume_each(
    tmp_path: Path,
    write_sweep: Callable[..., list[Path]],
    keyword: str,
    tag: str,
    one: str | list[str],
    other: str | list[str],
    shift: float,
) -> None:
    """At the same positions, between them, one further, and with one position in common."""
    write_sweep("a", **{keyword: one})
    write_sweep("b", shift, **{keyword: other})
    indexed = index(tmp_path)
    assert not indexed.rejected
    names = ["a", "b"] if shift else sorted("ab", key=lambda name: uid("sop", name, 0))
    for number, (name, series) in enumerate(zip(names, indexed.series, strict=True), start=1):
        assert series.volume_id == f"{uid('series', 'a')}-{number}"
        assert [header.sop_uid for header in series.headers] == [
            uid("sop", name, i) for i in range(4)
        ]
        (issue,) = series.issues
        assert issue.code is IssueCode.SEVERAL_VOLUMES
        assert f"{keyword} {tag}" in issue.detail
        assert isinstance(load_volume(series), Volume)


def test_two_kernels_of_two_acquisitions_are_four_volumes(
    tmp_path: Path, write_sweep: Callable[..., list[Path]]
) -> None:
    for name, kernel, number in (
        ("a", "H31s", 1),
        ("b", "H60s", 1),
        ("c", "H31s", 2),
        ("d", "H60s", 2),
    ):
        write_sweep(name, 2.5 * number, ConvolutionKernel=kernel, AcquisitionNumber=number)
    indexed = index(tmp_path)
    assert [len(series) for series in indexed.series] == [4, 4, 4, 4]
    for series in indexed.series:
        assert len({(header.kernel, header.acquisition_number) for header in series.headers}) == 1


def test_one_sweep_of_many_acquisition_numbers_is_one_volume(
    tmp_path: Path, write_stack: WriteStack, edit_file: EditFile
) -> None:
    numbers = [i * 3 // 4 for i in range(28)]
    assert len(set(numbers)) == 21
    for path, number in zip(write_stack(n=28), numbers, strict=True):
        edit_file(path, AcquisitionNumber=number)
    (series,) = index(tmp_path).series
    assert (len(series), series.issues) == (28, ())


@pytest.mark.parametrize(("keyword", "tag", "one", "other"), SWEEP_ATTRIBUTES[1:])
def test_an_attribute_that_changes_once_does_not_split_the_stack(
    tmp_path: Path,
    write_sweep: Callable[..., list[Path]],
    keyword: str,
    tag: str,
    one: str | list[str],
    other: str | list[str],
) -> None:
    write_sweep("a", **{keyword: one})
    write_sweep("b", 20.0, **{keyword: other})
    (series,) = index(tmp_path).series
    assert (len(series), series.issues) == (8, ())


def test_a_kernel_that_alternates_without_clean_stacks_is_an_issue(
    tmp_path: Path, write_stack: WriteStack, edit_file: EditFile
) -> None:
    paths = write_stack(n=6)
    for path in (paths[1], paths[4]):
        edit_file(path, ConvolutionKernel="H60s")
    (series,) = index(tmp_path).series
    assert [issue.code for issue in series.issues] == [IssueCode.INTERLEAVED]
    assert "ConvolutionKernel (0018,1210)" in series.issues[0].detail


def test_a_sweep_too_short_to_stand_alone_rejects_the_series(
    tmp_path: Path, write_sweep: Callable[..., list[Path]]
) -> None:
    first = write_sweep("a", ConvolutionKernel="H31s")
    second_sweep = write_sweep("b", n=2, ConvolutionKernel="H60s")
    (rejected,) = index(tmp_path).rejected
    assert rejected.code is IssueCode.SAME_POSITION
    assert len(rejected.paths) == 6
    assert first[0].name in rejected.detail
    assert second_sweep[0].name in rejected.detail


def test_equal_slices_of_two_kernels_stay_in_both(
    tmp_path: Path, write_stack: WriteStack, write_sweep: Callable[..., list[Path]]
) -> None:
    """Air above the head looks the same under every kernel; that makes no copy of it."""
    air = np.full((4, 16, 16), -1000, np.int16)
    for name, kernel in (("a", "H31s"), ("b", "H60s")):
        hu = air.copy()
        hu[:3] = ord(name)
        write_stack(
            name=name, hu=hu, extra={"ConvolutionKernel": kernel},
            series_uid=uid("series", "a"), study_uid=uid("study", "a"),
        )  # fmt: skip
    indexed = index(tmp_path)
    assert [len(series) for series in indexed.series] == [4, 4]
    assert not indexed.left_out


def test_copies_are_left_out_and_named(tmp_path: Path, write_stack: WriteStack) -> None:
    paths = write_stack()
    shutil.copy(paths[2], tmp_path / "zz-copy")
    shutil.copy(paths[2], tmp_path / "zz-more")
    indexed = index(tmp_path)
    assert [len(series) for series in indexed.series] == [4]
    assert {entry.paths for entry in indexed.left_out} == {("zz-copy",), ("zz-more",)}
    assert {entry.code for entry in indexed.left_out} == {IssueCode.DUPLICATE}
    assert paths[2].name in indexed.left_out[0].detail


def test_a_copy_in_another_transfer_syntax_is_a_copy(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    path = write_stack()[1]
    ds = pydicom.dcmread(path)
    ds.compress(RLELossless, generate_instance_uid=False)
    ds.save_as(tmp_path / "rle")
    assert [entry.code for entry in index(tmp_path).left_out] == [IssueCode.DUPLICATE]


@pytest.mark.parametrize(
    "changes",
    [
        {"PixelData": bytes(512)},
        {"RescaleIntercept": "-24"},
        {"ImagePositionPatient": [-90, -120, 5]},
    ],
    ids=["pixels", "rescale", "position"],
)
def test_different_slices_at_one_height_reject_the_series(
    tmp_path: Path, write_stack: WriteStack, edit_file: EditFile, changes: dict[str, Any]
) -> None:
    paths = write_stack()
    second = tmp_path / "second.dcm"
    shutil.copy(paths[1], second)
    edit_file(second, **changes)
    indexed = index(tmp_path)
    (rejected,) = indexed.rejected
    assert rejected.code is IssueCode.SAME_POSITION
    assert paths[1].name in rejected.detail
    assert "second.dcm" in rejected.detail
    assert len(rejected.paths) == 5


def test_a_copy_that_cannot_be_decoded_rejects_the_series(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    ds = pydicom.dcmread(write_stack()[1])
    ds.compress(RLELossless, generate_instance_uid=False)
    ds.PixelData = encapsulate([b"\xff" * 64])
    ds.save_as(tmp_path / "second")
    (rejected,) = index(tmp_path).rejected
    assert rejected.code is IssueCode.UNDECODABLE
    assert "second" in rejected.detail
    assert len(rejected.paths) == 5
