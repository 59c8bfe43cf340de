"""An interrupted prediction is resumed: it writes the same tables, and no study is scored twice."""

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ich3d.core.issues import IssueCode
from ich3d.core.labels import LABELS, STAGES
from ich3d.core.types import Rejected, Series, Volume
from ich3d.core.workspace import read_json
from ich3d.dicom.assembly.grouping import Policy
from ich3d.dicom.index import STRICT
from ich3d.dicom.volume import load_volume
from ich3d.dicom.write import SeriesToWrite, write_series
from ich3d.inference.journal import Journal, ScoredSeries
from ich3d.inference.run import OutputWriter, predict_to_folder
from ich3d.inference.scoring import SeriesPrediction, UnscoredSlice
from ich3d.model.folder import Model
from ich3d.prepare.series import files_digest
from tests.helpers.undecodable import garble, remove_position, truncate, two_kernels

TABLES = ("slices.csv", "series.csv", "submission.csv", "failures.csv", "incomplete.csv")

# Python reports each file that is opened; the process is killed before it notes its second series.
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
    """One fold of the run's model."""
    return model.fold(0)


@pytest.fixture
def studies(make_head: Callable[..., SeriesToWrite], tmp_path: Path) -> Path:
    """Three studies of one series each."""
    for name in "abc":
        write_series(make_head(name, n=3), tmp_path / "in" / name)
    return tmp_path / "in"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The volume_ids that are decoded while the test runs, in order."""
    volume_ids: list[str] = []

    def note(series: Series) -> Volume | Rejected:
        volume_ids.append(series.volume_id)
        return load_volume(series)

    monkeypatch.setattr("ich3d.dicom.validate.load_volume", note)
    return volume_ids


def tables(out: Path) -> list[bytes]:
    return [(out / name).read_bytes() for name in TABLES]


def scored_series(n: int = 2) -> ScoredSeries:
    """A series with scores that need all digits of a float, and a slice that was left out."""
    prob = np.random.default_rng(0).random((n, len(LABELS)))
    return ScoredSeries(
        study_uid="1",
        series_uid="1.2",
        volume_id="1.2-1",
        patient_id="p0",
        sop_uids=("1.2.0",) * n,
        frames=tuple(range(1, n + 1)),
        z_mm=np.arange(n) / 3,
        codes=(IssueCode.INCOMPLETE,),
        out_of_range=("rows",),
        brain_cm2=np.arange(n) / 7,
        prob={stage: prob / (1 + index) for index, stage in enumerate(STAGES)},
        agreement=np.array([np.nan, *np.arange(1, n) / 7]),
        unscored=(UnscoredSlice("", None, None, IssueCode.EMPTY_FILE),),
        refused={"dicom": Rejected("1.2-1", IssueCode.NO_UID, "no \udc80", ("a", "b"))},
    )


def assert_equal(result: ScoredSeries, expected: ScoredSeries) -> None:
    """All fields are equal, positions and scores to the last bit."""
    for stage in STAGES:
        np.testing.assert_array_equal(result.prob[stage], expected.prob[stage])
    names = ("z_mm", "brain_cm2", "agreement")
    for name in names:
        np.testing.assert_array_equal(getattr(result, name), getattr(expected, name))
    arrays = dict.fromkeys((*names, "prob"))
    assert vars(result) | arrays == vars(expected) | arrays


def test_a_resumed_journal_has_the_same_results(tmp_path: Path) -> None:
    path = tmp_path / "finished.jsonl"
    journal = Journal.resume(path, [])
    rejected = Rejected("a", IssueCode.NO_HEAD, "why", ("a/0", "a/1"))
    journal.add("scored", scored_series())
    journal.add("rejected", rejected)
    for opened in (journal, Journal.resume(path, ["scored", "rejected"])):
        assert opened.is_scored("scored")
        assert not opened.is_scored("rejected")
        assert opened.is_finished("rejected")
        assert not opened.is_finished("other")
        assert opened.rejected == {"rejected": rejected}
        assert_equal(opened.read("scored"), scored_series())


def test_lines_of_other_keys_and_an_incomplete_line_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "finished.jsonl"
    journal = Journal.resume(path, [])
    for key in "abc":
        journal.add(key, scored_series())
    path.write_bytes(path.read_bytes()[:-5])
    opened = Journal.resume(path, ["b", "c"])
    assert [key for key in "abc" if opened.is_scored(key)] == ["b"]
    assert path.read_bytes().count(b"\n") == 1
    assert_equal(opened.read("b"), scored_series())


def test_a_killed_prediction_is_resumed_to_the_same_tables(
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


@pytest.mark.parametrize("policy", [STRICT, Policy(lenient=True)], ids=["strict", "lenient"])
def test_a_resumed_run_writes_the_same_bytes_and_decodes_nothing_again(
    model: Model,
    make_head: Callable[..., SeriesToWrite],
    studies: Path,
    tmp_path: Path,
    policy: Policy,
    decoded: list[str],
) -> None:
    """Also with slices left out, several volumes of a SeriesInstanceUID, and rejections."""
    spoil = {"cut": truncate, "garbled": garble, "nowhere": remove_position}
    for name, damage in spoil.items():
        damage(write_series(make_head(name, n=4), studies / name)[1])
    two_kernels(studies / "good", n=3, series_uid="2.25.1")
    garble(two_kernels(studies / "bad", n=3, series_uid="2.25.2")[1])

    first = predict_to_folder(model, [studies], tmp_path / "out", policy=policy)
    before = tables(tmp_path / "out")
    assert len(decoded) == len(set(decoded)) > 5  # no volume twice
    decoded.clear()

    again = predict_to_folder(model, [studies], tmp_path / "out", policy=policy)
    assert (again, tables(tmp_path / "out")) == (first, before)
    assert not decoded


def test_only_what_changed_is_scored_again(model: Model, studies: Path, tmp_path: Path) -> None:
    scored: list[str] = []

    def note(study: Sequence[SeriesPrediction]) -> tuple[Rejected, ...]:
        scored.extend(prediction.series.volume_id for prediction in study)
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

    (out / "noted").rmdir()  # what the writer wrote is gone, so all of it is written again
    predict_to_folder(model, [studies], out, writers=writers)
    assert len(scored) == 7

    predict_to_folder(model, [studies], out)  # other writers make it another run
    assert read_json(out / "run.json")["series_scored_before"] == 0


def test_a_repaired_file_brings_back_all_volumes_of_its_series_uid(
    model: Model, studies: Path, tmp_path: Path
) -> None:
    damaged = two_kernels(studies / "two", n=3)[1]
    content = damaged.read_bytes()
    garble(damaged)
    first = predict_to_folder(model, [studies], tmp_path / "out")
    assert [(rejected.subject, first.scored) for rejected in first.rejected] == [("2.25.9", 3)]

    damaged.write_bytes(content)
    repaired = predict_to_folder(model, [studies], tmp_path / "out")
    assert (repaired.scored, repaired.rejected) == (5, ())


def test_the_series_of_a_study_are_written_together_and_refusals_are_remembered(
    model: Model, make_head: Callable[..., SeriesToWrite], studies: Path, tmp_path: Path
) -> None:
    """Series d belongs to the study of a. Why a writer refused it is known without asking again."""
    d = make_head("d", n=3, study_uid=make_head("a").study_uid, patient_id="patient a")
    write_series(d, studies / "z")
    calls: list[set[str]] = []

    def refuse_d(study: Sequence[SeriesPrediction]) -> tuple[Rejected, ...]:
        calls.append({prediction.series.series_uid for prediction in study})
        return tuple(
            Rejected(prediction.series.volume_id, IssueCode.INVALID_UID, "no")
            for prediction in study
            if prediction.series.series_uid == d.series_uid
        )

    writers = {"odd": OutputWriter(tmp_path / "out" / "odd", refuse_d)}
    done = predict_to_folder(model, [studies], tmp_path / "out", writers=writers)
    a, b, c = (make_head(name).series_uid for name in "abc")
    assert sorted(calls, key=len) in ([{b}, {c}, {a, d.series_uid}], [{c}, {b}, {a, d.series_uid}])

    again = predict_to_folder(model, [studies], tmp_path / "out", writers=writers)
    assert len(calls) == 3
    assert again == done
    assert [rejected.subject for rejected in again.refused["odd"]] == [d.series_uid]
    counts = read_json(tmp_path / "out" / "run.json")
    assert (counts["odd_series"], counts["odd_refused"], counts["rejected"]) == (3, 1, 0)


def test_a_series_without_a_head_is_rejected_once_and_its_study_scored_once(
    model: Model, make_head: Callable[..., SeriesToWrite], studies: Path, tmp_path: Path
) -> None:
    air = make_head("air", n=3, study_uid=make_head("a").study_uid, patient_id="patient a")
    write_series(replace(air, hu=np.full_like(air.hu, -1000)), studies / "air")
    first = predict_to_folder(model, [studies], tmp_path / "out")
    before = tables(tmp_path / "out")
    assert [(rejected.subject, rejected.code) for rejected in first.rejected] == [
        (air.series_uid, IssueCode.NO_HEAD)
    ]

    again = predict_to_folder(model, [studies], tmp_path / "out")
    assert (again, tables(tmp_path / "out")) == (first, before)
    counts = read_json(tmp_path / "out" / "run.json")
    assert (counts["series"], counts["series_scored_before"], counts["rejected"]) == (3, 3, 1)


@pytest.mark.parametrize("policy", [STRICT, Policy(lenient=True)], ids=["strict", "lenient"])
def test_a_run_is_resumed_after_its_studies_were_moved(
    model: Model, studies: Path, tmp_path: Path, policy: Policy
) -> None:
    """Also where slices are dropped: the keys hold paths relative to the searched folder."""
    truncate(studies / "a" / "0.dcm")
    predict_to_folder(model, [studies], tmp_path / "out", policy=policy)
    before = tables(tmp_path / "out")

    moved = studies.rename(tmp_path / "moved")
    outcome = predict_to_folder(model, [moved], tmp_path / "out", policy=policy)
    counts = read_json(tmp_path / "out" / "run.json")
    assert counts["series_scored_before"] == outcome.scored >= 2
    assert tables(tmp_path / "out") == before


def test_a_file_that_is_gone_for_a_moment_loses_no_scores_and_is_scored_again_in_the_next_run(
    model: Model, studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files of one series have no hash, because one of them is away when hashes are made."""
    predict_to_folder(model, [studies], tmp_path / "whole")
    gone = {str(path.relative_to(studies)) for path in (studies / "a").iterdir()}

    def digest(series: Series) -> str:
        if gone & set(series.paths):
            raise FileNotFoundError
        return files_digest(series)

    monkeypatch.setattr("ich3d.inference.run.files_digest", digest)
    for scored_before in (0, 2):
        predict_to_folder(model, [studies], tmp_path / "out")
        counts = read_json(tmp_path / "out" / "run.json")
        assert (counts["series"], counts["series_scored_before"]) == (3, scored_before)
        assert tables(tmp_path / "out") == tables(tmp_path / "whole")
