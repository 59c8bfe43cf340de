"""The page and tables of an evaluation say what was judged and how well."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ich3d.core.bootstrap import Interval
from ich3d.core.labels import LABELS
from ich3d.evaluation.predictions import BASE_RATE, LabelledScores
from ich3d.report.evaluation_page import share_cell, write_evaluation
from tests.helpers.page_tree import Tree
from tests.helpers.scores import thirty_patients


def scores(groups_are: str | None = "patient", unscored: tuple[str, ...] = ()) -> LabelledScores:
    """Thirty patients with scores that know much, over the base rate."""
    truth = thirty_patients()
    rate = np.nanmean(truth.target, axis=0).clip(0.01)
    prob = np.clip(0.8 * truth.target + 0.1, 0, 1)
    by_row = {BASE_RATE: np.tile(rate, (len(prob), 1)), "encoder": 0.5 * prob, "stack": prob}
    return LabelledScores(truth, by_row, unscored, n_unlabelled=3, groups_are=groups_are)


def test_tables_and_page_are_written(tmp_path: Path) -> None:
    evaluation = write_evaluation(scores(unscored=("1.2.3",)), tmp_path, 0.5, draws=20, seed=0)
    assert evaluation.page == tmp_path / "evaluation.html"
    page = evaluation.page.read_text(encoding="utf-8")
    assert "20 resamples; what is drawn is a patient" in page
    assert "sensitivity for series that bleed is 1.00" in page
    assert "1.2.3" in page
    assert "not a medical device" in page

    tidy = pd.read_csv(tmp_path / "evaluation.csv", keep_default_na=False)
    assert {"weighted_log_loss", "auc", "series_auc"} <= set(tidy["metric"])
    points = pd.read_csv(tmp_path / "evaluation_points.csv")
    assert len(points) == 2 * len(LABELS)
    assert (points["threshold"] == 0.5).all()
    unscored = pd.read_csv(tmp_path / "evaluation_unscored.csv", dtype=str)
    assert unscored["sop_uid"].tolist() == ["1.2.3"]
    assert "| stack |" in evaluation.tables
    assert "| series | any | 20 | 1.00 (1.00 to 1.00) |" in evaluation.tables


def test_slices_that_belong_to_nobody_have_no_intervals(tmp_path: Path) -> None:
    evaluation = write_evaluation(scores(groups_are=None), tmp_path, 0.5, draws=20, seed=0)
    page = evaluation.page.read_text(encoding="utf-8")
    assert "give --series" in page
    assert "sensitivity for slices that bleed is 1.00" in page
    assert "nan" not in page
    assert "nan" not in evaluation.tables
    assert set(pd.read_csv(tmp_path / "evaluation_points.csv")["level"]) == {"slices"}


def test_error_by_agreement_is_told_where_it_is_known(tmp_path: Path) -> None:
    without = write_evaluation(scores(), tmp_path, 0.5, draws=20, seed=0)
    assert "Error by agreement" not in without.page.read_text(encoding="utf-8")
    assert "third by agreement" not in without.tables

    known = np.linspace(0, 1, len(scores().truth.table))
    told = write_evaluation(replace(scores(), agreement=known), tmp_path, 0.5, draws=20, seed=0)
    page = Tree(told.page.read_text(encoding="utf-8")).root
    cells = [cell.words for cell in page.by_id("agreement").all("td")]
    assert cells[:2] == ["all", "0.000 to 0.331"]
    assert "| all | lowest | 0.000 to 0.331 | 120 |" in told.tables
    assert "| all | highest minus lowest |" in told.tables


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (Interval(0.5, 0.25, 0.75), "0.50 (0.25 to 0.75)"),
        (Interval(0.5, np.nan, np.nan), "0.50"),
        (Interval(np.nan, np.nan, np.nan), "-"),
    ],
)
def test_a_share_is_shown_as_far_as_it_is_known(share: Interval, text: str) -> None:
    assert share_cell(share) == text
