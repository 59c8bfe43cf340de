"""What the folder of a stage records, and what is removed from it."""

from pathlib import Path

from ich3d.core.types import TrainingGroups
from ich3d.core.workspace import read_json, write_json
from ich3d.crossfit.status import (
    finish,
    is_finished,
    recorded_inputs,
    start,
    training_groups_of,
)


def test_a_started_stage_records_its_inputs(tmp_path: Path) -> None:
    folder = tmp_path / "encoder" / "fold0"
    assert recorded_inputs(folder) is None
    start(folder, "a")
    assert recorded_inputs(folder) == "a"
    assert not is_finished(folder)


def test_equal_inputs_keep_what_is_there(tmp_path: Path) -> None:
    start(tmp_path / "stage", "a")
    (tmp_path / "stage" / "weights").write_text("kept")
    start(tmp_path / "stage", "a")
    assert (tmp_path / "stage" / "weights").read_text() == "kept"


def test_other_inputs_empty_the_folder(tmp_path: Path) -> None:
    start(tmp_path / "stage", "a")
    finish(tmp_path / "stage", TrainingGroups.of(["p1"]), [])
    start(tmp_path / "stage", "b")
    assert not is_finished(tmp_path / "stage")
    assert [path.name for path in (tmp_path / "stage").iterdir()] == ["inputs.json"]


def test_a_folder_without_recorded_inputs_is_emptied(tmp_path: Path) -> None:
    (tmp_path / "stage").mkdir()
    (tmp_path / "stage" / "left").write_text("over")
    start(tmp_path / "stage", "a")
    assert not (tmp_path / "stage" / "left").exists()


def test_a_finished_stage_records_its_patients_and_those_behind_it(tmp_path: Path) -> None:
    own = TrainingGroups.of(["p2", "p1"])
    upstream = [TrainingGroups.of(["p3"]), TrainingGroups.of(["p1", "p4"])]
    finish(tmp_path, own, upstream)
    assert is_finished(tmp_path)
    assert training_groups_of(tmp_path) == own

    facts = read_json(tmp_path / "done.json")
    everyone = TrainingGroups.of(["p1", "p2", "p3", "p4"])
    assert facts["training_groups"] == ["p1", "p2"]
    assert facts["training_groups_sha256"] == own.sha256
    assert facts["upstream_groups"] == sorted(everyone.groups)
    assert facts["upstream_groups_sha256"] == everyone.sha256


def test_a_finished_stage_keeps_no_training_state(tmp_path: Path) -> None:
    (tmp_path / "member0").mkdir()
    (tmp_path / "member0" / "state.pt").write_bytes(b"state")
    (tmp_path / "member0" / "history.json").write_text("[]")
    finish(tmp_path, TrainingGroups.of(["p1"]), [])
    assert not list(tmp_path.rglob("state.pt"))
    assert (tmp_path / "member0" / "history.json").exists()


def test_the_patients_that_version_0_1_recorded_are_read(tmp_path: Path) -> None:
    write_json(tmp_path / "done.json", {"fit_patients": ["p1", "p2"]})
    assert training_groups_of(tmp_path) == TrainingGroups.of(["p1", "p2"])
