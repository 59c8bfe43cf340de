"""One SeriesInstanceUID is split into volumes where each part is regular, and else rejected."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ich3d.core.issues import IssueCode
from ich3d.dicom.assembly.grouping import Policy
from ich3d.dicom.index import index
from ich3d.dicom.uids import uid
from ich3d.dicom.write import SeriesToWrite, write_series
from tests.helpers.pixels import EditFile, WriteStack


@pytest.mark.parametrize(
    ("changes", "keyword"),
    [
        ({"pixel_spacing_mm": (0.6, 0.4)}, "PixelSpacing (0028,0030)"),
        ({"col_dir": (0.0, np.cos(0.2), np.sin(0.2))}, "ImageOrientationPatient (0020,0037)"),
        ({"hu": np.zeros((4, 20, 16), np.int16)}, "Rows (0028,0010)"),
        ({"hu": np.zeros((4, 16, 20), np.int16)}, "Columns (0028,0011)"),
        ({"study_uid": "2.25.77"}, "StudyInstanceUID (0020,000D)"),
    ],
)
class TestSeveralGeometries:
    def other(self, write_stack: WriteStack, changes: dict[str, Any], n: int) -> list[Path]:
        """`n` slices of another geometry, above those of the series of four, under its UID."""
        changes = {**changes, "hu": changes["hu"][:n]} if "hu" in changes else changes
        position_mm = np.array([(-100.0, -120.0, 200.0 + 5.0 * i) for i in range(n)])
        same = {
            "series_uid": uid("series", "a"),
            "study_uid": uid("study", "a"),
            "position_mm": position_mm,
        }
        return write_stack(**{"name": "b", "n": n, **same, **changes})

    def test_clean_stacks_are_a_volume_each(
        self, tmp_path: Path, write_stack: WriteStack, changes: dict[str, Any], keyword: str
    ) -> None:
        write_stack()
        self.other(write_stack, changes, n=3)
        indexed = index(tmp_path)
        first, second = indexed.series
        assert (first.volume_id, len(first)) == (uid("series", "a") + "-1", 4)
        assert (second.volume_id, len(second)) == (uid("series", "a") + "-2", 3)
        assert {series.series_uid for series in indexed.series} == {uid("series", "a")}
        for series in indexed.series:
            assert [issue.code for issue in series.issues] == [IssueCode.SEVERAL_VOLUMES]

    def test_a_stray_slice_is_rejected_by_itself_unless_it_is_of_another_study(
        self, tmp_path: Path, write_stack: WriteStack, changes: dict[str, Any], keyword: str
    ) -> None:
        write_stack()
        (stray,) = self.other(write_stack, changes, n=1)
        indexed = index(tmp_path)
        (rejected,) = indexed.rejected
        assert rejected.code is IssueCode.MIXED_GEOMETRY
        assert keyword in rejected.detail
        assert stray.name in rejected.detail
        if "study_uid" in changes:
            assert (indexed.series, len(rejected.paths)) == ((), 5)
            return
        assert (rejected.subject, rejected.paths) == (stray.name, (stray.name,))
        (series,) = indexed.series
        (issue,) = series.issues
        assert (len(series), issue.code) == (4, IssueCode.INCOMPLETE)
        assert stray.name in issue.detail

    def test_a_stray_slice_beside_a_gap_rejects_the_series(
        self, tmp_path: Path, write_stack: WriteStack, changes: dict[str, Any], keyword: str
    ) -> None:
        write_stack(n=6)[2].unlink()
        self.other(write_stack, changes, n=1)
        (rejected,) = index(tmp_path).rejected
        assert (rejected.code, len(rejected.paths)) == (IssueCode.MIXED_GEOMETRY, 6)

    def test_two_odd_slices_reject_the_series(
        self, tmp_path: Path, write_stack: WriteStack, changes: dict[str, Any], keyword: str
    ) -> None:
        write_stack()
        odd = self.other(write_stack, changes, n=2)
        indexed = index(tmp_path)
        assert not indexed.series
        (rejected,) = indexed.rejected
        assert rejected.code is IssueCode.MIXED_GEOMETRY
        assert len(rejected.paths) == 6
        assert keyword in rejected.detail
        for path in odd:
            assert path.name in rejected.detail


CORONAL = {"row_dir": (1.0, 0.0, 0.0), "col_dir": (0.0, 0.0, -1.0)}
SAGITTAL = {"row_dir": (0.0, 1.0, 0.0), "col_dir": (0.0, 0.0, -1.0)}


class TestScouts:
    """Localizers that ImageType does not name, under the UID of a head series."""

    def write(self, write_stack: WriteStack, name: str, **changes: Any) -> Path:
        same = {"series_uid": uid("series", "a"), "study_uid": uid("study", "a")}
        (path,) = write_stack(**{"name": name, "n": 1, **same, **changes})
        return path

    @pytest.mark.parametrize("spacing", [(0.5, 0.4), (1.0, 1.0)])
    def test_a_pair_is_left_out(
        self, tmp_path: Path, write_stack: WriteStack, spacing: tuple[float, float]
    ) -> None:
        write_stack()
        self.write(write_stack, "front", pixel_spacing_mm=spacing, **CORONAL)
        self.write(write_stack, "side", pixel_spacing_mm=spacing, **SAGITTAL)
        indexed = index(tmp_path)
        (series,) = indexed.series
        assert (len(series), series.issues, indexed.rejected) == (4, (), ())
        assert [(e.paths, e.code) for e in indexed.left_out] == [
            (("front000.dcm",), IssueCode.LOCALIZER),
            (("side000.dcm",), IssueCode.LOCALIZER),
        ]

    def test_one_is_left_out(self, tmp_path: Path, write_stack: WriteStack) -> None:
        write_stack()
        self.write(write_stack, "front", pixel_spacing_mm=(1.0, 1.0), **CORONAL)
        indexed = index(tmp_path)
        assert [entry.code for entry in indexed.left_out] == [IssueCode.LOCALIZER]
        assert (indexed.series[0].issues, indexed.rejected) == ((), ())

    def test_a_slice_that_only_lost_its_orientation_is_no_scout(
        self, tmp_path: Path, write_stack: WriteStack
    ) -> None:
        write_stack()
        self.write(write_stack, "odd", **CORONAL)
        indexed = index(tmp_path)
        assert [entry.code for entry in indexed.rejected] == [IssueCode.MIXED_GEOMETRY]
        assert [len(series) for series in indexed.series] == [4]

    def test_a_pair_and_a_stray_cost_themselves(
        self, tmp_path: Path, write_stack: WriteStack
    ) -> None:
        write_stack()
        self.write(write_stack, "front", **CORONAL)
        self.write(write_stack, "side", **SAGITTAL)
        self.write(write_stack, "odd", pixel_spacing_mm=(0.7, 0.7))
        indexed = index(tmp_path)
        assert [entry.paths for entry in indexed.rejected] == [("odd000.dcm",)]
        assert len(indexed.left_out) == 2
        assert [len(series) for series in indexed.series] == [4]

    def test_a_coronal_stack_is_a_volume(self, tmp_path: Path, write_stack: WriteStack) -> None:
        write_stack()
        position_mm = np.array([(0.0, 3.0 * i, 0.0) for i in range(3)])
        same = {"series_uid": uid("series", "a"), "study_uid": uid("study", "a")}
        write_stack(name="b", n=3, position_mm=position_mm, **same, **CORONAL)
        assert [len(series) for series in index(tmp_path).series] == [4, 3]


def test_odd_slices_scattered_over_a_series_reject_it(
    tmp_path: Path, write_stack: WriteStack, edit_file: EditFile
) -> None:
    paths = write_stack(n=12)
    for i in (2, 3, 9):
        edit_file(paths[i], PixelSpacing=[0.7, 0.7])
    assert [entry.code for entry in index(tmp_path).rejected] == [IssueCode.MIXED_GEOMETRY]


def test_a_rounding_of_the_geometry_is_no_difference(
    tmp_path: Path, write_stack: WriteStack, edit_file: EditFile
) -> None:
    paths = write_stack()
    edit_file(
        paths[1], PixelSpacing=[0.5001, 0.4001], ImageOrientationPatient=[1, 0, 0, 0, 1, 0.0005]
    )
    (series,) = index(tmp_path).series
    assert len(series) == 4


@pytest.mark.parametrize(
    ("changes", "together"),
    [
        ({"PixelSpacing": [0.5004, 0.4]}, True),
        ({"PixelSpacing": [0.5006, 0.4]}, False),
        ({"PixelSpacing": [0.5, 0.39968]}, True),
        ({"PixelSpacing": [0.5, 0.39952]}, False),
    ],
)
def test_spacing_parts_from_a_thousandth_on(
    tmp_path: Path,
    write_stack: WriteStack,
    edit_file: EditFile,
    changes: dict[str, Any],
    together: bool,
) -> None:
    edit_file(write_stack()[1], **changes)
    indexed = index(tmp_path)
    assert [len(series) for series in indexed.series] == ([4] if together else [])
    assert [entry.code for entry in indexed.rejected] == (
        [] if together else [IssueCode.MIXED_GEOMETRY]
    )  # the slice is the second of four, so its loss leaves a gap


def test_two_patients_under_one_series_uid_are_rejected(
    tmp_path: Path, write_stack: WriteStack, edit_file: EditFile
) -> None:
    paths = write_stack()
    edit_file(paths[3], PatientID="Somebody-Else")
    (rejected,) = index(tmp_path).rejected
    assert rejected.code is IssueCode.MIXED_PATIENTS
    assert "PatientID (0010,0020)" in rejected.detail
    assert "Somebody" not in rejected.detail
    assert len(rejected.paths) == 4


@pytest.mark.parametrize("missing", [0, 2])
@pytest.mark.parametrize("value", [None, ""])
def test_a_slice_without_a_patient_among_those_of_one_rejects_the_series(
    tmp_path: Path, write_stack: WriteStack, edit_file: EditFile, missing: int, value: str | None
) -> None:
    paths = write_stack("deep")
    edit_file(paths[missing], PatientID=value)
    (rejected,) = index(tmp_path).rejected
    assert rejected.code is IssueCode.MIXED_PATIENTS
    assert rejected.detail == (
        f"deep/{paths[missing].name}: PatientID (0010,0020) is missing, "
        "other files of the series have one"
    )
    assert len(rejected.paths) == 4


def test_a_series_without_a_patient_is_a_volume(
    tmp_path: Path, write_stack: WriteStack, edit_file: EditFile
) -> None:
    for path in write_stack():
        edit_file(path, PatientID=None)
    (series,) = index(tmp_path).series
    assert (series.patient_id, series.issues) == ("", ())


def test_a_derived_series_uid_does_not_depend_on_the_folder(
    tmp_path: Path, write_stack: WriteStack, edit_file: EditFile
) -> None:
    for path in write_stack("here"):
        edit_file(path, SeriesInstanceUID=None)
    before = index(tmp_path).series[0].volume_id
    (tmp_path / "here").rename(tmp_path / "there")
    assert index(tmp_path).series[0].volume_id == before


def test_one_sop_uid_at_two_positions_is_a_warning(tmp_path: Path, write_stack: WriteStack) -> None:
    names = [uid("sop", "a", i) for i in (0, 1, 1, 3)]
    paths = write_stack(sop_uids=names)
    (series,) = index(tmp_path).series
    assert [header.file.path for header in series.headers] == paths
    (issue,) = series.issues
    assert issue.code is IssueCode.REPEATED_SOP_UID
    for word in ("SOPInstanceUID (0008,0018)", paths[1].name, paths[2].name):
        assert word in issue.detail


def test_two_kernels_are_split_by_headers_alone(tmp_path: Path, write_stack: WriteStack) -> None:
    for name, kernel in (("a", "H31s"), ("b", "H60s")):
        write_stack(
            name=name, series_uid="2.25.9", study_uid="2.25.8", extra={"ConvolutionKernel": kernel}
        )
    indexed = index(tmp_path, policy=Policy(headers_only=True))
    assert [len(series) for series in indexed.series] == [4, 4]
    assert not indexed.left_out


def positions(*z_mm: float) -> np.ndarray:
    """Positions (Z, 3) in mm at the heights `z_mm`."""
    return np.array([(-100.0, -120.0, z) for z in z_mm])


@settings(max_examples=10)
@given(names=st.permutations(range(8)))
def test_an_index_does_not_depend_on_file_names(
    make_stack: Callable[..., SeriesToWrite], names: list[int]
) -> None:
    """Two geometries, a copy and a gap under one UID give the same volumes under any names."""
    z = [0.0, 5.0, 10.0, 10.0]
    low = make_stack(n=4, position_mm=positions(*z))
    hu = low.hu.copy()
    hu[3] = hu[2]
    low = make_stack(n=4, position_mm=positions(*z), hu=hu, file_names=[f"{i}" for i in names[:4]])
    high = make_stack(n=4, name="b", series_uid=low.series_uid, study_uid=low.study_uid,
                      position_mm=positions(60, 65, 70, 75), pixel_spacing_mm=(0.7, 0.7),
                      file_names=[f"{i}" for i in names[4:]])  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        write_series(low, Path(folder))
        write_series(high, Path(folder))
        indexed = index(Path(folder))
    kept = min(low.sop_uids[2:])
    assert [[h.sop_uid for h in s.headers] for s in indexed.series] == [
        [*low.sop_uids[:2], kept],
        list(high.sop_uids),
    ]
    assert [entry.code for entry in indexed.left_out] == [IssueCode.DUPLICATE]
