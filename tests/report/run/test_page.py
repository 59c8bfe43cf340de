"""The page of a finished run."""

import base64
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pytest

from ich3d.config.load import load_config
from ich3d.config.root import Config
from ich3d.core.errors import DataError
from ich3d.core.labels import LABELS
from ich3d.core.workspace import Workspace, read_csv
from ich3d.evaluation.agreement import error_by_agreement
from ich3d.evaluation.run import out_of_fold
from ich3d.evaluation.table import ResultRow, auc_cell, tidy
from ich3d.report.run.metadata import stacker_decisions
from ich3d.report.run.page import write_report
from tests.helpers.identity import SECRETS
from tests.helpers.page_tree import Element, Tree


@dataclass(frozen=True)
class Report:
    """A written report: its rows, and its page as text and as a tree."""

    workspace: Workspace
    rows: list[ResultRow]
    html: str
    page: Element


@pytest.fixture(scope="module")
def report(finished_run: Config) -> Report:
    rows = write_report(finished_run).rows
    workspace = Workspace(Path(finished_run.workspace))
    html = workspace.report.read_text(encoding="utf-8")
    return Report(workspace, rows, html, Tree(html).root)


def test_the_rows_are_those_of_the_run(report: Report, finished_run: Config) -> None:
    scores = out_of_fold(report.workspace)
    rows = scores.result_rows(finished_run.report.resamples, finished_run.seed)
    pd.testing.assert_frame_equal(tidy(report.rows), tidy(rows))


def test_the_stage_table_shows_every_row_with_intervals(report: Report) -> None:
    table = report.page.by_id("stages").table()
    assert list(table) == ["base rate", "position only", "encoder", "context", "stack"]
    positive = out_of_fold(report.workspace).truth.positive_patients
    for row in report.rows:
        loss, difference, *aucs = table[row.name]
        assert loss == str(row.weighted_log_loss)
        assert aucs == [auc_cell(row.auc[label], positive[label]) for label in LABELS]
        if row.difference is None:
            assert difference == "-"
        else:
            assert difference.startswith(f"{row.difference:+} against {row.against}: ")


def test_error_by_agreement_is_that_of_the_held_out_slices(
    report: Report, finished_run: Config
) -> None:
    scores = out_of_fold(report.workspace)
    draws, seed = finished_run.report.resamples, finished_run.seed
    entries = error_by_agreement(scores.agreement, scores.prob["stack"], scores.truth, draws, seed)
    cells = [cell.words for cell in report.page.by_id("agreement").all("td")]
    assert cells[4] == f"{entries[0].thirds[0].loss:.4f}"
    assert cells[-1] == f"{entries[-1].difference:+}"


def test_each_label_is_shown_with_its_number_of_patients(report: Report) -> None:
    positive = out_of_fold(report.workspace).truth.positive_patients
    headings = [heading.words for heading in report.page.by_id("stages").all("th")]
    for label in LABELS:
        few = ": too few to judge" if positive[label] < 8 else ""
        assert f"AUC {label} {positive[label]} positive{few}" in headings


def test_every_figure_is_inside_the_page_and_described_in_words(report: Report) -> None:
    images = report.page.all("img")
    kinds = [str(image.attributes["src"]).partition(";")[0] for image in images]
    assert kinds.count("data:image/svg+xml") == 4
    assert kinds.count("data:image/png") == 12
    assert len(kinds) == 16

    for image in images:
        assert len(str(image.attributes["alt"])) > 20
        assert base64.b64decode(str(image.attributes["src"]).partition(",")[2], validate=True)
    descriptions = "\n".join(str(image.attributes["alt"]) for image in images)
    for text in (
        "Weighted log loss of each row",
        "brain window",
        "Probability along z",
        "Losses of the encoder",
        "Losses of the context",
    ):
        assert text in descriptions


def test_the_page_needs_no_other_file(report: Report) -> None:
    assert not report.page.all("script", "link", "iframe", "object", "a")
    for element in report.page.walk():
        assert str(element.attributes.get("src", "data:")).startswith("data:")
        assert not {"href", "srcset", "style"} & set(element.attributes)
    (style,) = report.page.all("style")
    assert "url(" not in style.text
    assert "@import" not in style.text
    assert len(report.html) < 2_000_000


def test_scrolling_regions_can_be_reached_by_keyboard(report: Report) -> None:
    regions = report.page.by_class("scroll")
    assert regions
    for region in regions:
        assert region.attributes.get("tabindex") == "0"
        assert region.attributes.get("aria-label")


def test_no_patient_is_named(report: Report) -> None:
    groups = out_of_fold(report.workspace).truth.table["group_id"].unique()
    assert len(groups) >= 6
    for secret in (*SECRETS, "phantom-0-", "phantom-1-", *groups):
        assert secret not in report.html


def test_the_stackers_decision_is_shown_for_every_fold_and_label(report: Report) -> None:
    table = report.page.by_id("decisions").table()
    decisions = stacker_decisions(report.workspace, [0, 1, 2])
    assert list(table) == list(LABELS)
    for label in LABELS:
        for fold in range(3):
            decision = decisions[label][fold]
            used = "mean and trees" if decision.is_kept else "mean"
            losses = (
                f"stacker {decision.stacker_loss:.4f}, context {decision.context_loss:.4f}, "
                f"standard error {decision.se:.4f}"
            )
            assert table[label][fold] == f"{used} {losses}"


def test_rejected_and_unmatched_data_are_listed_with_the_reason(report: Report) -> None:
    rejected = read_csv(report.workspace.rejected, text=("subject", "code", "detail"))
    assert rejected["code"].tolist() == ["no_head"]
    entries = [entry.words for entry in report.page.all("li")]
    assert f"{rejected['subject'][0]} : {rejected['detail'][0]}" in entries
    assert "irregular_spacing : 1 series" in entries

    unmatched = read_csv(report.workspace.unmatched, text=("sop_uid", "lacks", "detail"))
    summaries = [summary.words for summary in report.page.all("summary")]
    assert f"lacks label: {len(unmatched)}" in summaries
    assert len(unmatched) > 0
    for sop_uid in unmatched["sop_uid"]:
        assert any(entry.startswith(sop_uid) for entry in entries)


def test_the_config_on_the_page_repeats_the_run(
    report: Report, finished_run: Config, tmp_path: Path
) -> None:
    (tmp_path / "run.yaml").write_text(report.page.by_id("config").text, encoding="utf-8")
    assert load_config(tmp_path / "run.yaml") == finished_run


def test_the_same_run_gives_the_same_page(report: Report, finished_run: Config) -> None:
    write_report(finished_run)
    assert report.workspace.report.read_text(encoding="utf-8") == report.html


def test_an_unfinished_run_has_no_report(finished_run: Config, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"run\.json is missing"):
        write_report(replace(finished_run, workspace=str(tmp_path)))
    assert not Workspace(tmp_path).report.exists()
