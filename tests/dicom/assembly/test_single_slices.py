"""A head of which each slice has a SeriesInstanceUID of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ich3d.core.issues import IssueCode
from ich3d.core.types import Volume
from ich3d.dicom.assembly.grouping import Policy
from ich3d.dicom.index import index
from ich3d.dicom.uids import uid
from ich3d.dicom.volume import load_volume
from tests.helpers.pixels import EditFile, WriteStack

LENIENT = Policy(lenient=True)

WriteHead = Callable[..., list[Path]]


@pytest.fixture
def write_head(write_stack: WriteStack, edit_file: EditFile) -> WriteHead:
    """Writes eight slices of one study, each of a series of its own."""

    def write(name: str = "a", n: int = 8, **extra: Any) -> list[Path]:
        paths = write_stack(
            name=name, n=n, study_uid="2.25.8", extra={"FrameOfReferenceUID": "2.25.9", **extra}
        )
        for i, path in enumerate(paths):
            edit_file(path, SeriesInstanceUID=uid("own", name, i), SeriesNumber=i + 1)
        return paths

    return write


def codes(path: Path, policy: Policy = Policy()) -> list[list[IssueCode]]:  # noqa: B008
    """The codes of each series."""
    return [[issue.code for issue in series.issues] for series in index(path, policy=policy).series]


def test_strict_says_that_the_slices_fit_and_lenient_joins_them(
    tmp_path: Path, write_head: WriteHead
) -> None:
    paths = write_head()
    indexed = index(tmp_path)
    assert len(indexed.series) == 8
    for series in indexed.series:
        single, fits = series.issues
        assert (single.code, fits.code) == (IssueCode.SINGLE_SLICE, IssueCode.UID_PER_SLICE)
        assert "8 single slices, from a000.dcm to a007.dcm" in fits.detail
        assert "join them with --lenient" in fits.detail

    (series,) = index(tmp_path, policy=LENIENT).series
    assert [header.file.path for header in series.headers] == paths
    assert [issue.code for issue in series.issues] == [IssueCode.UID_PER_SLICE]
    assert (series.is_regular, series.volume_id) == (True, series.series_uid)
    assert isinstance(load_volume(series), Volume)


def test_two_kernels_are_joined_apart(tmp_path: Path, write_head: WriteHead) -> None:
    write_head("a", ConvolutionKernel="H31s")
    write_head("b", ConvolutionKernel="H60s")
    first, second = index(tmp_path, policy=LENIENT).series
    for series in (first, second):
        assert (len(series), len({header.kernel for header in series.headers})) == (8, 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"StudyInstanceUID": "2.25.77"},
        {"FrameOfReferenceUID": "2.25.77"},
        {"PatientID": "another"},
        {"PixelSpacing": [0.7, 0.7]},
    ],
)
def test_slices_that_do_not_belong_together_stay_single(
    tmp_path: Path, write_head: WriteHead, edit_file: EditFile, changes: dict[str, Any]
) -> None:
    *_, third = write_head(n=3)
    edit_file(third, **changes)
    assert codes(tmp_path, LENIENT) == [[IssueCode.SINGLE_SLICE]] * 3


def test_slices_with_a_gap_fit_a_series_that_has_one(tmp_path: Path, write_head: WriteHead) -> None:
    write_head(n=5)[1].unlink()
    assert codes(tmp_path) == [[IssueCode.SINGLE_SLICE, IssueCode.UID_PER_SLICE]] * 4
    assert codes(tmp_path, LENIENT) == [[IssueCode.UID_PER_SLICE, IssueCode.IRREGULAR_SPACING]]


@pytest.mark.parametrize("kept", [(0, 1, 7), (0, 5)])
def test_few_slices_far_apart_stay_single(
    tmp_path: Path, write_head: WriteHead, kept: tuple[int, ...]
) -> None:
    for i, path in enumerate(write_head(n=8)):
        if i not in kept:
            path.unlink()
    assert codes(tmp_path, LENIENT) == [[IssueCode.SINGLE_SLICE]] * len(kept)


def test_single_slices_of_many_studies_stay_single(tmp_path: Path, write_stack: WriteStack) -> None:
    for i in range(4):
        position_mm = np.array([(-100.0, -120.0, 5.0 * i)])
        write_stack(name=f"s{i}", n=1, position_mm=position_mm)
    assert codes(tmp_path, LENIENT) == [[IssueCode.SINGLE_SLICE]] * 4
