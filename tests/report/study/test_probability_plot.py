"""Coordinates of the probability curves of a scored series."""

from dataclasses import replace

import numpy as np
import pytest

from ich3d.core.labels import STAGES
from ich3d.inference.scoring import SeriesPrediction
from ich3d.report.study.probability_plot import SHOWN_ORDER, ProbabilityPlot, make_probability_plot
from tests.helpers.predictions import with_bleeds


@pytest.fixture(scope="module")
def plot(scored: SeriesPrediction) -> ProbabilityPlot:
    """Slices 3 and 4 of nine are flagged; the gap before the last slice is twice as wide."""
    return make_probability_plot(with_bleeds(scored, (3, "subdural", 0.75), (4, "subdural", 0.875)))


def heights(plot: ProbabilityPlot, label: str, stage: str) -> list[float]:
    (panel,) = (panel for panel in plot.panels if panel.label == label)
    return [float(point.split(",")[1]) for point in panel.points[stage].split()]


def test_there_is_a_panel_for_each_label_and_a_point_for_each_slice(plot: ProbabilityPlot) -> None:
    assert [panel.label for panel in plot.panels] == list(SHOWN_ORDER)
    for panel in plot.panels:
        assert list(panel.points) == list(STAGES)
        assert {len(points.split()) for points in panel.points.values()} == {9}


def test_slices_are_placed_by_millimetres(plot: ProbabilityPlot) -> None:
    steps = np.diff(plot.x)
    np.testing.assert_allclose(steps[:-1], steps[0], atol=0.02)
    assert steps[-1] == pytest.approx(2 * steps[0], abs=0.02)
    assert 0 < plot.x[0] < plot.x[-1] < 100


def test_a_higher_probability_is_higher_on_the_screen(plot: ProbabilityPlot) -> None:
    y = heights(plot, "any", "stack")
    assert int(np.argmin(y)) == 4
    assert y[4] < plot.threshold_y < y[0]
    assert set(heights(plot, "any", "encoder")) == {y[0]}


def test_flagged_slices_are_one_band_each(plot: ProbabilityPlot) -> None:
    (start, width), (next_start, _) = plot.flagged
    assert start < plot.x[3] < start + width
    assert next_start == pytest.approx(start + width, abs=0.02)


def test_ticks_are_round_millimetres_within_the_series(plot: ProbabilityPlot) -> None:
    assert [z for _, z in plot.ticks] == ["0", "10", "20", "30", "40", "50"]
    positions = [position for position, _ in plot.ticks]
    assert positions == sorted(positions)
    assert positions[0] == pytest.approx(plot.x[0], abs=0.02)


def test_the_panel_says_its_highest_probability(plot: ProbabilityPlot) -> None:
    (panel,) = (panel for panel in plot.panels if panel.label == "subdural")
    assert panel.alt == (
        "Probability of subdural along z; the highest of the stack is 0.875, in slice 4, z 20.0 mm."
    )


def test_a_single_slice_has_a_plot(scored: SeriesPrediction) -> None:
    prob = {stage: scores[:1] for stage, scores in scored.prob.items()}
    series = replace(
        scored.series,
        hu=scored.series.hu[:1],
        z_mm=scored.series.z_mm[:1],
        keys=scored.series.keys[:1],
        slice_hashes=scored.series.slice_hashes[:1],
        hu_features=scored.series.hu_features[:1],
    )
    plot = make_probability_plot(replace(scored, series=series, prob=prob))
    assert plot.x == [50.0]
