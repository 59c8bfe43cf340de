"""Tables of held-out scores: one row a slice, in the order of the store."""

import numpy as np

from ich3d.config.root import Config
from ich3d.context.score import member_agreement
from ich3d.core.labels import LABELS, STAGES
from ich3d.core.types import SliceScores, TrainingGroups
from ich3d.crossfit.out_of_fold import oof_table, probabilities, read_oof
from ich3d.crossfit.stages import Stages
from ich3d.model.folder import Model
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
            *(["agreement"] if stage == "context" else []),
        ]  # fmt: skip


def test_agreement_is_that_of_the_context_models_of_the_slices_fold(
    finished_run: Config, model: Model
) -> None:
    store, table = store_of(finished_run), read_oof(workspace_of(finished_run), "context")
    embedded = Stages(finished_run, workspace_of(finished_run), store).embedded()
    for fold_model in model.fold_models:
        for name in table.loc[table["fold"] == fold_model.fold, "volume_id"].unique():
            expected = member_agreement(fold_model.context, embedded[name], store.z_mm(name))
            of_series = table.loc[table["volume_id"] == name, "agreement"]
            np.testing.assert_allclose(of_series, expected, atol=1e-6)
    assert 0 <= table["agreement"].min() < table["agreement"].max() <= 1


def test_only_the_stack_is_made_coherent(finished_run: Config) -> None:
    prob = probabilities(read_oof(workspace_of(finished_run), "stack"))
    assert np.all(prob[:, -1] >= prob[:, :-1].max(axis=1))
