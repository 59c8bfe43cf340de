"""Sentences on the quality of a scored series."""

import re
from dataclasses import replace
from typing import Any

from ich3d.core.issues import IssueCode
from ich3d.core.types import Issue
from ich3d.inference.scoring import SeriesPrediction
from ich3d.model.folder import Model
from ich3d.report.study.quality_notes import quality_notes


def test_issues_and_unusual_geometry_are_described(model: Model, scored: SeriesPrediction) -> None:
    assert [issue.code for issue in scored.series.issues] == [IssueCode.IRREGULAR_SPACING]
    low, _, high = model.fingerprint["ranges"]["n_slices"]
    notes = quality_notes(model, scored)
    assert notes[0] == "The slices are unevenly spaced, or slices are missing."
    assert f"The number of slices is 9; the model was trained on {low:.4g} to {high:.4g}." in notes
    assert "columns" not in scored.out_of_range
    assert not any("columns" in note for note in notes)


def test_every_issue_and_every_value_has_a_sentence(model: Model, scored: SeriesPrediction) -> None:
    ranges = tuple(model.fingerprint["ranges"])
    values: dict[str, Any] = dict.fromkeys(ranges, 7.0)
    series = replace(
        scored.series,
        issues=tuple(Issue(code, "") for code in IssueCode),
        acquisition=replace(scored.series.acquisition, **values),
    )
    notes = quality_notes(model, replace(scored, out_of_range=ranges, series=series))
    assert len(set(notes)) == len(IssueCode) + len(ranges)
    assert all(re.fullmatch(r"[A-Z].+\.", note) for note in notes)


def test_an_issue_of_several_slices_is_described_once(
    model: Model, scored: SeriesPrediction
) -> None:
    issue = Issue(IssueCode.DUPLICATE, "")
    series = replace(scored.series, issues=(issue, issue))
    notes = quality_notes(model, replace(scored, series=series, out_of_range=()))
    assert notes == ["Copies of some of its slices were left out."]


def test_a_usual_series_has_no_notes(model: Model, scored: SeriesPrediction) -> None:
    usual = replace(scored, out_of_range=(), series=replace(scored.series, issues=()))
    assert quality_notes(model, usual) == []
