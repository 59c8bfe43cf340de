"""Training anew on a given encoder: held out for all new patients, and refused otherwise."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest

from ich3d.core.errors import LeakageError
from ich3d.core.labels import ANY, LABELS
from ich3d.core.types import SeriesMetadata
from ich3d.crossfit.retrain import MemoryStore, Retrained, retrain
from ich3d.model.fold_model import FoldModel
from ich3d.model.folder import Model
from ich3d.prepare.store import slice_rows
from tests.helpers.hospital import write_frozen_model
from tests.helpers.prepared import prepared_series

N_PATIENTS, N_SLICES = 9, 6


@pytest.fixture(scope="module")
def frozen_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model that was trained on the patient p1."""
    return write_frozen_model(tmp_path_factory.mktemp("model") / "model")


def series_of(patient_id: str) -> SeriesMetadata:
    hu = np.zeros((N_SLICES, 4, 4), dtype=np.int16)
    return prepared_series(hu, volume_id=f"{patient_id}.v", patient_id=patient_id).metadata


def store_of(patients: list[str], inverted: int | None = None) -> MemoryStore:
    """A series a patient, in three folds; the upper slices bleed, those of a fold may not."""
    series = [series_of(patient) for patient in patients]
    table = pd.concat([slice_rows(one_series) for one_series in series], ignore_index=True)
    fold = np.repeat(np.arange(len(patients)) % 3, N_SLICES)
    bleeds = (table["slice_index"] >= N_SLICES // 2).astype(float)
    bleeds = bleeds.where(fold != inverted, 1 - bleeds)
    labels = dict.fromkeys(LABELS, 0.0) | {"subdural": bleeds, ANY: bleeds}
    return MemoryStore(series, table.assign(group_id=table["patient_id"], fold=fold, **labels))


def embeddings_of(store: MemoryStore, model: Model) -> Mapping[str, np.ndarray]:
    """Random embeddings that tell where a slice lies."""
    width = model.fold_models[0].encoder.embedding_width
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(len(store.volume_ids), N_SLICES, width)).astype(np.float32)
    noise[..., :8] += 4 * (np.arange(N_SLICES)[:, None] >= N_SLICES // 2)
    return dict(zip(store.volume_ids, noise, strict=True))


PATIENTS = [f"p8{index}" for index in range(N_PATIENTS)]


@pytest.fixture(scope="module")
def retrained(frozen_model: Model) -> Retrained:
    store = store_of(PATIENTS)
    return retrain(frozen_model, store, embeddings_of(store, frozen_model))


def test_every_slice_is_scored_out_of_fold(frozen_model: Model, retrained: Retrained) -> None:
    store = store_of(PATIENTS)
    assert set(retrained.prob) == set(store.volume_ids)
    for fold_model in retrained.fold_models:
        held_out = {store.groups[n] for n, fold in store.folds.items() if fold == fold_model.fold}
        expected = (set(PATIENTS) - held_out) | frozen_model.training_groups.groups
        assert fold_model.training_groups.groups == expected
    for prob in retrained.prob.values():
        assert prob.shape == (N_SLICES, len(LABELS))
        assert (prob[:, LABELS.index(ANY)] >= prob[:, :-1].max(axis=1)).all()


def head_weight(fold_model: FoldModel) -> np.ndarray:
    """The weights (K, D) of a fold's last layer."""
    tensor = fold_model.encoder.state_dict()["members.0.head.weight"]
    return np.asarray(tensor.cpu().numpy())


def test_the_encoder_is_the_mean_of_the_folds(frozen_model: Model, retrained: Retrained) -> None:
    heads = [
        fold.encoder.state_dict()["members.0.head.weight"] for fold in frozen_model.fold_models
    ]
    mean = np.mean([head.cpu().numpy() for head in heads], axis=0)
    for fold_model in retrained.fold_models:
        head = fold_model.encoder.state_dict()["members.0.head.weight"].cpu().numpy()
        np.testing.assert_allclose(head, mean, atol=1e-7)


def test_labels_of_a_fold_do_not_change_its_scores(
    frozen_model: Model, retrained: Retrained
) -> None:
    store = store_of(PATIENTS, inverted=0)
    other = retrain(frozen_model, store, embeddings_of(store, frozen_model))
    is_same = {
        name: np.array_equal(other.prob[name], retrained.prob[name]) for name in store.volume_ids
    }
    assert all(is_same[name] for name, fold in store.folds.items() if fold == 0)
    assert not any(is_same[name] for name, fold in store.folds.items() if fold != 0)


def test_a_patient_behind_the_encoder_is_refused(frozen_model: Model) -> None:
    store = store_of([*PATIENTS[:-1], "p1"])
    with pytest.raises(LeakageError, match="trained on group p1"):
        retrain(frozen_model, store, embeddings_of(store, frozen_model))


def test_the_config_has_the_number_of_folds_and_no_start_weights(retrained: Retrained) -> None:
    assert retrained.config.prepare.folds == len(retrained.fold_models) == 3
    assert retrained.config.context.weights is None


def test_a_store_in_memory_tells_equal_tables_from_others() -> None:
    assert store_of(PATIENTS).identity == store_of(PATIENTS).identity
    assert store_of(PATIENTS).identity != store_of(PATIENTS, inverted=1).identity
