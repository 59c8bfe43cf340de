"""Sentences on the quality of a scored series."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ich3d.core.issues import IssueCode
from ich3d.core.types import Issue
from ich3d.dicom.write import SeriesToWrite, write_series
from ich3d.inference.scoring import SeriesPrediction, predict_one
from ich3d.model.folder import Model
from ich3d.report.study.quality_notes import UNTOLD, quality_notes


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
    assert len(set(notes)) == len(IssueCode) + len(set(ranges) - UNTOLD)
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


def test_a_hundredth_of_a_millimetre_is_no_note(
    model: Model, make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    """Steps of 5.01 mm where training had 5.00, each off by up to 0.01 mm."""
    low, _, high = model.fingerprint["ranges"]["spacing_mm"]
    assert low == pytest.approx(high, abs=1e-3)
    z_mm = (high + 0.01) * np.arange(12) + 0.01 * (np.arange(12) % 2)
    position_mm = np.array([(-126.0, -126.0, z) for z in z_mm])
    write_series(make_head("a", 12, position_mm=position_mm), tmp_path)
    (scored,) = predict_one(model.fold(0), tmp_path, None).series
    assert not any("space" in note or "distance" in note for note in quality_notes(model, scored))
    assert "irregular_spacing" not in {issue.code for issue in scored.series.issues}
