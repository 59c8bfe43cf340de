"""Linked patients stay in one group, and rare labels are spread over the folds."""

from collections import Counter
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ich3d.core.labels import LABELS
from ich3d.core.seeds import stream
from ich3d.prepare.folds import (
    assign_folds,
    link,
    slice_hashes,
    split_validation,
    subsample_groups,
)

BLEEDS = st.lists(st.lists(st.integers(0, 1), min_size=6, max_size=6), min_size=3, max_size=40)


def groups_of(rows: list[list[int]]) -> dict[str, np.ndarray]:
    return {f"p{i:02d}": np.array(row, dtype=float) for i, row in enumerate(rows)}


def test_a_shared_slice_links_two_patients() -> None:
    groups = link(["a", "a", "b", "b", "c"], ["1", "2", "2", "3", "4"])
    assert groups == {"a": "a", "b": "a", "c": "c"}


def test_links_reach_over_several_patients() -> None:
    groups = link(["d", "c", "c", "b", "b", "a"], ["1", "1", "2", "2", "3", "3"])
    assert set(groups.values()) == {"a"}


def test_slices_without_a_hash_link_nobody() -> None:
    assert link(["a", "b"], ["", ""]) == {"a": "a", "b": "b"}


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["", *"123456"])), min_size=1)
)
def test_linked_are_exactly_those_that_shared_slices_connect(pairs: list[tuple[str, str]]) -> None:
    groups = link(*zip(*pairs, strict=True))
    together = {name: {name} for name, _ in pairs}
    for patient, image in pairs:
        for other, same in pairs:
            if image and image == same and together[patient] is not together[other]:
                merged = together[patient] | together[other]
                together |= dict.fromkeys(merged, merged)
    assert groups == {name: min(members) for name, members in together.items()}


def test_only_slices_with_brain_are_hashed() -> None:
    hu = np.arange(3 * 4, dtype=np.int16).reshape(3, 2, 2)
    air, first, second = slice_hashes(hu, np.array([0.0, 50.0, 50.0]))
    assert air == ""
    assert first != second
    assert slice_hashes(hu[1:2].astype(">i2"), np.array([50.0])) == (first,)


@given(rows=BLEEDS, folds=st.integers(3, 5), seed=st.integers(0, 2**31))
def test_every_group_gets_one_fold_and_no_fold_is_empty(
    rows: list[list[int]], folds: int, seed: int
) -> None:
    bleeds = groups_of(rows)
    fold_of = assign_folds(bleeds, folds, stream(seed, "folds"))
    assert set(fold_of) == set(bleeds)
    if len(bleeds) >= folds:
        assert set(fold_of.values()) == set(range(folds))
    assert fold_of == assign_folds(bleeds, folds, stream(seed, "folds"))


@settings(max_examples=200)
@given(rows=BLEEDS, folds=st.integers(3, 5), seed=st.integers(0, 2**31))
def test_the_rarest_label_reaches_every_fold(rows: list[list[int]], folds: int, seed: int) -> None:
    bleeds = groups_of(rows)
    counts = np.sum(rows, axis=0)
    fold_of = assign_folds(bleeds, folds, stream(seed, "folds"))
    rarest = int(np.argmin(np.where(counts > 0, counts, np.inf)))
    spread = Counter(fold_of[name] for name, labels in bleeds.items() if labels[rarest] > 0)
    positive = int(counts[rarest])
    assert len(spread) == min(folds, positive)
    assert max(spread.values(), default=0) <= -(-positive // folds)


@given(seed=st.integers(0, 2**31))
def test_with_labels_as_they_occur_every_label_reaches_every_fold(seed: int) -> None:
    """CT-ICH's counts of bleeding patients, drawn independently, over 75 patients and 5 folds."""
    rng = stream(seed, "labels")
    rows = np.zeros((75, 6))
    for k, positive in enumerate((21, 15, 5, 6, 6)):
        rows[rng.choice(75, positive, replace=False), k] = 1
    rows[:, 5] = rows[:, :5].max(axis=1)
    bleeds = {f"p{i:02d}": row for i, row in enumerate(rows)}
    fold_of = assign_folds(bleeds, 5, rng)
    for k in range(len(LABELS)):
        assert {fold_of[name] for name, labels in bleeds.items() if labels[k]} == set(range(5))
    sizes = Counter(fold_of.values())
    assert max(sizes.values()) - min(sizes.values()) <= 3


def test_folds_depend_on_the_seed_and_not_on_the_order_of_patients() -> None:
    rows = np.random.default_rng(0).integers(0, 2, (30, 6)).tolist()
    bleeds = groups_of(rows)
    backward = dict(reversed(bleeds.items()))
    assert assign_folds(bleeds, 5, stream(1, "folds")) == assign_folds(
        backward, 5, stream(1, "folds")
    )
    assert assign_folds(bleeds, 5, stream(1, "folds")) != assign_folds(
        bleeds, 5, stream(2, "folds")
    )


@given(
    rows=st.lists(st.lists(st.integers(0, 1), min_size=6, max_size=6), min_size=2, max_size=40),
    share=st.sampled_from([0.1, 0.15, 0.2, 0.5]),
    seed=st.integers(0, 2**31),
)
def test_a_validation_split_leaves_groups_on_both_sides(
    rows: list[list[int]], share: float, seed: int
) -> None:
    bleeds = groups_of(rows)
    training, validation = split_validation(bleeds, share, stream(seed, "inner"))
    assert sorted([*training, *validation]) == sorted(bleeds)
    assert training
    assert validation
    assert len(validation) <= max(1, round(2 * share * len(bleeds)))


@given(rows=BLEEDS, seed=st.integers(0, 2**31))
def test_a_larger_subsample_keeps_the_groups_of_a_smaller_one(
    rows: list[list[int]], seed: int
) -> None:
    bleeds = groups_of(rows)
    samples = [
        set(subsample_groups(bleeds, count, stream(seed, "patients"))) for count in range(len(rows))
    ]
    assert [len(sample) for sample in samples] == list(range(len(rows)))
    for smaller, larger in pairwise(samples):
        assert len(smaller - larger) <= 1  # rounding may exchange one group
