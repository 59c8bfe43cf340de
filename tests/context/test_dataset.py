"""Windows, directions, shuffling: each control takes away just what its name says."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ich3d.config.schema import ContextConfig
from ich3d.context.bigru import ContextEnsemble
from ich3d.context.dataset import ContextInput, collate, permute_slices, shuffled, window_series
from ich3d.context.geometry import geometry
from ich3d.context.train import score_context

Z_MM = 5.0 * np.arange(12)
CENTRE = 6


def series(seed: int = 0) -> ContextInput:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(Z_MM), 6)).astype(np.float32)
    embeddings = rng.normal(size=(len(Z_MM), 4)).astype(np.float32)
    return ContextInput(embeddings, logits, geometry(Z_MM), np.arange(len(Z_MM)))


def part(one: ContextInput, count: int) -> ContextInput:
    """The lowest `count` slices of a series."""
    kept = (array[:count] for array in (one.embeddings, one.logits, one.geometry, one.order))
    return ContextInput(*kept)


def model(**settings: object) -> ContextEnsemble:
    """A model that has something to say: its last layer is not zero."""
    torch.manual_seed(0)
    made = ContextEnsemble(ContextConfig(hidden_size=8, ensemble_size=1, **settings), 4).eval()
    torch.nn.init.normal_(made.members[0].correction_head.weight)
    return made


def moved_by(made: ContextEnsemble, one: ContextInput) -> list[int]:
    """Which slices' logits move the score of the centre slice."""
    before = score_context(made, one)[CENTRE]
    found = []
    for index in range(len(one)):
        logits = one.logits.copy()
        logits[index] += 2.0
        after = score_context(made, replace(one, logits=logits))[CENTRE]
        if np.abs(after - before).max() > 1e-6:
            found.append(index)
    return found


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, range(12)),
        ({"direction": "forward"}, range(CENTRE + 1)),
        ({"direction": "backward"}, range(CENTRE, 12)),
        ({"window": 2}, range(CENTRE - 2, CENTRE + 3)),
        ({"window": 0}, [CENTRE]),
        ({"window_mm": 10.0}, range(CENTRE - 2, CENTRE + 3)),
        ({"window_mm": 4.0}, [CENTRE]),
        ({"window": 3, "direction": "forward"}, range(CENTRE - 3, CENTRE + 1)),
    ],
)
def test_a_slice_reads_no_further_than_it_may(settings: dict[str, object], expected: range) -> None:
    assert moved_by(model(**settings), series()) == list(expected)


def test_without_geometry_positions_are_not_read() -> None:
    one = series()
    elsewhere = replace(one, geometry=geometry(np.cumsum(np.linspace(1, 9, len(Z_MM)))))
    blind, seeing = model(geometry=False), model()
    np.testing.assert_array_equal(score_context(blind, one), score_context(blind, elsewhere))
    assert np.abs(score_context(seeing, one) - score_context(seeing, elsewhere)).max() > 1e-4


@pytest.mark.parametrize("layers", [1, 2])
def test_a_window_as_wide_as_the_series_is_the_series(layers: int) -> None:
    """Scores and gradients, of series of unlike lengths."""
    found = []
    for reach in (len(Z_MM), None):
        made = model(window=reach, num_layers=layers, dropout=0.0).train()
        batch = collate([series(), part(series(1), 7)], [np.zeros((12, 6)), np.zeros((7, 6))])
        scores = made(batch)
        (scores[0].sum() + scores[1, :7].sum()).backward()
        scores = scores.detach()
        found.append(
            [
                scores[0],
                scores[1, :7],
                *(one.grad for one in made.parameters() if one.grad is not None),
            ]
        )
    for windowed, whole in zip(*found, strict=True):
        torch.testing.assert_close(windowed, whole, atol=1e-5, rtol=1e-4)
    windowed, whole = (
        score_context(model(window=reach, num_layers=layers), series()) for reach in (12, None)
    )
    np.testing.assert_allclose(windowed, whole, atol=1e-6)


def test_surroundings_end_where_the_series_does() -> None:
    parts = window_series(series(), ContextConfig(window=2))
    assert [len(part) for part, _ in parts] == [3, 4, *[5] * 8, 4, 3]
    for index, (part, place) in enumerate(parts):
        np.testing.assert_array_equal(part.logits[place], series().logits[index])
        np.testing.assert_array_equal(part.geometry[place], series().geometry[index])


def test_shuffling_moves_slices_with_their_differences_and_leaves_places() -> None:
    """A shuffled series is read as if its slices, differences and all, lay in another order; each slice still
    gets its own score. So a model that hears one direction reads the same slices, elsewhere in line."""
    one = series()
    mixed = shuffled(one, np.random.default_rng(1))
    assert sorted(mixed.order) == list(range(len(one)))
    np.testing.assert_array_equal(mixed.geometry, one.geometry)
    made = model()
    assert np.abs(score_context(made, mixed) - score_context(made, one)).max() > 1e-4
    forward = model(direction="forward", geometry=False)
    before = set(mixed.order[: list(mixed.order).index(CENTRE) + 1])
    below = {index - 1 for index in before} & set(range(len(one)))
    assert set(moved_by(forward, mixed)) == before | below


def test_what_a_slice_says_for_itself_is_not_shuffled() -> None:
    fresh = ContextEnsemble(
        ContextConfig(hidden_size=8, ensemble_size=1), 4
    ).eval()  # corrects nothing yet
    one = series()
    mixed = shuffled(one, np.random.default_rng(1))
    np.testing.assert_allclose(score_context(fresh, mixed), score_context(fresh, one), atol=1e-7)


def test_scattered_slices_have_other_neighbours() -> None:
    """A model that sees one slice on each side sees those that have come to lie there."""
    one = series()
    moved, order = permute_slices(one, np.random.default_rng(1))
    assert sorted(order) == list(range(len(one)))
    np.testing.assert_array_equal(moved.logits, one.logits[order])
    np.testing.assert_array_equal(moved.geometry, one.geometry)
    near = model(window=1, geometry=False)
    place = int(np.flatnonzero(order == CENTRE)[0])
    around = replace(
        one,
        **{
            name: getattr(one, name)[order[place - 1 : place + 2]] for name in ("vectors", "logits")
        },
    )
    around = replace(around, geometry=one.geometry[:3], order=np.arange(3))
    np.testing.assert_allclose(
        score_context(near, moved)[place], score_context(near, around)[1], atol=1e-6
    )
    assert np.abs(score_context(near, moved)[place] - score_context(near, one)[CENTRE]).max() > 1e-4


def test_padding_leaves_a_shuffled_series_alone() -> None:
    short = ContextInput(
        series().embeddings[:5], series().logits[:5], geometry(Z_MM[:5]), np.array([3, 1, 0, 4, 2])
    )
    nothing = [np.full((n, 6), np.nan, dtype=np.float32) for n in (5, 12)]
    made = model()
    with torch.no_grad():
        together = made(collate([short, series(1)], nothing))[0, :5].numpy()
        alone = made(collate([short], nothing[:1]))[0].numpy()
    np.testing.assert_allclose(together, alone, atol=1e-5)
