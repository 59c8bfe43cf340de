"""The tables beside the store, and the summary of the training set that a model keeps."""

from pathlib import Path

import numpy as np
import pandas as pd

from ich3d.core.issues import IssueCode
from ich3d.core.labels import LABELS
from ich3d.core.types import Rejected, SeriesMetadata
from ich3d.prepare.tables import (
    conflict_table,
    fingerprint,
    inspect_table,
    rejected_table,
    unmatched_table,
)
from tests.helpers.prepared import acquisition, prepared_series


def rejected(subject: str, code: IssueCode = IssueCode.UNDECODABLE) -> Rejected:
    return Rejected(subject, code, "why", (f"{subject}/0.dcm", f"{subject}/1.dcm"))


def stored(n: int, spacing_mm: float | None, is_regular: bool, *syntaxes: str) -> SeriesMetadata:
    """A stored series of `n` slices with these values of its acquisition."""
    values = acquisition(
        n, spacing_mm=spacing_mm, is_regular=is_regular, transfer_syntaxes=syntaxes, tilt_deg=None
    )
    series = prepared_series(np.zeros((n, 4, 4), dtype=np.int16), acquisition=values)
    return series.metadata


def labelled(values: list[float]) -> pd.DataFrame:
    """A row a slice, with the same value in every label."""
    rows = {"sop_uid": [f"1.{i}" for i in range(len(values))], "path": "a/0.dcm"}
    return pd.DataFrame(rows | dict.fromkeys(LABELS, values))


def test_a_rejection_is_one_row_with_all_its_paths() -> None:
    table = rejected_table([rejected("a")])
    assert table.to_dict("records") == [
        {"subject": "a", "path": "a/0.dcm|a/1.dcm", "code": "undecodable", "detail": "why"}
    ]
    assert list(rejected_table([])) == ["subject", "path", "code", "detail"]


def test_the_table_of_series_has_acquisition_and_codes() -> None:
    (row,) = inspect_table([prepared_series().metadata]).to_dict("records")
    assert (row["volume_id"], row["n_slices"], row["rows"]) == ("1.2.3", 3, 64)
    assert row["transfer_syntaxes"] == "1.2.840.10008.1.2|1.2.840.10008.1.2.1"
    assert row["codes"] == "incomplete"


def test_equal_pixels_with_other_labels_conflict_and_unknown_labels_do_not() -> None:
    slices = pd.DataFrame(
        {
            "hash": ["x", "x", "y", "y", "z", "z", "", ""],
            "sop_uid": list("abcdefgh"),
            "patient_id": "p",
            "path": "q",
            **dict.fromkeys(LABELS, np.nan),
        }
    )
    slices["any"] = [0.0, 1.0, 0.0, np.nan, 1.0, 1.0, 0.0, 1.0]
    assert conflict_table(slices)["sop_uid"].tolist() == ["a", "b"]


def test_slices_without_labels_and_labels_without_slices_are_listed() -> None:
    slices = labelled([0.0, np.nan])
    labels = pd.DataFrame(index=["1.0", "9.9"])
    whole = unmatched_table(slices, labels, None, is_subset=False)
    assert whole.to_numpy().tolist() == [["1.1", "label", "a/0.dcm"], ["9.9", "image", ""]]
    subset = unmatched_table(slices, labels, None, is_subset=True)
    assert subset["sop_uid"].tolist() == ["1.1"]


def test_what_an_importer_could_not_match_is_listed_first(tmp_path: Path) -> None:
    imported = tmp_path / "unmatched.csv"
    imported.write_text("sop_uid,lacks,detail\n1.1,label,no row of the table\n")
    table = unmatched_table(labelled([0.0, np.nan]), pd.DataFrame(), imported, is_subset=False)
    assert table.to_numpy().tolist() == [["1.1", "label", "no row of the table"]]


def test_the_fingerprint_has_ranges_counts_and_prevalence() -> None:
    series = [
        stored(3, 5.0, True, "1.2"),
        stored(4, 2.0, False, "1.2", "1.3"),
        stored(1, None, True, "1.2"),
    ]
    summary = fingerprint(inspect_table(series), labelled([0.0, 1.0, np.nan, 0.0]))
    assert summary["counts"] == {"series": 3, "slices": 4, "irregular": 1}
    assert summary["ranges"]["n_slices"] == [1.0, 3.0, 4.0]
    assert summary["ranges"]["spacing_mm"] == [2.0, 3.5, 5.0]
    assert "tilt_deg" not in summary["ranges"]  # no series has it
    assert summary["transfer_syntaxes"] == {"1.2": 3, "1.3": 1}
    assert summary["prevalence"]["any"] == 1 / 3


def test_a_label_that_no_slice_has_has_no_prevalence() -> None:
    summary = fingerprint(inspect_table([stored(1, None, True, "1.2")]), labelled([np.nan]))
    assert summary["prevalence"] == dict.fromkeys(LABELS)
