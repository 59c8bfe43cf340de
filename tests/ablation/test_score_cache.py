"""Scores of a row survive the file that they are kept in."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from ich3d.ablation.score_cache import (
    CachedScores,
    Provenance,
    read_ground_truth,
    read_scores,
    scores_file,
    write_ground_truth,
    write_scores,
)
from ich3d.core.errors import DataError
from tests.helpers.scores import thirty_patients

PROVENANCE = Provenance("truth", ("a", "b"), (None, "c"), ("d", "e"))


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 99), order=st.sampled_from(["C", "F"]))
def test_scores_are_read_as_they_were_written(tmp_path: Path, seed: int, order: str) -> None:
    """In both memory orders of an array."""
    rng = np.random.default_rng(seed)
    prob = rng.uniform(1e-4, 1 - 1e-4, (2, 7, 6))
    prob = np.asfortranarray(prob) if order == "F" else prob
    path = scores_file(tmp_path, "row")
    write_scores(path, CachedScores(prob, PROVENANCE))
    again = read_scores(path)
    np.testing.assert_allclose(again.prob, prob, atol=1e-3)
    assert again.provenance == PROVENANCE


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_a_certain_score_is_clipped_as_in_the_metric(tmp_path: Path, score: float) -> None:
    path = scores_file(tmp_path, "row")
    write_scores(path, CachedScores(np.full((1, 3, 6), score), PROVENANCE))
    np.testing.assert_allclose(read_scores(path).prob, np.clip(score, 1e-6, 1 - 1e-6), atol=1e-8)


def test_scores_that_do_not_record_the_store_can_be_read(tmp_path: Path) -> None:
    path = scores_file(tmp_path, "row")
    write_scores(path, CachedScores(np.full((1, 3, 6), 0.5), PROVENANCE))
    metadata = {
        "truth_sha256": "truth", "config_sha256": '["a"]', "weights_sha256": "[null]",
    }  # fmt: skip
    save_file(load_file(path), path, metadata=metadata)
    assert read_scores(path).provenance == Provenance("truth", ("a",), (None,), ())


def test_a_missing_file_and_a_foreign_file_are_named(tmp_path: Path) -> None:
    path = scores_file(tmp_path, "row")
    with pytest.raises(DataError, match=r"row\.safetensors is missing"):
        read_scores(path)
    path.write_bytes(b"no scores")
    with pytest.raises(DataError, match=r"row\.safetensors does not contain the scores of a row"):
        read_scores(path)
    save_file({"other": np.zeros(3)}, path)
    with pytest.raises(DataError, match=r"row\.safetensors does not contain the scores of a row"):
        read_scores(path)


def test_rows_with_different_names_have_different_files() -> None:
    names = ["BiGRU", "BiGRU + stacker", "BiGRU, 1", "encoder, one slice"]
    files = {scores_file(Path("scores"), name) for name in names}
    assert len(files) == len(names)
    assert all(path.name.isascii() for path in files)


def test_the_slices_are_read_as_they_were_written(tmp_path: Path) -> None:
    truth = thirty_patients()
    write_ground_truth(tmp_path, truth)
    first = (tmp_path / "slices.csv.gz").read_bytes()
    assert read_ground_truth(tmp_path).sha256 == truth.sha256
    write_ground_truth(tmp_path, truth)
    assert (tmp_path / "slices.csv.gz").read_bytes() == first
    assert gzip.decompress(first).startswith(b"volume_id,")
