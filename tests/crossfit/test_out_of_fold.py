"""Tables of held-out scores: one row a slice, in the order of the store."""

import numpy as np

from ich3d.config.root import Config
from ich3d.core.labels import LABELS, STAGES
from ich3d.core.types import SliceScores, TrainingGroups
from ich3d.crossfit.out_of_fold import oof_table, probabilities, read_oof
from tests.helpers.runs import store_of, workspace_of


def test_the_table_joins_scores_to_the_slices_of_the_store(finished_run: Config) -> None:
    store = store_of(finished_run)
    rng = np.random.default_rng(0)
    prob = {
        name: rng.random((len(store.z_mm(name)), len(LABELS))).astype(np.float32)
        for name in store.volume_ids
    }
    scores = {
        name: SliceScores(name, "encoder", prob[name], TrainingGroups.of(["p1"]))
        for name in reversed(store.volume_ids)  # their order does not matter
    }
    table = oof_table(store, scores)
    assert len(table) == len(store.table)
    for name in store.volume_ids:
        rows = table[table["volume_id"] == name]
        np.testing.assert_array_equal(rows["slice_index"], np.arange(len(rows)))
        np.testing.assert_array_equal(rows["z_mm"], store.z_mm(name))
        np.testing.assert_array_equal(rows[list(LABELS)], store.targets(name))
        np.testing.assert_allclose(probabilities(rows), prob[name], atol=1e-7)
        assert set(rows["group_id"]) == {store.groups[name]}
        assert set(rows["fold"]) == {store.folds[name]}


def test_columns_of_the_file_are_fixed(finished_run: Config) -> None:
    """People's scripts read them."""
    for stage in STAGES:
        table = read_oof(workspace_of(finished_run), stage)
        assert list(table) == [
            "volume_id", "sop_uid", "frame", "slice_index", "z_mm", "group_id", "fold", *LABELS,
            *(f"prob_{label}" for label in LABELS),
        ]  # fmt: skip


def test_only_the_stack_is_made_coherent(finished_run: Config) -> None:
    prob = probabilities(read_oof(workspace_of(finished_run), "stack"))
    assert np.all(prob[:, -1] >= prob[:, :-1].max(axis=1))
