"""Metadata of a prepared series survive the way through JSON, also those of older store files."""

import json
from dataclasses import replace

import numpy as np
import pytest

from ich3d.core.issues import IssueCode
from ich3d.core.types import Issue, SeriesMetadata, SliceKey
from ich3d.prepare.metadata_json import (
    acquisition_to_json,
    metadata_from_json,
    metadata_to_json,
)
from tests.helpers.prepared import acquisition, prepared_series


def assert_equal(result: SeriesMetadata, expected: SeriesMetadata) -> None:
    """All fields are equal, arrays to the last bit."""
    arrays = ("z_mm", "hu_features")
    for name in arrays:
        np.testing.assert_array_equal(getattr(result, name), getattr(expected, name))
    assert vars(result) | dict.fromkeys(arrays) == vars(expected) | dict.fromkeys(arrays)


@pytest.mark.parametrize("n", [1, 3])
def test_metadata_come_back_from_json(n: int) -> None:
    keys = tuple(SliceKey("1.2", frame, "odd \udc80 name.dcm") for frame in range(1, n + 1))
    hu = np.zeros((n, 4, 4), dtype=np.int16)
    series = prepared_series(hu, keys=keys, z_mm=np.arange(n) / 3, slice_hashes=("ff",) * n)
    tree = json.loads(json.dumps(metadata_to_json(series)))
    assert_equal(metadata_from_json(tree), series.metadata)


def test_issues_of_an_older_file_have_no_details() -> None:
    """Such a file holds their codes alone, joined as in the tables."""
    series = prepared_series()
    tree = metadata_to_json(series)
    del tree["issues"]
    issues = (Issue(IssueCode.HU_CLIPPED, ""), Issue(IssueCode.INCOMPLETE, ""))
    older = metadata_from_json(tree | {"codes": "hu_clipped|incomplete"})
    assert_equal(older, replace(series.metadata, issues=issues))
    assert metadata_from_json(tree | {"codes": ""}).issues == ()


def test_transfer_syntaxes_are_joined_as_in_the_tables() -> None:
    row = acquisition_to_json(acquisition(transfer_syntaxes=("1.2", "1.3")))
    assert row["transfer_syntaxes"] == "1.2|1.3"
    assert list(row) == [
        "n_slices", "spacing_mm", "largest_gap_mm", "tilt_deg", "is_regular", "rows", "columns",
        "pixel_mm", "transfer_syntaxes",
    ]  # fmt: skip
