from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ich3d.context.align import PENALTY, fit_alignment
from ich3d.core.errors import DataError
from ich3d.core.types import SliceEmbeddings, TrainingGroups
from tests.helpers.hu_features import brain_features

WIDTH = 8


def series_by(encoder: np.ndarray, name: str, seed: int) -> SliceEmbeddings:
    """A series of 30 slices as an encoder tells it that is a linear map of what they are."""
    what = np.random.default_rng(seed).normal(size=(30, WIDTH + 6))
    told = (np.hstack([what, np.ones((30, 1))]) @ encoder).astype(np.float32)
    return SliceEmbeddings(
        volume_id=str(seed),
        embeddings=told[:, :WIDTH],
        logits=told[:, WIDTH:],
        hu_features=brain_features(30),
        encoder_id=name,
        training_groups=TrainingGroups.of([name]),
    )


def some_encoder(seed: int) -> np.ndarray:
    """A turn and a stretch (14, 14), and behind them a shift."""
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(WIDTH + 6, WIDTH + 6)))
    return np.vstack([turn * rng.uniform(0.5, 3, WIDTH + 6), rng.normal(size=WIDTH + 6)])


@given(st.integers(0, 1000))
def test_encoders_that_differ_by_a_linear_map_say_the_same(seed: int) -> None:
    theirs, own = some_encoder(seed), some_encoder(seed + 1)
    seen = [
        [series_by(one, name, n) for n in range(20)] for one, name in ((theirs, "a"), (own, "b"))
    ]
    as_own = fit_alignment(*seen)
    new = as_own(series_by(theirs, "a", 99))
    wanted = series_by(own, "b", 99)
    np.testing.assert_allclose(new.logits, wanted.logits, atol=0.05)
    np.testing.assert_allclose(new.embeddings, wanted.embeddings, atol=0.05)


def test_the_maker_is_still_the_encoder_that_saw_the_slices() -> None:
    theirs, own = some_encoder(0), some_encoder(1)
    as_own = fit_alignment([series_by(theirs, "a", 0)], [series_by(own, "b", 0)])
    new = as_own(series_by(theirs, "a", 5))
    assert new.training_groups == TrainingGroups.of(["a"])
    assert new.encoder_id == "a as b"
    assert new.volume_id == "5"


def test_an_encoder_that_never_tells_a_label_apart_is_mapped_too() -> None:
    theirs, own = some_encoder(0), some_encoder(1)
    given = [series_by(theirs, "a", n) for n in range(5)]
    flat = [replace(item, logits=np.full_like(item.logits, -3.0)) for item in given]
    as_own = fit_alignment(flat, [series_by(own, "b", n) for n in range(5)])
    assert np.isfinite(as_own(flat[0]).logits).all()
    assert as_own(flat[0]).logits.dtype == np.float32


def test_series_of_one_slice_are_mapped() -> None:
    theirs, own = some_encoder(0), some_encoder(1)
    as_own = fit_alignment([series_by(theirs, "a", 0)], [series_by(own, "b", 0)])
    one = series_by(theirs, "a", 1)
    short = replace(
        one,
        embeddings=one.embeddings[:1],
        logits=one.logits[:1],
        hu_features=one.hu_features[:1],
    )
    np.testing.assert_allclose(as_own(short).logits, as_own(one).logits[:1], rtol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_it_changes_nothing_between_equals(seed: int) -> None:
    encoder = some_encoder(seed)
    seen = [series_by(encoder, "a", n) for n in range(20)]
    new = fit_alignment(seen, seen)(series_by(encoder, "a", 99))
    np.testing.assert_allclose(new.logits, series_by(encoder, "a", 99).logits, atol=0.05)


def test_the_map_is_the_ridge_regression_of_scikit_learn() -> None:
    theirs, own = some_encoder(2), some_encoder(3)
    rng = np.random.default_rng(0)
    source = [series_by(theirs, "a", n) for n in range(6)]
    target = [series_by(own, "b", n) for n in range(6)]
    for one in (*source, *target):  # so that the map is not exact
        one.embeddings[:] += rng.normal(size=one.embeddings.shape)
    for one in source:
        one.embeddings[:, 2] = 7.0  # a constant column says nothing
    rows = [np.hstack([one.embeddings, one.logits]).astype(float) for one in source]
    wanted = [np.hstack([one.embeddings, one.logits]).astype(float) for one in target]
    regression = make_pipeline(StandardScaler(), Ridge(alpha=PENALTY * 6 * 30))
    regression.fit(np.concatenate(rows), np.concatenate(wanted))

    aligned = fit_alignment(iter(source), iter(target))(source[3])
    together = np.hstack([aligned.embeddings, aligned.logits])
    np.testing.assert_allclose(together, regression.predict(rows[3]), rtol=1e-5, atol=1e-5)


def test_without_a_series_there_is_no_map() -> None:
    with pytest.raises(DataError, match="an alignment needs a series that both"):
        fit_alignment([], [])
