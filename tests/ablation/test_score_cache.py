"""Scores survive the file that keeps them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ich3d.ablation.score_cache import CachedScores, Provenance, read_row, row_file, write_row


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 99), order=st.sampled_from(["C", "F"]))
def test_a_row_is_read_as_it_was_written(tmp_path: Path, seed: int, order: str) -> None:
    """However its array lies in memory."""
    rng = np.random.default_rng(seed)
    prob = np.array(rng.uniform(1e-4, 1 - 1e-4, (2, 7, 6)), order=order)
    path, origin = (
        row_file(tmp_path, "row"),
        Provenance("truth", ("a", "b"), (None, "c"), ("d", "e")),
    )
    write_row(path, CachedScores(prob, origin))
    again = read_row(path)
    np.testing.assert_allclose(again.prob, prob, atol=1e-3)
    assert again.origin == origin


def test_rows_of_other_names_lie_in_other_files() -> None:
    names = ["BiGRU", "BiGRU + stacker", "BiGRU, 1", "encoder, one slice"]
    files = {row_file(Path("scores"), name) for name in names}
    assert len(files) == len(names)
    assert all(path.name.isascii() for path in files)


@pytest.mark.parametrize("at", [0.0, 1.0])
def test_a_sure_score_stays_as_sure_as_the_metric_lets_it(tmp_path: Path, at: float) -> None:
    write_row(
        tmp_path / "row", CachedScores(np.full((1, 3, 6), at), Provenance("", ("",), (None,), ()))
    )
    np.testing.assert_allclose(
        read_row(tmp_path / "row").prob, np.clip(at, 1e-6, 1 - 1e-6), atol=1e-8
    )
