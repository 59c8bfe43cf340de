"""Losses on the phantoms' look-alikes."""

import numpy as np
import pandas as pd
import pytest

from ich3d.ablation.lookalikes import lookalike_losses
from ich3d.core.ground_truth import GroundTruth
from tests.helpers.scores import PATIENTS, SLICES, thirty_patients

BLEEDING = 20 * 4  # four slices in each of twenty patients


@pytest.fixture
def truth() -> GroundTruth:
    return thirty_patients()


def lookalikes_in(truth: GroundTruth, index: int) -> pd.DataFrame:
    """The phantoms' table, with a look-alike in slice `index` of every patient."""
    lookalike = np.where(truth.table["slice_index"] == index, "falx", "")
    return pd.DataFrame({"sop_uid": truth.table["sop_uid"], "lookalike": lookalike})


def test_slices_with_and_without_a_lookalike_are_scored_apart(truth: GroundTruth) -> None:
    prob = np.full((1, *truth.target.shape), 0.01)
    prob[0, truth.table["slice_index"] == 0] = 0.5
    table = lookalike_losses({"row": prob}, truth, lookalikes_in(truth, 0))
    by_subset = table.set_index("slices without a bleed")
    assert by_subset.loc["look-alike", "count"] == PATIENTS
    assert by_subset.loc["look-alike", "loss"] == pytest.approx(np.log(2))
    assert by_subset.loc["none", "count"] == PATIENTS * SLICES - PATIENTS - BLEEDING
    assert by_subset.loc["none", "loss"] == pytest.approx(-np.log(0.99))


def test_slices_with_a_bleed_are_excluded(truth: GroundTruth) -> None:
    """Slice 5 bleeds in twenty patients, so ten look-alikes are left."""
    prob = np.full((1, *truth.target.shape), 0.01)
    table = lookalike_losses({"row": prob}, truth, lookalikes_in(truth, 5))
    counts = table.set_index("slices without a bleed")["count"]
    assert counts.to_dict() == {"look-alike": 10, "none": PATIENTS * SLICES - BLEEDING - 10}


def test_any_of_a_stacker_is_raised_to_its_largest_subtype(truth: GroundTruth) -> None:
    prob = np.full((1, *truth.target.shape), 0.01)
    prob[..., 0] = 0.5
    rows = {"row": prob, "row + stacker": prob}
    table = lookalike_losses(rows, truth, lookalikes_in(truth, 0))
    loss = table.groupby("row")["loss"].mean()
    assert loss["row + stacker"] > loss["row"]
