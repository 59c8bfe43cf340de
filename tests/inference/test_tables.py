"""The tables of a prediction, from scored series that are made here."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from ich3d.core.issues import IssueCode
from ich3d.core.labels import ANY, LABELS, STAGES
from ich3d.dicom.origin import SeriesOrigin
from ich3d.inference.journal import ScoredSeries
from ich3d.inference.scoring import UnscoredSlice
from ich3d.inference.tables import (
    SERIES_COLUMNS,
    SLICE_COLUMNS,
    ambiguous_uids,
    series_table,
    slice_table,
    submission,
    uids_without_score,
)

STACK = [f"stack_{label}" for label in LABELS]
RATES: dict[str, float | None] = dict.fromkeys(LABELS, 0.25)

ORIGINS = {
    "1.2": SeriesOrigin(series_description="Head"),
    "3": SeriesOrigin(convolution_kernel="H60s"),
}


def scored_series(n: int = 3, name: str = "1.2", **changes: Any) -> ScoredSeries:
    """A series of `n` slices, 5 mm apart; slice i has probability 0.1 * (i + 1) of every label."""
    prob = np.repeat(0.1 * np.arange(1, n + 1)[:, None], len(LABELS), axis=1)
    fields: dict[str, Any] = {
        "study_uid": "1",
        "series_uid": name,
        "volume_id": name,
        "patient_id": "p0",
        "sop_uids": tuple(f"{name}.{i}" for i in range(n)),
        "frames": (None,) * n,
        "z_mm": 5.0 * np.arange(n),
        "codes": (),
        "out_of_range": (),
        "brain_cm2": 30.0 * np.arange(n),
        "prob": dict.fromkeys(STAGES, prob),
        "agreement": 1 - 0.1 * np.arange(n),
    }
    return ScoredSeries(**{**fields, **changes})


def submitted(slices: pd.DataFrame) -> dict[str, float]:
    """The submitted probability of `any` by SOPInstanceUID."""
    table = submission(slices, RATES)
    of_any = table[table["ID"].str.endswith(f"_{ANY}")]
    return dict(zip(of_any["ID"].str.removesuffix(f"_{ANY}"), of_any["Label"], strict=True))


def test_slices_have_keys_positions_gaps_and_scores() -> None:
    rows = slice_table([scored_series(codes=(IssueCode.INCOMPLETE, IssueCode.HU_CLIPPED))])
    assert list(rows) == SLICE_COLUMNS
    assert rows["slice_index"].tolist() == [0, 1, 2]
    assert rows["z_mm"].tolist() == [0.0, 5.0, 10.0]
    assert np.isnan(rows["gap_mm"][0])
    assert rows["gap_mm"][1:].tolist() == [5.0, 5.0]
    assert rows["codes"].unique().tolist() == ["hu_clipped|incomplete"]
    assert rows["frame"].isna().all()
    assert rows["stack_any"].tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert rows["brain_cm2"].tolist() == [0.0, 30.0, 60.0]
    assert rows["agreement"].tolist() == pytest.approx([1.0, 0.9, 0.8])


def test_a_series_agrees_as_its_strongest_slice_does() -> None:
    (agreement,) = series_table([scored_series(4)], {}, ORIGINS)["agreement"]
    assert agreement == pytest.approx(0.7)


def test_a_left_out_slice_stands_at_its_position_or_at_the_end() -> None:
    unscored = (
        UnscoredSlice("9.1", None, None, IssueCode.NO_POSITION),
        UnscoredSlice("9.2", 3, 7.5, IssueCode.UNDECODABLE),
    )
    rows = slice_table([scored_series(unscored=unscored)])
    assert rows["sop_uid"].tolist() == ["1.2.0", "1.2.1", "9.2", "1.2.2", "9.1"]
    left_out = rows[rows["slice_index"].isna()]
    assert left_out["codes"].tolist() == ["undecodable", "no_position"]
    assert left_out["frame"].tolist() == [3, pd.NA]
    assert left_out[["gap_mm", *STACK]].isna().all(axis=None)
    assert (rows["volume_id"] == "1.2").all()


def test_series_have_the_maximum_of_their_slices_and_the_top_three() -> None:
    table = series_table(
        [
            scored_series(4, out_of_range=("rows", "tilt_deg")),
            scored_series(1, "3", is_known_patient=True),
        ],
        {"3": "soft kernel"},
        ORIGINS,
    )
    assert list(table) == SERIES_COLUMNS
    first, second = table.to_dict("records")
    assert (first["n_slices"], second["n_slices"]) == (4, 1)
    assert first["out_of_range"] == "rows|tilt_deg"
    assert first["prob_any"] == pytest.approx(0.4)
    assert first["top_slices"] == "1.2.3|1.2.2|1.2.1"
    assert second["top_slices"] == "3.0"
    assert (first["leads_study"], second["leads_study"]) == ("", "soft kernel")
    assert (first["series_description"], second["convolution_kernel"]) == ("Head", "H60s")
    assert (first["trained_on"], second["trained_on"]) == ("", "yes")


def test_without_series_the_tables_have_columns_and_no_rows() -> None:
    slices = slice_table([])
    assert (list(slices), len(slices)) == (SLICE_COLUMNS, 0)
    assert (list(series_table([], {}, {})), len(series_table([], {}, {}))) == (SERIES_COLUMNS, 0)
    assert submission(slices, RATES).empty


def test_the_submission_has_six_rows_a_slice_in_the_order_of_labels() -> None:
    table = submission(slice_table([scored_series()]), RATES)
    assert table["ID"].tolist() == [f"1.2.{i}_{label}" for i in range(3) for label in LABELS]
    assert table["Label"].tolist() == pytest.approx(
        np.repeat([0.1, 0.2, 0.3], len(LABELS)).tolist()
    )


def test_the_frames_of_one_file_submit_their_maximum() -> None:
    frames = scored_series(sop_uids=("1.9",) * 3, frames=(1, 2, 3))
    assert submitted(slice_table([frames])) == {"1.9": pytest.approx(0.3)}


def test_a_left_out_slice_submits_what_its_neighbours_say_at_its_position() -> None:
    """At 7 mm, between 0.2 at 5 mm and 0.3 at 10 mm; slices of other volumes do not count."""
    unscored = (UnscoredSlice("9.2", None, 7.0, IssueCode.UNDECODABLE),)
    slices = slice_table([scored_series(unscored=unscored), scored_series(2, "5")])
    values = submitted(slices)
    assert list(values) == ["1.2.0", "1.2.1", "9.2", "1.2.2", "5.0", "5.1"]
    assert values["9.2"] == pytest.approx(0.24)


def test_a_left_out_slice_of_unknown_position_submits_the_base_rate() -> None:
    unscored = (
        UnscoredSlice("9.1", None, None, IssueCode.NO_POSITION),
        UnscoredSlice("", None, None, IssueCode.EMPTY_FILE),  # nothing to submit it under
    )
    values = submitted(slice_table([scored_series(unscored=unscored)]))
    assert list(values) == ["1.2.0", "1.2.1", "1.2.2", "9.1"]
    assert values["9.1"] == 0.25


def test_a_sop_uid_of_several_files_submits_the_highest_of_their_scores() -> None:
    uids = ("1.1", "1.2", "1.3")
    first = scored_series(3, "1", sop_uids=uids)
    second = scored_series(3, "2", sop_uids=("1.2", "1.3", "2.1"), frames=(None, 1, None))
    slices = slice_table([first, second])
    assert submitted(slices) == pytest.approx({"1.1": 0.1, "1.2": 0.2, "1.3": 0.3, "2.1": 0.3})
    assert ambiguous_uids(slices)["sop_uid"].tolist() == ["1.2", "1.3", "1.2", "1.3"]


def test_every_slice_that_was_given_is_submitted() -> None:
    """A copy as the slice that is used instead, a slice that was not scored at the base rate."""
    slices = slice_table([scored_series(1)])
    table = submission(slices, RATES, {"7.1": "1.2.0", "7.2": "8.1"}, ["8.1", "7.2", "1.2.0"])
    assert table["ID"].tolist() == [
        f"{sop_uid}_{label}" for sop_uid in ("1.2.0", "7.1", "8.1", "7.2") for label in LABELS
    ]
    of_slices = table["Label"].to_numpy().reshape(4, len(LABELS))
    assert of_slices[:, 0].tolist() == pytest.approx([0.1, 0.1, 0.25, 0.25])
    assert (of_slices == of_slices[:, :1]).all()

    rejected_alone = submission(slice_table([]), RATES, {}, ["8.1"])
    assert rejected_alone["Label"].tolist() == [0.25] * len(LABELS)


def test_slices_at_the_base_rate_are_counted_once() -> None:
    unscored = (
        UnscoredSlice("9.1", None, None, IssueCode.NO_POSITION),
        UnscoredSlice("9.2", None, 7.0, IssueCode.UNDECODABLE),  # its neighbours are known
        UnscoredSlice("", None, None, IssueCode.EMPTY_FILE),
    )
    slices = slice_table([scored_series(unscored=unscored)])
    assert uids_without_score(slices, ["8.1", "1.2.0", "8.1"]) == ["9.1", "8.1"]
    assert uids_without_score(slice_table([]), []) == []


def test_frames_of_one_file_and_no_series_at_all_are_not_ambiguous() -> None:
    frames = scored_series(3, sop_uids=("1.1",) * 3, frames=(1, 2, 3))
    assert not len(ambiguous_uids(slice_table([frames])))
    assert not len(ambiguous_uids(slice_table([])))
    assert not len(submission(slice_table([]), RATES))
