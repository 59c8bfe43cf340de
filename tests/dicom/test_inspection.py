"""The table and the JSON of an index are complete, and name no patient unless asked to."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ich3d.dicom.index import Index, index
from ich3d.dicom.inspection import as_json, as_table, with_identifiers
from ich3d.dicom.uids import uid
from tests.helpers.enhanced import write_enhanced
from tests.helpers.series import PATIENT_ID, edit


@pytest.fixture
def mixed_index(tmp_path: Path, write_stack: Callable[..., list[Path]]) -> Index:
    """A regular series, one with a gap, an invalid one, and a file that is not DICOM."""
    write_stack("good", name="good")
    write_stack("gap", name="gap", n=6)[3].unlink()
    edit(write_stack("bad", name="bad")[0], RescaleSlope=None)
    (tmp_path / "readme").write_text("words " * 40)
    return index(tmp_path)


def test_the_json_has_the_documented_keys(mixed_index: Index) -> None:
    index_json = json.loads(json.dumps(as_json(mixed_index)))
    assert list(index_json) == ["files", "series", "left_out", "rejected"]
    assert index_json["files"] == 14

    (good,) = (series for series in index_json["series"] if series["status"] == "ok")
    assert good == {
        "volume_id": uid("series", "good"),
        "series_uid": uid("series", "good"),
        "study_uid": uid("study", "good"),
        "patient_id": None,
        "modality": "CT",
        "n_slices": 4,
        "sop_uids": [uid("sop", "good", i) for i in range(4)],
        "frames": [None] * 4,
        "paths": [f"good/good{i:03d}.dcm" for i in range(4)],
        "z_mm": [0.0, 5.0, 10.0, 15.0],
        "spacing_mm": 5.0,
        "is_regular": True,
        "tilt_deg": 0.0,
        "rows": 16,
        "columns": 16,
        "pixel_spacing_mm": [0.5, 0.4],
        "affine_mm": [[0.4, 0, 0, -100], [0, 0.5, 0, -120], [0, 0, 5, 0], [0, 0, 0, 1]],
        "status": "ok",
        "reasons": [],
        "series_description": "",
        "convolution_kernel": "",
        "slice_thickness_mm": "5.0",
        "manufacturer": "",
        "manufacturer_model_name": "",
        "folder": "good",
    }

    (gap,) = (series for series in index_json["series"] if series["status"] == "warn")
    assert gap["affine_mm"] is None
    assert [reason["code"] for reason in gap["reasons"]] == ["irregular_spacing"]
    assert index_json["left_out"] == [
        {"paths": ["readme"], "code": "not_dicom", "detail": "readme: not a DICOM file"}
    ]
    (bad,) = index_json["rejected"]
    assert bad["detail"].startswith("bad/bad000.dcm: RescaleSlope (0028,1053) is missing")
    assert index_json["rejected"] == [
        {
            "subject": uid("series", "bad"),
            "paths": [f"bad/bad{i:03d}.dcm" for i in range(4)],
            "code": "no_rescale",
            "detail": bad["detail"],
        }
    ]


def test_a_single_slice_has_null_spacing_tilt_and_affine(
    write_stack: Callable[..., list[Path]],
) -> None:
    (series,) = as_json(index(write_stack(n=1)[0]))["series"]
    assert (series["spacing_mm"], series["tilt_deg"], series["affine_mm"]) == (None, None, None)


def test_the_json_of_a_multi_frame_file_repeats_its_path_and_numbers_its_frames(
    tmp_path: Path,
) -> None:
    index_json = as_json(index(write_enhanced(tmp_path)))
    (series,) = index_json["series"]
    assert index_json["files"] == 1
    assert series["frames"] == [2, 4, 1, 3]
    assert len(set(series["sop_uids"])) == 1
    assert series["paths"] == ["a.dcm"] * 4


def test_the_table_shows_each_series_and_explains_issues(mixed_index: Index) -> None:
    table = as_table(mixed_index)
    assert table.startswith("14 files\n")
    (row,) = (line for line in table.splitlines() if line.startswith(uid("series", "good")))
    assert row.split()[1:] == ["4", "16x16", "5.00", "0.0", "ok", "-", "-", "5.0", "-", "good"]
    assert "lie 10.00 mm apart where 5.00 mm are expected" in table
    assert "left out: 1 file (not_dicom 1)" in table
    assert "rejected: 4 files (no_rescale 4)" in table
    assert "bad/bad000.dcm: RescaleSlope (0028,1053) is missing" in table


def test_neither_form_names_the_patient(mixed_index: Index) -> None:
    assert PATIENT_ID not in as_table(mixed_index) + json.dumps(as_json(mixed_index))


def test_with_identifiers_only_patient_id_is_added(mixed_index: Index) -> None:
    index_json = as_json(mixed_index)
    identified = with_identifiers(index_json, mixed_index)
    assert [series["patient_id"] for series in identified["series"]] == [PATIENT_ID] * 2
    for series in identified["series"]:
        series["patient_id"] = None
    assert identified == index_json


def test_an_empty_index_has_both_forms(tmp_path: Path) -> None:
    empty = index(tmp_path)
    assert as_table(empty) == "0 files\n\nleft out: 0 files\nrejected: 0 files\n"
    assert as_json(empty) == {"files": 0, "series": [], "left_out": [], "rejected": []}


def test_files_that_are_left_out_for_one_reason_share_a_line(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text("text")
    (tmp_path / "empty").write_bytes(b"")
    lines = as_table(index(tmp_path)).splitlines()
    assert "  not_dicom: 0.txt: not a DICOM file; and 2 more files" in lines
    assert "  empty_file: empty: the file is empty" in lines
