import numpy as np
import pandas as pd
import pytest

from ich3d.ablation.lookalikes import on_lookalikes
from tests.helpers.scores import PATIENTS, thirty_patients


def test_look_alikes_are_told_apart() -> None:
    truth = thirty_patients()
    kinds = pd.DataFrame({"sop_uid": truth.table["sop_uid"], "lookalike": ""})
    kinds.loc[truth.table["slice_index"] == 0, "lookalike"] = "falx"
    prob = np.full((1, *truth.target.shape), 0.01)
    prob[0, truth.table["slice_index"] == 0] = 0.5
    found = on_lookalikes({"row": prob}, truth, kinds).set_index("slices without a bleed")
    assert found.loc["look-alike", "count"] == PATIENTS
    assert found.loc["look-alike", "loss"] == pytest.approx(np.log(2))
    assert found.loc["none", "loss"] == pytest.approx(-np.log(0.99))
