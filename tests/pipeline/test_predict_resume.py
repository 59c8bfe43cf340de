"""A prediction that is killed and begun again writes the same tables, and scores nothing twice."""

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ich3d.core.codes import Code
from ich3d.core.config import Config
from ich3d.core.types import Rejected
from ich3d.core.workspace import Workspace, read_json
from ich3d.dicom.write import SeriesToWrite, write_series
from ich3d.pipeline import Model, load_model, predict
from ich3d.pipeline.finished import Done, Finished
from ich3d.pipeline.predict import Predicted

TABLES = ("slices.csv", "series.csv", "submission.csv", "failures.csv")
# Python reports each file that is opened; the process dies before it notes its second series.
KILLED = """
import os, signal, sys
from ich3d.cli import main
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
def folder(finished_run: Config) -> Path:
    return Workspace(Path(finished_run.workspace)).model


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return load_model(folder).first_fold()


@pytest.fixture
def studies(make_head: Callable[..., SeriesToWrite], tmp_path: Path) -> Path:
    for name in "abc":
        write_series(make_head(name, n=3), tmp_path / "in" / name)
    return tmp_path / "in"


def tables(out: Path) -> list[bytes]:
    return [(out / name).read_bytes() for name in TABLES]


def test_a_killed_prediction_goes_on_to_the_same_tables(
    folder: Path, model: Model, studies: Path, tmp_path: Path
) -> None:
    predict(model, [studies], tmp_path / "whole")
    command = [sys.executable, "-c", KILLED, str(studies), "--model", str(folder), "--fast"]
    killed = subprocess.run([*command, "-o", str(tmp_path / "out")], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not (tmp_path / "out" / "run.json").exists()
    predict(model, [studies], tmp_path / "out")
    assert read_json(tmp_path / "out" / "run.json")["series_scored_before"] == 1
    assert tables(tmp_path / "out") == tables(tmp_path / "whole")


def test_only_what_changed_is_scored_again(model: Model, studies: Path, tmp_path: Path) -> None:
    scored: list[str] = []

    def sink(study: Sequence[Predicted]) -> tuple[Rejected, ...]:
        scored.extend(item.stored.volume_id for item in study)
        return ()

    out = tmp_path / "out"
    predict(model, [studies], out, sinks={"noted": sink})
    before = tables(out)
    assert len(scored) == 3
    predict(model, [studies], out, sinks={"noted": sink})
    assert len(scored) == 3
    assert tables(out) == before
    (studies / "b" / "0.dcm").unlink()
    predict(model, [studies], out, sinks={"noted": sink})
    assert len(scored) == 4
    predict(model, [studies], out)  # for fewer outputs: another run
    assert read_json(out / "run.json")["series_scored_before"] == 0


def test_the_series_of_a_study_are_handed_over_together_and_refusals_are_remembered(
    model: Model, make_head: Callable[..., SeriesToWrite], studies: Path, tmp_path: Path
) -> None:
    """Series d belongs to the study of a; what a sink has against it is told again without asking."""
    own = make_head("a").study_uid
    d = make_head("d", n=3, study_uid=own, patient_id="patient a")
    write_series(d, studies / "z")
    calls: list[set[str]] = []

    def sink(study: Sequence[Predicted]) -> tuple[Rejected, ...]:
        calls.append({item.stored.series_uid for item in study})
        odd = [item.stored.volume_id for item in study if item.stored.series_uid == d.series_uid]
        return tuple(Rejected(name, Code.INVALID_UID, "no") for name in odd)

    done = predict(model, [studies], tmp_path / "out", sinks={"odd": sink})
    a, b, c = (make_head(name).series_uid for name in "abc")
    assert sorted(calls, key=len) in ([{b}, {c}, {a, d.series_uid}], [{c}, {b}, {a, d.series_uid}])
    again = predict(model, [studies], tmp_path / "out", sinks={"odd": sink})
    assert len(calls) == 3
    assert again == done
    assert [item.subject for item in again.rejected] == [d.series_uid]
    facts = read_json(tmp_path / "out" / "run.json")
    assert (facts["odd_series"], facts["odd_refused"], facts["rejected"]) == (3, 1, 0)


def test_a_line_that_was_being_written_is_no_finished_series(tmp_path: Path) -> None:
    path = tmp_path / "finished.jsonl"
    finished = Finished(path, ["a", "b"])
    finished.add("a", Done("1\n", "2\n", 1, 0))
    finished.add("b", Done("3\n", "4\n", 1, 0))
    path.write_bytes(path.read_bytes()[:-5])
    again = Finished(path, ["a", "b"])
    assert "a" in again
    assert again["a"] == Done("1\n", "2\n", 1, 0)
    assert "b" not in again
    assert "a" not in Finished(path, ["b"])
