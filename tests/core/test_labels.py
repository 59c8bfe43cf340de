"""The labels, their order and their weights."""

import numpy as np
import pytest

from ich3d.core.errors import DataError
from ich3d.core.labels import (
    ANY,
    LABELS,
    SUBTYPES,
    WEIGHTS,
    label_index,
    series_prob,
    weight_vector,
)


def test_the_labels_have_one_order() -> None:
    """Files of stored scores and trained weights depend on it."""
    assert LABELS == (
        "epidural",
        "intraparenchymal",
        "intraventricular",
        "subarachnoid",
        "subdural",
        "any",
    )


def test_any_counts_twice() -> None:
    assert [WEIGHTS[label] for label in SUBTYPES] == [1.0] * 5
    assert WEIGHTS[ANY] == 2.0
    assert weight_vector() == pytest.approx(np.array([1, 1, 1, 1, 1, 2]) / 7)


def test_a_label_has_an_index() -> None:
    assert [label_index(label) for label in LABELS] == [0, 1, 2, 3, 4, 5]


def test_an_unknown_label_is_refused_with_a_suggestion() -> None:
    with pytest.raises(DataError, match=r"^no label is called 'subdura'; did you mean 'subdural'"):
        label_index("subdura")


def test_the_probability_of_a_series_is_the_largest_of_its_slices() -> None:
    slice_prob = np.array([[0.1] * 6, [0.2] * 5 + [0.05]])  # (Z, K)
    assert series_prob(slice_prob).tolist() == [0.2, 0.2, 0.2, 0.2, 0.2, 0.1]
