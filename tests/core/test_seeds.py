"""A random stream depends on the seed and its names, and on nothing that was drawn before."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ich3d.core.seeds import derive, stream


def test_equal_names_give_equal_streams() -> None:
    np.random.default_rng(0).random(7)
    first = stream(3, "order", 1).random(5)
    stream(3, "other").random(100)
    np.testing.assert_array_equal(first, stream(3, "order", 1).random(5))


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.text(max_size=3), st.integers(0, 20)),
        unique=True,
        min_size=2,
    )
)
def test_other_names_give_other_seeds(names: list[tuple[int, str, int]]) -> None:
    seeds = {derive(seed, name, number) for seed, name, number in names}
    assert len(seeds) == len(names)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_names_are_not_simply_concatenated() -> None:
    assert derive(0, "ab", "c") != derive(0, "a", "bc")
    assert derive(0, "1") != derive(0, 1)
    assert derive(1, 2) != derive(12)


def test_a_seed_is_the_same_on_every_computer() -> None:
    """If this number changes, no earlier run can be reproduced."""
    assert derive(0, "folds") == 8044533661345297760
