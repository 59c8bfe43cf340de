"""The page of an ablation, on thirty synthetic patients."""

from pathlib import Path

import numpy as np
import pytest

from ich3d.ablation.page import answers, write_page
from ich3d.config.ablation import AblationConfig, AblationRow
from ich3d.config.root import Config
from ich3d.core.ground_truth import GroundTruth
from ich3d.evaluation.table import ResultRow, compare
from tests.helpers.page_tree import Element, Tree
from tests.helpers.scores import scores, thirty_patients

CONFIG = Config(
    ablation=AblationConfig(
        reference="weak",
        question="strong",
        rows={"weak": AblationRow(), "strong": AblationRow(set=("control.shuffle=test",))},
    )
)


@pytest.fixture(scope="module")
def truth() -> GroundTruth:
    return thirty_patients()


@pytest.fixture(scope="module")
def rows(truth: GroundTruth) -> list[ResultRow]:
    """A weak row of two seeds, and a strong row that is compared with it."""
    prob = {"weak": scores(truth, 1.0, seeds=2), "strong": scores(truth, 3.0, seeds=2)}
    return compare(prob, {"strong": "weak"}, truth, 50, 0)


@pytest.fixture(scope="module")
def page(
    rows: list[ResultRow], truth: GroundTruth, tmp_path_factory: pytest.TempPathFactory
) -> Element:
    path = tmp_path_factory.mktemp("page") / "ablation.html"
    write_page(path, CONFIG, rows, truth)
    return Tree(path.read_text(encoding="utf-8")).root


def test_answers_cover_the_metric_and_each_label_of_enough_patients(
    rows: list[ResultRow], truth: GroundTruth
) -> None:
    sentences = answers(rows, "strong", truth)
    assert sentences[0].startswith("Weighted log loss: strong is better than weak, -")
    labels = [sentence.partition(":")[0] for sentence in sentences[1:]]
    assert labels == ["Log loss of any", "Log loss of epidural"]


def test_a_row_without_a_comparison_has_no_answer(
    rows: list[ResultRow], truth: GroundTruth
) -> None:
    assert answers(rows, "weak", truth) == []


def test_the_answer_comes_first(page: Element) -> None:
    (headline,) = page.by_class("headline")
    assert headline.words.startswith("Weighted log loss: strong is better than weak")


def test_the_page_says_what_was_compared(page: Element) -> None:
    for text in (
        "30 patient groups, 20 of them with a bleed",
        "360 labelled slices",
        "2 for a trained row",
        "control.shuffle=test",
    ):
        assert text in page.words


def test_labels_of_few_patients_are_marked(page: Element) -> None:
    headings = [heading.words for heading in page.by_id("rows").all("th")]
    assert "AUC subdural 3 patients: too few to judge" in headings
    assert "AUC epidural 17 patients" in headings


def test_every_row_is_in_the_table(page: Element, rows: list[ResultRow]) -> None:
    table = page.by_id("rows").table()
    assert list(table) == ["weak", "strong"]
    weak, strong = rows
    assert table["weak"][0].startswith(str(weak.weighted_log_loss))
    assert "SD over 2 seeds" in table["weak"][0]
    assert table["strong"][1] == f"{strong.difference:+} against weak: gain"


def test_a_label_without_ground_truth_is_named(truth: GroundTruth, tmp_path: Path) -> None:
    unknown = GroundTruth(truth.table.assign(epidural=np.nan))
    rows = compare({"weak": scores(truth, 1.0), "strong": scores(truth, 3.0)}, {}, unknown, 20, 0)
    write_page(tmp_path / "page.html", CONFIG, rows, unknown)
    page = Tree((tmp_path / "page.html").read_text(encoding="utf-8")).root
    assert "epidural: excluded from the weighted log loss" in page.words


def test_the_page_needs_no_other_file(page: Element) -> None:
    assert len(page.all("img")) == 2
    assert not page.all("script", "link", "iframe", "object", "a")
    for element in page.walk():
        assert str(element.attributes.get("src", "data:")).startswith("data:")
