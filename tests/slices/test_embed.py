"""A slice is embedded alike whatever else is embedded; embeddings are kept on disk."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ich3d.core.errors import DataError
from ich3d.core.types import SliceEmbeddings, TrainingGroups
from ich3d.slices.embed import StoredEmbeddings, embed, load_embeddings, save_embeddings
from ich3d.slices.encoder import SliceEncoder
from tests.helpers.encoders import PLAIN, config_with, random_hu
from tests.helpers.hu_features import brain_features


@pytest.fixture(scope="module")
def small() -> SliceEncoder:
    torch.manual_seed(0)
    return SliceEncoder.from_config(PLAIN).eval()


@settings(max_examples=8)
@given(batch=st.integers(1, 9), other=st.integers(1, 9), count=st.integers(1, 9))
def test_a_slice_scores_the_same_whatever_the_batch(
    small: SliceEncoder, batch: int, other: int, count: int
) -> None:
    hu = random_hu(count)
    one, two = embed(small, hu, config_with(batch)), embed(small, hu, config_with(other))
    for left, right in zip(one, two, strict=True):
        assert len(left) == count
        np.testing.assert_allclose(left, right, rtol=0, atol=1e-5)


def test_a_slice_scores_the_same_whatever_lies_beyond_its_neighbours(small: SliceEncoder) -> None:
    hu = random_hu(9)
    embeddings, logits = embed(small, hu, config_with(4))
    part_vectors, part_logits = embed(small, hu[3:8], config_with(4))
    np.testing.assert_allclose(part_vectors[1:-1], embeddings[4:7], rtol=0, atol=1e-5)
    np.testing.assert_allclose(part_logits[1:-1], logits[4:7], rtol=0, atol=1e-5)
    assert np.abs(part_logits[0] - logits[3]).max() > 1e-4  # its lower neighbour is a copy here


def test_mirrored_embedding_does_not_know_left_from_right(small: SliceEncoder) -> None:
    hu = random_hu(5)
    for mirror in (True, False):
        one, two = (
            embed(small, image, config_with(4, tta_flip=mirror))[1]
            for image in (hu, hu[:, :, ::-1].copy())
        )
        assert np.allclose(one, two, rtol=0, atol=1e-5) is mirror


def test_embeddings_round_trip(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    seen = TrainingGroups.of(["p1", "p2"])
    items = [
        SliceEmbeddings(
            name,
            rng.normal(size=(n, 5)).astype(np.float32),
            rng.normal(size=(n, 6)).astype(np.float32),
            brain_features(n),
            "encoder fold 1",
            seen,
        )
        for name, n in (("z", 3), ("a", 1), ("m/..", 2))
    ]
    save_embeddings(tmp_path / "e.safetensors", items)
    loaded = list(load_embeddings(tmp_path / "e.safetensors"))
    assert [item.volume_id for item in loaded] == ["z", "a", "m/.."]
    for one, two in zip(items, loaded, strict=True):
        np.testing.assert_array_equal(one.embeddings, two.embeddings)
        np.testing.assert_array_equal(one.logits, two.logits)
        np.testing.assert_array_equal(one.hu_features, two.hu_features)
        assert (one.encoder_id, one.training_groups) == (two.encoder_id, two.training_groups)
    save_embeddings(tmp_path / "none.safetensors", [])
    assert list(load_embeddings(tmp_path / "none.safetensors")) == []


def test_stored_series_are_read_by_name(tmp_path: Path) -> None:
    path = tmp_path / "e.safetensors"
    rng, nobody = np.random.default_rng(0), TrainingGroups.of(())
    embeddings, logits = (rng.normal(size=(3, n)).astype(np.float32) for n in (5, 6))
    items = [
        SliceEmbeddings(name, embeddings, logits, brain_features(3), "encoder", nobody)
        for name in ("b", "a")
    ]
    save_embeddings(path, items)
    stored = StoredEmbeddings(path)
    assert list(stored) == ["b", "a"]
    assert "c" not in stored
    np.testing.assert_array_equal(stored["a"].embeddings, embeddings)
    with pytest.raises(DataError, match=r"none\.safetensors is missing or damaged"):
        StoredEmbeddings(tmp_path / "none.safetensors")
