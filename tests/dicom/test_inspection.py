"""What people and programs are told of an index."""

import json
import re
from pathlib import Path

from ich3d.dicom.index import index
from ich3d.dicom.inspection import as_json, as_table, with_identifiers
from ich3d.dicom.uids import uid


def spoilt(tmp_path, write_stack, edit_file):
    write_stack("good", name="good")
    gap = write_stack("gap", name="gap", n=6)
    gap[3].unlink()
    edit_file(write_stack("bad", name="bad")[0], RescaleSlope=None)
    (tmp_path / "readme").write_text("words " * 40)
    return index(tmp_path)


def test_json_has_the_agreed_form(tmp_path, write_stack, edit_file):
    told = json.loads(json.dumps(as_json(spoilt(tmp_path, write_stack, edit_file))))
    assert list(told) == ["files", "series", "left_out", "rejected"]
    assert told["files"] == 14
    series = next(s for s in told["series"] if s["status"] == "ok")
    assert series == {
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
    }
    (warned,) = (s for s in told["series"] if s["status"] == "warn")
    assert warned["affine_mm"] is None
    assert [reason["code"] for reason in warned["reasons"]] == ["irregular_spacing"]
    assert told["left_out"] == [
        {"paths": ["readme"], "code": "not_dicom", "detail": "readme: not a DICOM file"}
    ]
    (rejected,) = told["rejected"]
    assert rejected["subject"] == uid("series", "bad")
    assert rejected["code"] == "no_rescale"
    assert rejected["paths"] == [f"bad/bad{i:03d}.dcm" for i in range(4)]


def test_a_single_slice_has_null_spacing_tilt_and_affine(write_stack):
    (series,) = as_json(index(write_stack(n=1)[0]))["series"]
    assert (series["spacing_mm"], series["tilt_deg"], series["affine_mm"]) == (None, None, None)


def test_the_table_counts_and_explains(tmp_path, write_stack, edit_file):
    table = as_table(spoilt(tmp_path, write_stack, edit_file))
    assert table.startswith("14 files\n")
    (row,) = (line for line in table.splitlines() if line.startswith(uid("series", "good")))
    assert row.split()[1:] == ["4", "16x16", "5.00", "0.0", "ok"]
    assert "lie 10.00 mm apart where 5.00 mm are expected" in table
    assert "left out: 1 file (not_dicom 1)" in table
    assert "rejected: 4 files (no_rescale 4)" in table
    assert "bad/bad000.dcm: RescaleSlope (0028,1053) is missing" in table


def test_neither_form_names_the_patient(tmp_path, write_stack, edit_file):
    found = spoilt(tmp_path, write_stack, edit_file)
    assert "Secret" not in as_table(found) + json.dumps(as_json(found))


def test_identifiers_are_told_where_asked_for(tmp_path, write_stack, edit_file):
    found = spoilt(tmp_path, write_stack, edit_file)
    told = with_identifiers(as_json(found), found)
    assert [series["patient_id"] for series in told["series"]] == ["Secret-Patient"] * 2
    for series in told["series"]:
        del series["patient_id"]
    assert "Secret" not in json.dumps(told)


def test_the_example_in_the_readme_runs(tmp_path, write_stack, edit_file, monkeypatch, capsys):
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (example,) = (
        block for block in re.findall("```python\n(.*?)```", readme, re.S) if "load_volume" in block
    )
    write_stack("study/good")
    edit_file(write_stack("study/bad", name="bad")[0], RescaleSlope=None)
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    assert capsys.readouterr().out.splitlines() == [
        f"{uid('series', 'a')} (4, 16, 16) []",
        f"{uid('series', 'bad')} bad/bad000.dcm: RescaleSlope (0028,1053) is missing",
    ]


def test_an_empty_index_still_reads(tmp_path):
    found = index(tmp_path)
    assert as_table(found) == "0 files\n\nleft out: 0 files\nrejected: 0 files\n"
    assert as_json(found) == {"files": 0, "series": [], "left_out": [], "rejected": []}
