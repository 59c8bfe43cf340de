"""The slices of a result table and their labels."""

from dataclasses import replace

import numpy as np
import pandas as pd

from ich3d.core.ground_truth import GroundTruth
from ich3d.core.labels import LABELS
from tests.helpers.scores import thirty_patients


def test_positive_patients_counts_groups_not_slices() -> None:
    expected = {**dict.fromkeys(LABELS, 0), "any": 20, "subdural": 3, "epidural": 17}
    assert thirty_patients().positive_patients == expected


def test_a_label_is_unknown_where_no_slice_has_it() -> None:
    truth = thirty_patients()
    assert truth.unknown_labels == []
    without = GroundTruth(truth.table.assign(epidural=np.nan))
    assert without.unknown_labels == ["epidural"]


def test_the_hash_depends_on_keys_folds_and_labels() -> None:
    truth = thirty_patients()
    assert truth.sha256 == thirty_patients().sha256
    changes: list[pd.DataFrame] = [
        truth.table.assign(any=1 - truth.table["any"]),
        truth.table.assign(fold=0),
        truth.table.assign(sop_uid=truth.table["sop_uid"].iloc[::-1].to_numpy()),
    ]
    hashes = {replace(truth, table=table).sha256 for table in changes}
    assert len({truth.sha256, *hashes}) == 4


def test_equal_seeds_draw_equal_patients() -> None:
    truth = thirty_patients()
    first, again, other = (truth.bootstrap(20, seed).counts for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
