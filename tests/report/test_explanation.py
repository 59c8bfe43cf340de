"""An explanation as a table, a figure and a sentence."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ich3d.core.workspace import read_csv
from ich3d.explain.explanation import Explanation
from ich3d.report.explanation import (
    COLUMNS,
    explanation_table,
    stacker_clause,
    summary_sentence,
    write_explanation,
)


def parts(*rows: tuple[str, float | None, int | None, float]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["what", "offset_mm", "slice_index", "contribution"])
    return table.astype({"offset_mm": float, "slice_index": "Int64"})


@pytest.fixture
def explanation() -> Explanation:
    """Slice 1 of three; two of three folds kept a stacker."""
    return Explanation(
        volume_id="volume",
        sop_uid="1.2.3",
        slice_index=1,
        n_slices=3,
        label="subdural",
        prob=0.75,
        context=parts(
            ("baseline", None, None, -1.0),
            ("slice", -5.0, 0, 0.25),
            ("slice", 0.0, 1, 1.5),
            ("slice", 5.0, 2, -0.125),
        ),
        shows_brain=True,
        stacker=parts(
            ("start", None, None, 0.625),
            ("average", None, None, 0.001),
            ("own", 0.0, 1, -0.25),
            ("neighbour", -5.0, None, 0.125),
            ("neighbour", 5.0, None, 0.5),
            ("series", None, None, 0.0625),
            ("place", None, None, -0.03125),
        ),
        folds=(0, 1, 2),
        kept=(0, 2),
        hu=np.full((16, 16), 40, dtype=np.int16),
        heat=np.zeros((16, 16), dtype=np.float32),
    )


def test_the_table_has_the_contributions_to_both_stages(explanation: Explanation) -> None:
    table = explanation_table(explanation)
    assert list(table.columns) == COLUMNS
    sums = table.groupby("stage")["contribution"].sum()
    assert sums["context"] == pytest.approx(0.625)
    assert sums["stack"] == pytest.approx(explanation.stacker["contribution"].sum())


def test_the_sentence_sums_up_both_stages(explanation: Explanation) -> None:
    assert summary_sentence(explanation) == (
        "Slice 1 (1.2.3) scores 0.750 for subdural: the context model counts +1.50 for the "
        "slice itself and +0.12 for its neighbours, most for the one 5.0 mm below (+0.25); the "
        "stacker's trees, used in 2 of 3 folds, count -0.25 for the slice itself and +0.62 for its "
        "neighbours, most for the one 5.0 mm above (+0.50)."
    )


def test_the_largest_contributions_of_the_stacker_come_first(explanation: Explanation) -> None:
    """Neighbours count together: +0.62 as the start, which comes first by name or order."""
    clause = stacker_clause(explanation)
    assert clause.startswith("what counts most in the stacker: ")
    for part in (
        "the weighted mean of encoder, context model and Hounsfield units (+0.62)",
        "its neighbours' scores (+0.62)",
        "the slice's own scores (-0.25)",
        "the whole series (+0.06)",
    ):
        assert part in clause
    assert "position" not in clause  # the fifth largest
    assert "every slice" not in clause  # too small


def test_without_a_stacker_the_context_score_is_used(explanation: Explanation) -> None:
    without = replace(explanation, kept=(), stacker=parts(("start", None, None, 0.625)))
    assert summary_sentence(without).endswith(
        "; for this label the stacker has no trees, but the weighted mean of encoder, context "
        "model and Hounsfield units."
    )
    assert stacker_clause(without) == ""


def test_table_and_figure_are_written(explanation: Explanation, tmp_path: Path) -> None:
    csv, png = write_explanation(explanation, tmp_path)
    assert len(read_csv(csv)) == len(explanation.context) + len(explanation.stacker)
    with Image.open(png) as image:
        assert image.format == "PNG"
        assert image.width > 1000


def test_a_series_of_one_slice_has_no_neighbours(explanation: Explanation) -> None:
    single = replace(
        explanation,
        slice_index=0,
        n_slices=1,
        kept=(),
        context=parts(("baseline", None, None, -1.0), ("slice", 0.0, 0, 1.5)),
        stacker=parts(("start", None, None, 0.5)),
    )
    assert "+1.50 for the slice itself and +0.00 for its neighbours;" in summary_sentence(single)
