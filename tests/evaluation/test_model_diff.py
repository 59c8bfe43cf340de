"""Differences of scores, slice by slice and series by series."""

import pandas as pd
import pytest

from ich3d.core.labels import LABELS
from ich3d.evaluation.model_diff import flips, largest_differences, series_differences


@pytest.fixture
def slices() -> pd.DataFrame:
    """Two series of two slices; one slice differs in `subdural`, and another in `any`."""
    table = pd.DataFrame(
        {"volume_id": ["v", "v", "w", "w"], "slice_index": [0, 1, 0, 1]}
        | {f"{name}_{label}": 0.25 for name in ("a", "b") for label in LABELS}
    )
    table.loc[1, "b_subdural"] = 0.375
    table.loc[2, "b_any"] = 0.75
    return table


def test_a_flag_flips_at_the_operating_threshold(slices: pd.DataFrame) -> None:
    assert flips(slices).tolist() == [False, False, True, False]


def test_the_largest_differences_are_named(slices: pd.DataFrame) -> None:
    rows = largest_differences(slices).to_dict("records")
    assert [(row["label"], row["volume_id"], row["slice_index"]) for row in rows] == [
        ("subdural", "v", 1),
        ("any", "w", 0),
    ]
    assert [row["difference"] for row in rows] == [0.125, 0.5]


def test_series_have_their_largest_difference(slices: pd.DataFrame) -> None:
    table = series_differences(slices).set_index("volume_id")
    assert table.loc["v", "subdural"] == 0.125
    assert table.loc["v", "any"] == 0
    assert table.loc["w", "any"] == 0.5
    assert table["flips"].tolist() == [0, 1]
