"""What pixels show: slices that cannot be decoded, and what that means for the rest of a series."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ich3d.cli.parser import main
from ich3d.core.issues import IssueCode
from ich3d.core.types import Rejected, Series, Volume
from ich3d.dicom.assembly.grouping import Policy
from ich3d.dicom.index import Index, index
from ich3d.dicom.uids import uid
from ich3d.dicom.validate import (
    check_pixels,
    group_by_series_uid,
    leave_out_undecodable,
    load_group,
    load_volumes,
)
from ich3d.dicom.volume import load_volume
from tests.helpers.enhanced import damage_last_frame, functional_group, write_enhanced
from tests.helpers.pixels import EditFile, WriteStack
from tests.helpers.undecodable import garble

KERNELS = (("a", "H31s"), ("b", "H60s"))


def accounted(checked: Index) -> list[str]:
    """The names of all files that an index accounts for."""
    in_series = [header.file.name for series in checked.series for header in series.headers]
    left_out = [path for entry in checked.left_out for path in entry.paths]
    rejected = [path for entry in checked.rejected for path in entry.paths]
    return sorted(in_series + left_out + rejected)


@pytest.fixture
def two_kernels(tmp_path: Path, write_stack: WriteStack) -> Path:
    """A folder with three volumes of four slices.

    Two share a SeriesInstanceUID, and one of these has a slice that cannot be decoded.
    """
    write_stack("in/c", name="c")
    for name, kernel in KERNELS:
        paths = write_stack(
            f"in/{name}",
            name=name,
            series_uid="2.25.9",
            study_uid="2.25.8",
            position_mm=np.array([(0, 0, 5 * i + ord(name)) for i in range(4)]),
            extra={"ConvolutionKernel": kernel},
        )
    garble(paths[1])
    return tmp_path / "in"


def test_volumes_are_grouped_in_the_order_of_their_first(two_kernels: Path) -> None:
    other, first, second = index(two_kernels).series
    assert (first.volume_id, second.volume_id) == ("2.25.9-1", "2.25.9-2")
    assert group_by_series_uid([second, other, first]) == [(second, first), (other,)]


def test_a_group_is_loaded_whole(two_kernels: Path) -> None:
    other, *_ = index(two_kernels).series
    loaded = load_group((other,))
    assert isinstance(loaded, list)
    (volume,) = loaded
    expected = load_volume(other)
    assert isinstance(expected, Volume)
    assert volume.series == other
    assert np.array_equal(volume.hu, expected.hu)


def test_an_undecodable_volume_rejects_all_of_its_series_uid(two_kernels: Path) -> None:
    indexed = index(two_kernels)
    volume, rejected = load_volumes(indexed.series)
    assert isinstance(rejected, Rejected)
    assert (rejected.subject, rejected.code) == ("2.25.9", IssueCode.UNDECODABLE)
    assert rejected.detail.startswith("b/b001.dcm: PixelData (7FE0,0010)")
    assert rejected.paths == tuple(f"{n}/{n}{i:03d}.dcm" for n in "ab" for i in range(4))
    assert isinstance(volume, Volume)
    assert volume.series.volume_id == uid("series", "c")


def test_loading_and_checking_reject_the_same(two_kernels: Path) -> None:
    indexed = index(two_kernels)
    checked = check_pixels(indexed)
    loaded = list(load_volumes(indexed.series))
    assert [result for result in loaded if isinstance(result, Rejected)] == list(checked.rejected)
    volumes = [result.series for result in loaded if isinstance(result, Volume)]
    assert volumes == list(checked.series)
    assert len(accounted(checked)) == checked.n_files == 12


def test_every_volume_is_loaded_once(
    tmp_path: Path, write_stack: WriteStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, kernel in KERNELS:
        write_stack(
            name=name, series_uid="2.25.9", study_uid="2.25.8", extra={"ConvolutionKernel": kernel}
        )
    indexed = index(tmp_path)
    loaded: list[str] = []

    def load_and_count(series: Series) -> Volume | Rejected:
        loaded.append(series.volume_id)
        return load_volume(series)

    monkeypatch.setattr("ich3d.dicom.validate.load_volume", load_and_count)
    assert all(isinstance(result, Volume) for result in load_volumes(indexed.series))
    assert loaded == ["2.25.9-1", "2.25.9-2"]


@pytest.mark.parametrize("asked", [(), ("--series", "2.25.9"), ("--series", "2.25.9-1")])
def test_inspect_and_convert_reject_the_same_volumes(
    two_kernels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: tuple[str, ...]
) -> None:
    assert main(["inspect", str(two_kernels), "--json"]) == 3
    inspected = json.loads(capsys.readouterr().out)
    assert main(["convert", str(two_kernels), "-o", str(tmp_path / "out"), *asked]) == 3
    captured = capsys.readouterr()
    accepted = [] if asked else [series["volume_id"] for series in inspected["series"]]
    assert [Path(line.split(": ")[0]).name for line in captured.out.splitlines()] == [
        f"{volume_id}.nii.gz" for volume_id in accepted
    ]
    (rejected,) = inspected["rejected"]
    assert f"{rejected['subject']}: {rejected['detail']}" in captured.err.splitlines()


def test_an_undecodable_slice_rejects_its_series_and_no_other(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    bad = write_stack("bad", name="bad")
    garble(bad[1])
    write_stack("good", name="good")
    checked = check_pixels(index(tmp_path))
    assert [series.volume_id for series in checked.series] == [uid("series", "good")]
    (rejected,) = checked.rejected
    assert rejected.code is IssueCode.UNDECODABLE
    assert rejected.paths == tuple(f"bad/{path.name}" for path in bad)
    assert bad[1].name in rejected.detail
    assert "PixelData (7FE0,0010)" in rejected.detail
    assert len(accounted(checked)) == checked.n_files


def test_a_checked_series_has_the_issues_that_pixels_show(
    tmp_path: Path, write_stack: WriteStack, edit_file: EditFile
) -> None:
    path = write_stack()[2]
    edit_file(path, RescaleSlope="40")
    checked = check_pixels(index(tmp_path))
    clipped, implausible = checked.series[0].issues
    assert clipped.code is IssueCode.HU_CLIPPED
    assert path.name in clipped.detail
    assert implausible.code is IssueCode.IMPLAUSIBLE_HU


@pytest.mark.parametrize("flaw", [garble, Path.unlink])
def test_rejections_name_the_file_below_the_searched_folder(
    tmp_path: Path, write_stack: WriteStack, flaw: Callable[[Path], None]
) -> None:
    """The folders of two patients hold files of the same names."""
    write_two_folders(write_stack)
    indexed = index(tmp_path)
    flaw(tmp_path / "two/ct/2")
    (rejected,) = check_pixels(indexed).rejected
    assert rejected.detail.startswith("two/ct/2: PixelData (7FE0,0010)")
    assert rejected.paths == tuple(f"two/ct/{i}" for i in range(4))
    assert [result for result in load_volumes(indexed.series) if result == rejected] == [rejected]


def test_issues_name_the_file_below_the_searched_folder(
    tmp_path: Path, write_stack: WriteStack, edit_file: EditFile
) -> None:
    write_two_folders(write_stack)
    edit_file(tmp_path / "two/ct/2", RescaleSlope="40")
    issues = [issue for series in check_pixels(index(tmp_path)).series for issue in series.issues]
    assert [issue.code for issue in issues] == [IssueCode.HU_CLIPPED, IssueCode.IMPLAUSIBLE_HU]
    assert "two/ct/2 in" in issues[0].detail


def test_undecodable_slices_are_left_out(tmp_path: Path, write_stack: WriteStack) -> None:
    paths = write_stack("deep", n=6)
    garble(paths[2])
    checked = check_pixels(leave_out_undecodable(index(tmp_path, policy=Policy(lenient=True))))
    assert not checked.rejected
    (series,) = checked.series
    assert len(series) == 5
    codes = {issue.code for issue in series.issues}
    assert codes == {IssueCode.INCOMPLETE, IssueCode.IRREGULAR_SPACING}
    assert [dropped.code for dropped in series.dropped] == [IssueCode.UNDECODABLE]
    (left_out,) = checked.left_out
    name = f"deep/{paths[2].name}"
    assert (left_out.code, left_out.paths) == (IssueCode.UNDECODABLE, (name,))
    assert left_out.detail.startswith(f"{name}: ")
    assert accounted(checked) == [f"deep/{path.name}" for path in paths]


def test_a_series_without_a_decodable_slice_is_rejected(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    for path in write_stack():
        garble(path)
    checked = check_pixels(leave_out_undecodable(index(tmp_path)))
    assert [entry.code for entry in checked.rejected] == [IssueCode.UNDECODABLE]
    assert not checked.series


def test_a_file_of_two_volumes_with_a_damaged_frame_counts_once(tmp_path: Path) -> None:
    """A file is rejected with its damaged frame, and stays in use where only that is left out."""
    path = write_enhanced(
        tmp_path,
        n=8,
        frame_groups=lambda frame: functional_group(
            "FrameContentSequence", FrameAcquisitionNumber=1 if frame <= 4 else 2
        ),
    )
    damage_last_frame(path)
    headers_only = index(path)
    assert len(headers_only.series) == 2

    strict = check_pixels(headers_only)
    assert [rejected.paths for rejected in strict.rejected] == [("a.dcm",)]
    assert not strict.series

    lenient = check_pixels(leave_out_undecodable(headers_only))
    assert [len(series) for series in lenient.series] == [4, 3]
    assert not lenient.rejected
    assert not lenient.left_out


def write_two_folders(write_stack: WriteStack) -> None:
    """Two series of four files with the names 0 to 3, in `one/ct` and `two/ct`."""
    for name in ("one", "two"):
        write_stack(f"{name}/ct", name=name, file_names=[f"{i}" for i in range(4)])
