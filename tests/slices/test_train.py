"""Training the encoders of a fold: on whom, from which start, and with which base rates."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ich3d.config.root import Config
from ich3d.config.schema import SlicesConfig
from ich3d.core.errors import DataError
from ich3d.core.labels import LABELS, label_index
from ich3d.core.types import TrainingGroups
from ich3d.core.workspace import read_csv, read_json
from ich3d.prepare.store import Store
from ich3d.slices.encoder import EncoderEnsemble
from ich3d.slices.train import embed_volumes, train_encoder
from tests.helpers.runs import store_of

FOLD = 0
SLICES = SlicesConfig(encoder="resnet10-half", neighbours=0, epochs=1, ensemble_size=2)


@pytest.fixture(scope="module")
def config(finished_run: Config) -> Config:
    """Two small encoders that are trained for one epoch."""
    return replace(finished_run, slices=SLICES)


@pytest.fixture(scope="module")
def store(finished_run: Config) -> Store:
    return store_of(finished_run)


@pytest.fixture(scope="module")
def trained(
    config: Config, store: Store, tmp_path_factory: pytest.TempPathFactory
) -> tuple[EncoderEnsemble, TrainingGroups]:
    return train_encoder(store, config, FOLD, tmp_path_factory.mktemp("encoder"))


def test_all_members_count_all_other_folds_as_seen(
    trained: tuple[EncoderEnsemble, TrainingGroups], store: Store
) -> None:
    """Validation patients too: they decided which epoch was kept."""
    encoder, groups = trained
    assert len(encoder.members) == 2
    assert groups == TrainingGroups.of(
        store.groups[name] for name, fold in store.folds.items() if fold != FOLD
    )


def test_members_differ(trained: tuple[EncoderEnsemble, TrainingGroups]) -> None:
    first, second = (member.state_dict() for member in trained[0].members)
    assert not torch.equal(first["head.weight"], second["head.weight"])


def test_mean_validation_logits_are_near_the_base_rates(
    trained: tuple[EncoderEnsemble, TrainingGroups], store: Store
) -> None:
    """After one epoch the head has hardly moved from its start."""
    mean_logits = trained[0].mean_validation_logits.cpu().numpy()
    rates = np.nanmean(np.concatenate([store.targets(name) for name in store.volume_ids]), axis=0)
    assert mean_logits.shape == (len(LABELS),)
    np.testing.assert_allclose(mean_logits, np.log(rates / (1 - rates)), atol=1.5)


def test_embeddings_carry_the_encoder_and_its_patients(
    trained: tuple[EncoderEnsemble, TrainingGroups], config: Config, store: Store
) -> None:
    encoder, groups = trained
    names = [name for name, fold in store.folds.items() if fold == FOLD]
    embedded = embed_volumes(encoder, "encoder fold 0", groups, store, names, config)
    assert [series.volume_id for series in embedded] == names
    for series in embedded:
        assert series.encoder_id == "encoder fold 0"
        assert series.training_groups == groups
        assert series.embeddings.shape == (
            len(store.z_mm(series.volume_id)),
            encoder.embedding_width,
        )


def store_with_labels(store: Store, folder: Path, labels: list[str], value: float) -> Store:
    """A store of the same series in which some labels have one value in all slices."""
    for path in store.folder.glob("*.b2nd"):
        (folder / path.name).symlink_to(path)
    (folder / "meta.json").symlink_to(store.folder / "meta.json")
    table = read_csv(store.folder / "slices.csv")
    table[labels] = value
    return Store.finish(folder, table, read_json(folder / "meta.json"))


def test_a_label_without_ground_truth_stays_unlikely(
    config: Config, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "store").mkdir()
    without = store_with_labels(store, tmp_path / "store", ["epidural"], np.nan)
    encoder, _ = train_encoder(without, config, FOLD, tmp_path / "encoder")
    k = label_index("epidural")
    for member in encoder.members:
        assert not member.state_dict()["head.weight"][k].any()
    assert encoder.mean_validation_logits[k] < -3


def test_a_store_without_labels_is_refused(config: Config, store: Store, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    unlabelled = store_with_labels(store, tmp_path / "store", list(LABELS), np.nan)
    with pytest.raises(DataError, match="no labelled slice is left to train on"):
        train_encoder(unlabelled, config, FOLD, tmp_path / "encoder")
