"""A slice that lost its SeriesInstanceUID and the series that it fits name each other."""

from pathlib import Path
from typing import Any

import pytest

from ich3d.core.issues import IssueCode
from ich3d.dicom.index import index
from ich3d.dicom.uids import uid
from tests.helpers.pixels import EditFile, WriteStack


@pytest.mark.parametrize("lost", [0, 3, 6])
def test_both_volumes_name_the_slice_that_lost_its_series_uid(
    tmp_path: Path, write_stack: WriteStack, edit_file: EditFile, lost: int
) -> None:
    """At an end of the series there is no gap that would show it."""
    paths = write_stack("deep", n=7)
    edit_file(paths[lost], SeriesInstanceUID=None)
    indexed = index(tmp_path)
    assert not indexed.rejected
    parent, orphan = sorted(indexed.series, key=len, reverse=True)
    assert (len(parent), len(orphan)) == (6, 1)
    name = f"deep/{paths[lost].name}"
    assert IssueCode.IRREGULAR_SPACING in {issue.code for issue in parent.issues} or lost != 3
    assert parent.issues[-1].code is IssueCode.INCOMPLETE
    assert f"{name}: SeriesInstanceUID (0020,000E) is missing" in parent.issues[-1].detail
    assert {issue.code for issue in orphan.issues} == {
        IssueCode.NO_SERIES_UID,
        IssueCode.SINGLE_SLICE,
    }
    assert orphan.issues[-1].detail.startswith(f"{name}: ")
    assert uid("series", "a") in orphan.issues[-1].detail


@pytest.mark.parametrize(
    "changes",
    [
        {"StudyInstanceUID": "2.25.1"},
        {"PatientID": "Other"},
        {"PixelSpacing": [0.7, 0.7]},
        {"ImagePositionPatient": [-100, -120, 17.5]},
        {"ImagePositionPatient": [-100, -120, 60]},
        {"ImagePositionPatient": [-100, -120, 10]},
    ],
    ids=["study", "patient", "spacing", "between", "far off", "taken"],
)
def test_a_slice_without_a_series_uid_that_fits_nowhere_stands_alone(
    tmp_path: Path, write_stack: WriteStack, edit_file: EditFile, changes: dict[str, Any]
) -> None:
    paths = write_stack(n=7)
    edit_file(paths[3], SeriesInstanceUID=None, **changes)
    parent, orphan = sorted(index(tmp_path).series, key=len, reverse=True)
    assert [issue.code for issue in parent.issues] == [IssueCode.IRREGULAR_SPACING]
    assert [issue.code for issue in orphan.issues] == [
        IssueCode.NO_SERIES_UID,
        IssueCode.SINGLE_SLICE,
    ]
