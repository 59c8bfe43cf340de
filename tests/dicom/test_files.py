"""Which files are looked at: each once, whatever leads to it, and none that is no file."""

import os
from pathlib import Path

import pytest

from ich3d.core.issues import IssueCode
from ich3d.dicom.index import index, index_all


def names(found) -> list[str]:
    return [header.file.name for series in found.series for header in series.headers]


def test_a_file_that_is_linked_is_read_once(tmp_path, write_stack):
    paths = write_stack("in")
    (tmp_path / "in" / "link").symlink_to(paths[1])
    found = index(tmp_path / "in")
    assert found.n_files == 4
    assert not found.left_out


def test_a_folder_that_is_linked_is_searched_once_and_a_circle_ends(tmp_path, write_stack):
    write_stack("elsewhere")
    (tmp_path / "in").mkdir()
    for link in ("one", "two"):
        (tmp_path / "in" / link).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "circle").symlink_to(tmp_path / "elsewhere")
    found = index(tmp_path / "in")
    assert found.n_files == 4
    assert names(found) == [f"one/a{i:03d}.dcm" for i in range(4)]


def test_a_link_that_leads_nowhere_is_rejected_alone(tmp_path, write_stack):
    write_stack()
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    found = index(tmp_path)
    assert [len(series) for series in found.series] == [4]
    assert [(item.code, item.paths) for item in found.rejected] == [
        (IssueCode.UNREADABLE, ("gone",))
    ]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_left_out_and_not_waited_for(tmp_path, write_stack):
    write_stack()
    os.mkfifo(tmp_path / "pipe")
    (item,) = index(tmp_path).left_out
    assert (item.code, item.paths) == (IssueCode.NOT_DICOM, ("pipe",))


def test_paths_that_overlap_count_each_file_once_and_share_a_series(tmp_path, write_stack):
    paths = write_stack("in/deep")
    (tmp_path / "in" / "beside").mkdir()
    paths[3].rename(tmp_path / "in" / "beside" / "top.dcm")
    found = index_all([tmp_path / "in" / "deep", paths[0], tmp_path / "in" / "beside"])
    assert found.n_files == 4
    assert found.root == Path(tmp_path / "in")
    assert names(found) == [*(f"deep/a{i:03d}.dcm" for i in range(3)), "beside/top.dcm"]
