"""Two sweeps under one SeriesInstanceUID are two volumes or rejected, never one volume."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ich3d.core.issues import IssueCode
from ich3d.dicom.index import index
from ich3d.dicom.uids import uid
from tests.helpers.enhanced import functional_group, write_enhanced
from tests.helpers.pixels import EditFile, WriteStack

ATTRIBUTES = [
    ("FrameOfReferenceUID", "2.25.1", "2.25.2"),
    ("SeriesNumber", 2, 3),
    ("SeriesTime", "101500", "101700"),
    ("AcquisitionTime", "101500", "101700"),
    ("KVP", "120", "80"),
    ("SliceThickness", "5.0", "2.5"),
    ("ConvolutionKernel", "H31s", "H60s"),
    ("TemporalPositionIdentifier", 1, 2),
    ("ContrastBolusAgent", "", "Iohexol"),
]
DATED = [
    {"SeriesTime": "101500", "SeriesDate": ("20200101", "20200102")},
    {"AcquisitionTime": "101500", "AcquisitionDate": ("20200101", "20200102")},
    {"AcquisitionDateTime": ("20200101101500", "20200101101700+0100")},
]
"""Attributes of two sweeps; a pair holds the value of each."""
SHIFTS = {"half": 2.5, "third": 5 / 3, "head to tail": 40.0}

WriteSweep = Callable[..., list[Path]]


@pytest.fixture
def write_sweep(write_stack: WriteStack) -> WriteSweep:
    """Writes eight slices of one series from `lowest` mm on, 5 mm apart; `name` seeds pixels."""

    def write(name: str, lowest: float = 0.0, n: int = 8, **extra: Any) -> list[Path]:
        same: dict[str, Any] = {"FrameOfReferenceUID": "2.25.3"}
        return write_stack(
            name=name, n=n, series_uid=uid("series", "a"), study_uid=uid("study", "a"),
            position_mm=np.array([(-100.0, -120.0, lowest + 5.0 * i) for i in range(n)]),
            extra=same | extra,
        )  # fmt: skip

    return write


@pytest.mark.parametrize(("keyword", "one", "other"), ATTRIBUTES)
@pytest.mark.parametrize("shift", SHIFTS.values(), ids=SHIFTS)
def test_two_sweeps_are_two_volumes(
    tmp_path: Path, write_sweep: WriteSweep, keyword: str, one: Any, other: Any, shift: float
) -> None:
    write_sweep("a", **{keyword: one})
    write_sweep("b", shift, **{keyword: other})
    indexed = index(tmp_path)
    assert not indexed.rejected
    assert [[header.sop_uid for header in series.headers] for series in indexed.series] == [
        [uid("sop", name, i) for i in range(8)] for name in "ab"
    ]
    shown = keyword.replace("Identifier", "Index")
    for series in indexed.series:
        (issue,) = [i for i in series.issues if i.code is IssueCode.SEVERAL_VOLUMES]
        assert shown in issue.detail


@pytest.mark.parametrize("attributes", DATED)
@pytest.mark.parametrize("shift", SHIFTS.values(), ids=SHIFTS)
def test_two_sweeps_of_other_days_or_dated_times_are_two_volumes(
    tmp_path: Path, write_sweep: WriteSweep, attributes: dict[str, Any], shift: float
) -> None:
    for i, name in enumerate("ab"):
        own = {key: v[i] if isinstance(v, tuple) else v for key, v in attributes.items()}
        write_sweep(name, i * shift, **own)
    assert [len(series) for series in index(tmp_path).series] == [8, 8]


@pytest.mark.parametrize(("shift", "n_volumes"), [(2.5, 2), (40.0, 1)])
def test_a_description_tells_sweeps_that_interleave(
    tmp_path: Path, write_sweep: WriteSweep, shift: float, n_volumes: int
) -> None:
    write_sweep("a", SeriesDescription="thin")
    write_sweep("b", shift, SeriesDescription="bone")
    assert len(index(tmp_path).series) == n_volumes


def test_a_sweep_past_midnight_with_dates_is_one_volume(
    tmp_path: Path, write_stack: WriteStack, edit_file: EditFile
) -> None:
    for i, path in enumerate(write_stack(n=8)):
        times = {"AcquisitionDate": "20200102", "AcquisitionTime": f"00000{i}"}
        if i < 4:
            times = {"AcquisitionDate": "20200101", "AcquisitionTime": f"23595{i + 4}"}
        edit_file(path, **times)
    (series,) = index(tmp_path).series
    assert (len(series), series.issues) == (8, ())


@pytest.mark.parametrize(("keyword", "one", "other"), ATTRIBUTES)
def test_two_sweeps_that_are_no_clean_stacks_are_rejected_with_the_attribute(
    tmp_path: Path, write_sweep: WriteSweep, keyword: str, one: Any, other: Any
) -> None:
    write_sweep("a", **{keyword: one})
    write_sweep("b", 2.5, **{keyword: other})[3].unlink()
    indexed = index(tmp_path)
    assert not indexed.series
    (rejected,) = indexed.rejected
    assert (rejected.code, len(rejected.paths)) == (IssueCode.MIXED_SWEEPS, 15)
    assert keyword.replace("Identifier", "Index") in rejected.detail


def test_three_sweeps_in_thirds_are_three_volumes(tmp_path: Path, write_sweep: WriteSweep) -> None:
    for number, name in enumerate("abc"):
        write_sweep(name, number * 5 / 3, SeriesTime=f"10{number}500")
    assert [len(series) for series in index(tmp_path).series] == [8, 8, 8]


def test_two_sweeps_whose_slices_have_times_of_their_own_are_two_volumes(
    tmp_path: Path, write_sweep: WriteSweep, edit_file: EditFile
) -> None:
    for minute, paths in enumerate((write_sweep("a"), write_sweep("b", 2.5))):
        for second, path in enumerate(paths):
            edit_file(path, AcquisitionTime=f"10{minute:02d}{2 * second:02d}.5")
    assert [len(series) for series in index(tmp_path).series] == [8, 8]


@pytest.mark.parametrize("start", ["101500", "235950"])
def test_a_sweep_of_many_times_and_acquisition_numbers_is_one_volume(
    tmp_path: Path, write_stack: WriteStack, edit_file: EditFile, start: str
) -> None:
    began = int(start[:2]) * 3600 + int(start[2:4]) * 60 + int(start[4:])
    for i, path in enumerate(write_stack(n=28)):
        second = (began + 3 * (i // 2)) % 86400
        time = f"{second // 3600:02d}{second // 60 % 60:02d}{second % 60:02d}.25"
        edit_file(path, AcquisitionTime=time, AcquisitionNumber=i * 3 // 4)
    (series,) = index(tmp_path).series
    assert (len(series), series.issues) == (28, ())


@pytest.mark.parametrize(
    "changes",
    [
        {"SliceThickness": ["5.0", "4.99"]},
        {"SliceThickness": ["1.249", "1.251"]},
        {"KVP": ["120", "120.0"]},
        {"KVP": ["120", "+120.00"]},
        {"SeriesTime": ["101500", "101500.000"]},
        {"SeriesNumber": ["2", "02"]},
    ],
)
def test_other_spellings_are_one_sweep(
    tmp_path: Path, write_stack: WriteStack, edit_file: EditFile, changes: dict[str, list[str]]
) -> None:
    for i, path in enumerate(write_stack(n=8)):
        edit_file(path, **{keyword: values[i // 4] for keyword, values in changes.items()})
    (series,) = index(tmp_path).series
    assert (len(series), series.issues) == (8, ())


@pytest.mark.parametrize("keyword", ["FrameOfReferenceUID", "SeriesNumber", "KVP"])
def test_a_sweep_that_lacks_an_attribute_is_another_one(
    tmp_path: Path, write_stack: WriteStack, edit_file: EditFile, keyword: str
) -> None:
    for path in write_stack(n=8, extra={"KVP": "120"})[4:]:
        edit_file(path, **{keyword: None})
    assert [len(series) for series in index(tmp_path).series] == [4, 4]


def test_sweeps_that_overlap_and_have_a_gap_are_rejected_with_the_attribute(
    tmp_path: Path, write_sweep: WriteSweep
) -> None:
    write_sweep("a", SeriesNumber=1)
    write_sweep("b", 20.0, SeriesNumber=2)[5].unlink()
    (rejected,) = index(tmp_path).rejected
    assert (rejected.code, len(rejected.paths)) == (IssueCode.MIXED_SWEEPS, 15)
    assert "SeriesNumber (0020,0011)" in rejected.detail


def test_a_uid_of_its_own_for_each_slice_says_nothing(
    tmp_path: Path, write_stack: WriteStack, edit_file: EditFile
) -> None:
    for i, path in enumerate(write_stack(n=8)):
        edit_file(path, FrameOfReferenceUID=f"2.25.{i + 1}")
    (series,) = index(tmp_path).series
    assert (len(series), series.issues) == (8, ())


def test_dual_energy_in_two_series_stays_two_series(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    for name, kvp in (("low", "80"), ("high", "120")):
        write_stack(name=name, n=8, study_uid="2.25.8", extra={"KVP": kvp})
    first, second = index(tmp_path).series
    assert (first.issues, second.issues) == ((), ())


@pytest.mark.parametrize(
    "macro",
    [
        lambda phase: functional_group("FrameContentSequence", TemporalPositionIndex=phase),
        lambda phase: functional_group("FrameContentSequence", StackID=str(phase)),
        lambda phase: functional_group(
            "FrameContentSequence", FrameReferenceDateTime=f"2020010110{10 + phase}00"
        ),
        lambda phase: functional_group(
            "TemporalPositionSequence", TemporalPositionTimeOffset=10.0 * phase
        ),
        lambda phase: functional_group(
            "ContrastBolusUsageSequence",
            ContrastBolusAgentAdministered="YES" if phase == 2 else "NO",
        ),
        lambda phase: functional_group(
            "CardiacSynchronizationSequence", NominalPercentageOfCardiacPhase=10.0 * phase
        ),
        lambda phase: functional_group(
            "ContrastBolusUsageSequence",
            ContrastBolusAgentPhase="POST_CONTRAST" if phase == 2 else "PRE_CONTRAST",
        ),
    ],
)
def test_two_phases_of_an_enhanced_file_are_two_volumes(
    tmp_path: Path, macro: Callable[[int], Any]
) -> None:
    write_enhanced(tmp_path, n=8, frame_groups=lambda frame: macro(1 + (frame > 4)))
    first, second = index(tmp_path).series
    assert [[header.frame for header in series.headers] for series in (first, second)] == [
        [2, 4, 1, 3],
        [6, 8, 5, 7],
    ]


@pytest.mark.parametrize(("keyword", "one", "other"), ATTRIBUTES)
def test_series_that_lost_their_uids_are_parted_all_the_same(
    tmp_path: Path,
    write_sweep: WriteSweep,
    edit_file: EditFile,
    keyword: str,
    one: Any,
    other: Any,
) -> None:
    paths = [
        *write_sweep("a", **{keyword: one}),
        *write_sweep("b", 2.5, **{keyword: other}),
    ]
    for path in paths:
        edit_file(path, SeriesInstanceUID=None)
    indexed = index(tmp_path)
    assert [len(series) for series in indexed.series] == [8, 8]
    assert all(IssueCode.NO_SERIES_UID in {i.code for i in s.issues} for s in indexed.series)


def test_an_unusable_file_without_a_uid_rejects_its_series_number_alone(
    tmp_path: Path, write_sweep: WriteSweep, edit_file: EditFile
) -> None:
    paths = [*write_sweep("a", SeriesNumber=1), *write_sweep("b", 2.5, SeriesNumber=2)]
    for path in paths:
        edit_file(path, SeriesInstanceUID=None)
    edit_file(paths[-1], PixelSpacing=None)
    indexed = index(tmp_path)
    assert [len(series) for series in indexed.series] == [8]
    assert [(r.code, len(r.paths)) for r in indexed.rejected] == [(IssueCode.NO_PIXEL_SPACING, 8)]
