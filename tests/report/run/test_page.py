import base64
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pytest

from ich3d.config.load import load_config
from ich3d.config.root import Config
from ich3d.core.errors import DataError
from ich3d.core.labels import LABELS
from ich3d.core.workspace import Workspace, read_csv, read_json
from ich3d.evaluation.run import out_of_fold
from ich3d.evaluation.table import ResultRow, auc_cell, tidy
from ich3d.report.run.page import write_report
from tests.helpers.page_tree import Element, Tree


@dataclass(frozen=True)
class Written:
    workspace: Workspace
    lines: list[ResultRow]
    html: str
    page: Element


@pytest.fixture(scope="module")
def written(finished_run: Config) -> Written:
    lines = write_report(finished_run).lines
    workspace = Workspace(Path(finished_run.workspace))
    html = workspace.report.read_text(encoding="utf-8")
    return Written(workspace, lines, html, Tree(html).root)


def test_the_rows_are_those_of_the_results(written: Written, finished_run: Config) -> None:
    result = out_of_fold(Workspace(Path(finished_run.workspace)))
    again = result.lines(finished_run.report.resamples, finished_run.seed)
    pd.testing.assert_frame_equal(tidy(written.lines), tidy(again))


def test_the_stage_table_shows_every_row_with_intervals(written: Written) -> None:
    table = written.page.by_id("stages").table()
    assert list(table) == ["base rate", "position only", "encoder", "context", "stack"]
    positive = out_of_fold(written.workspace).truth.positive_patients
    for line in written.lines:
        loss, difference, *aucs = table[line.name]
        assert loss == str(line.weighted_log_loss)
        assert aucs == [auc_cell(line.auc[label], positive[label]) for label in LABELS]
        if line.difference is None:
            assert difference == "-"
        else:
            assert difference.startswith(f"{line.difference:+} against {line.against}: ")


def test_each_label_says_how_many_patients_stand_behind_it(
    written: Written, finished_run: Config
) -> None:
    table = out_of_fold(written.workspace).truth.table
    heads = [" ".join(head.text.split()) for head in written.page.by_id("stages").all("th")]
    for label in LABELS:
        positive = table.loc[table[label] > 0.5, "group_id"].nunique()
        few = ": too few to judge" if positive < 8 else ""
        assert f"AUC {label} {positive} positive{few}" in heads


def test_every_figure_is_inside_the_page_and_in_words(written: Written) -> None:
    images = written.page.all("img")
    kinds = [str(image.attributes["src"]).partition(";")[0] for image in images]
    assert kinds.count("data:image/svg+xml") == 4
    assert kinds.count("data:image/png") == 12
    assert len(kinds) == 16
    for image in images:
        assert len(str(image.attributes["alt"])) > 20
        assert base64.b64decode(str(image.attributes["src"]).partition(",")[2], validate=True)
    alts = "\n".join(str(image.attributes["alt"]) for image in images)
    for words in (
        "Weighted log loss of each row",
        "brain window",
        "Probability along z",
        "Losses of the",
    ):
        assert words in alts


def test_the_page_needs_nothing_outside_itself(written: Written) -> None:
    assert not written.page.all("script", "link", "iframe", "object", "a")
    for element in written.page.walk():
        assert str(element.attributes.get("src", "data:")).startswith("data:")
        assert not {"href", "srcset", "style"} & set(element.attributes)
    (style,) = written.page.all("style")
    assert "url(" not in style.text
    assert "@import" not in style.text
    assert len(written.html) < 2_000_000


def test_what_scrolls_can_be_reached_by_keyboard(written: Written) -> None:
    scrolling = [e for e in written.page.walk() if e.attributes.get("class") == "scroll"]
    assert scrolling
    assert all(
        e.attributes.get("tabindex") == "0" and e.attributes.get("aria-label") for e in scrolling
    )


def test_no_patient_is_named(written: Written) -> None:
    table = out_of_fold(written.workspace).truth.table
    for secret in (
        "Secret-Patient",
        "19010101",
        "phantom-0-",
        "phantom-1-",
        *table["group_id"].unique(),
    ):
        assert secret not in written.html


def test_the_stackers_decision_is_told_for_every_fold_and_label(written: Written) -> None:
    table = written.page.by_id("decisions").table()
    assert list(table) == list(LABELS)
    for fold in range(3):
        saved = read_json(written.workspace.model / "stack" / f"fold{fold}.json")
        for label in LABELS:
            words = "kept" if saved[label]["is_kept"] else "context stands"
            losses = f"stacker {saved[label]['inner_loss']:.4f}, context {saved[label]['inner_start_loss']:.4f}"
            assert table[label][fold].startswith(f"{words} {losses}")


def test_what_could_not_be_used_is_listed_with_its_reason(written: Written) -> None:
    rejected = read_csv(written.workspace.rejected, text=("subject", "code", "detail"))
    assert rejected["code"].tolist() == ["no_head"]
    items = [" ".join(item.text.split()) for item in written.page.all("li")]
    assert f"{rejected['subject'][0]} : {rejected['detail'][0]}" in items
    assert "irregular_spacing : 1 series" in items
    unmatched = read_csv(written.workspace.unmatched, text=("sop_uid", "lacks", "detail"))
    summaries = [" ".join(item.text.split()) for item in written.page.all("summary")]
    assert f"lacks label: {len(unmatched)}" in summaries
    for sop_uid in unmatched["sop_uid"]:
        assert any(item.startswith(sop_uid) for item in items)


def test_the_config_on_the_page_makes_the_same_run(
    written: Written, finished_run: Config, tmp_path: Path
) -> None:
    (tmp_path / "run.yaml").write_text(written.page.by_id("config").text, encoding="utf-8")
    assert load_config(tmp_path / "run.yaml") == finished_run


def test_the_same_run_gives_the_same_page(written: Written, finished_run: Config) -> None:
    write_report(finished_run)
    assert written.workspace.report.read_text(encoding="utf-8") == written.html


def test_an_unfinished_run_has_no_report(finished_run: Config, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"run\.json is missing"):
        write_report(replace(finished_run, workspace=str(tmp_path)))
    assert not Workspace(tmp_path).report.exists()
