"""A prediction that is killed and begun again writes the same tables, and scores nothing twice."""

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ich3d.core.issues import IssueCode
from ich3d.core.types import Rejected
from ich3d.core.workspace import read_json
from ich3d.dicom.write import SeriesToWrite, write_series
from ich3d.inference.journal import Done, Journal
from ich3d.inference.run import OutputWriter, predict_to_folder
from ich3d.inference.scoring import SeriesPrediction
from ich3d.model.folder import Model

TABLES = ("slices.csv", "series.csv", "submission.csv", "failures.csv")
# Python reports each file that is opened; the process dies before it notes its second series.
KILLED = """
import os, signal, sys
from ich3d.cli.parser import main
left = 2

def watch(event, arguments):
    global left
    if event == "open" and str(arguments[0]).endswith("/finished.jsonl") and arguments[1] == "a":
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
main(["predict", *sys.argv[1:]])
"""


@pytest.fixture(scope="module")
def model(model: Model) -> Model:
    return model.fold(0)


@pytest.fixture
def studies(make_head: Callable[..., SeriesToWrite], tmp_path: Path) -> Path:
    for name in "abc":
        write_series(make_head(name, n=3), tmp_path / "in" / name)
    return tmp_path / "in"


def tables(out: Path) -> list[bytes]:
    return [(out / name).read_bytes() for name in TABLES]


def test_a_killed_prediction_goes_on_to_the_same_tables(
    model_folder: Path, model: Model, studies: Path, tmp_path: Path
) -> None:
    predict_to_folder(model, [studies], tmp_path / "whole")
    command = [sys.executable, "-c", KILLED, str(studies), "--model", str(model_folder), "--fast"]
    killed = subprocess.run(
        [*command, "-o", str(tmp_path / "out")], capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not (tmp_path / "out" / "run.json").exists()
    predict_to_folder(model, [studies], tmp_path / "out")
    assert read_json(tmp_path / "out" / "run.json")["series_scored_before"] == 1
    assert tables(tmp_path / "out") == tables(tmp_path / "whole")


def test_only_what_changed_is_scored_again(model: Model, studies: Path, tmp_path: Path) -> None:
    scored: list[str] = []

    def note(study: Sequence[SeriesPrediction]) -> tuple[Rejected, ...]:
        scored.extend(item.stored.volume_id for item in study)
        return ()

    out = tmp_path / "out"
    writers = {"noted": OutputWriter(out / "noted", note)}
    predict_to_folder(model, [studies], out, writers=writers)
    before = tables(out)
    assert len(scored) == 3
    predict_to_folder(model, [studies], out, writers=writers)
    assert len(scored) == 3
    assert tables(out) == before
    (studies / "b" / "0.dcm").unlink()
    predict_to_folder(model, [studies], out, writers=writers)
    assert len(scored) == 4
    (out / "noted").rmdir()  # what was written is gone: it is all written again
    predict_to_folder(model, [studies], out, writers=writers)
    assert len(scored) == 7
    predict_to_folder(model, [studies], out)  # for fewer outputs: another run
    assert read_json(out / "run.json")["series_scored_before"] == 0


def test_the_series_of_a_study_are_handed_over_together_and_refusals_are_remembered(
    model: Model, make_head: Callable[..., SeriesToWrite], studies: Path, tmp_path: Path
) -> None:
    """Series d belongs to the study of a; what a sink has against it is told again without asking."""
    own = make_head("a").study_uid
    d = make_head("d", n=3, study_uid=own, patient_id="patient a")
    write_series(d, studies / "z")
    calls: list[set[str]] = []

    def refuse(study: Sequence[SeriesPrediction]) -> tuple[Rejected, ...]:
        calls.append({item.stored.series_uid for item in study})
        odd = [item.stored.volume_id for item in study if item.stored.series_uid == d.series_uid]
        return tuple(Rejected(name, IssueCode.INVALID_UID, "no") for name in odd)

    writers = {"odd": OutputWriter(tmp_path / "out" / "odd", refuse)}
    done = predict_to_folder(model, [studies], tmp_path / "out", writers=writers)
    a, b, c = (make_head(name).series_uid for name in "abc")
    assert sorted(calls, key=len) in ([{b}, {c}, {a, d.series_uid}], [{c}, {b}, {a, d.series_uid}])
    again = predict_to_folder(model, [studies], tmp_path / "out", writers=writers)
    assert len(calls) == 3
    assert again == done
    assert [item.subject for item in again.rejected] == [d.series_uid]
    facts = read_json(tmp_path / "out" / "run.json")
    assert (facts["odd_series"], facts["odd_refused"], facts["rejected"]) == (3, 1, 0)


def test_a_series_without_a_head_is_rejected_once_and_its_study_scored_once(
    model: Model, make_head: Callable[..., SeriesToWrite], studies: Path, tmp_path: Path
) -> None:
    air = make_head("air", n=3, study_uid=make_head("a").study_uid, patient_id="patient a")
    write_series(replace(air, hu=np.full_like(air.hu, -1000)), studies / "air")
    first = predict_to_folder(model, [studies], tmp_path / "out")
    before = tables(tmp_path / "out")
    assert [(item.subject, item.code) for item in first.rejected] == [
        (air.series_uid, IssueCode.NO_HEAD)
    ]
    again = predict_to_folder(model, [studies], tmp_path / "out")
    assert (again, tables(tmp_path / "out")) == (first, before)
    facts = read_json(tmp_path / "out" / "run.json")
    assert (facts["series"], facts["series_scored_before"], facts["rejected"]) == (3, 3, 1)


def test_a_line_that_was_being_written_is_no_finished_series(tmp_path: Path) -> None:
    path = tmp_path / "finished.jsonl"
    finished = Journal(path, ["a", "b"])
    finished.add("a", Done("1\n", "2\n", 1, 0))
    finished.add("b", Done("3\n", "4\n", 1, 0))
    path.write_bytes(path.read_bytes()[:-5])
    again = Journal(path, ["a", "b"])
    assert "a" in again
    assert again["a"] == Done("1\n", "2\n", 1, 0)
    assert "b" not in again
    assert "a" not in Journal(path, ["b"])
