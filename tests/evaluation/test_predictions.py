"""Predictions meet their labels: every labelled slice counts, scored or not."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ich3d.core.errors import DataError
from ich3d.core.labels import LABELS, STAGES
from ich3d.core.workspace import write_json
from ich3d.evaluation.predictions import BASE_RATE, SUBMISSION, label_scores

N_SERIES, N_SLICES = 3, 4


def sop_uid(series: int, index: int) -> str:
    return f"1.2.{series}.{index}"


def labels_of(n_series: int = N_SERIES) -> pd.DataFrame:
    """Labels of all slices; the upper two of the first series bleed."""
    uids = [sop_uid(s, i) for s in range(n_series) for i in range(N_SLICES)]
    table = pd.DataFrame(0.0, index=pd.Index(uids, name="sop_uid"), columns=list(LABELS))
    table.loc[[sop_uid(0, 2), sop_uid(0, 3)], ["subdural", "any"]] = 1.0
    return table


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An output folder of `ich3d predict`: three series, each a study of its own."""
    rows = []
    for series in range(N_SERIES):
        for index in range(N_SLICES):
            scores = {
                f"{stage}_{label}": 0.1 * (k + 1) + 0.01 * index
                for k, stage in enumerate(STAGES)
                for label in LABELS
            }
            keys = {
                "study_uid": f"1.{series}",
                "series_uid": f"1.2.{series}",
                "volume_id": f"1.2.{series}",
                "sop_uid": sop_uid(series, index),
                "codes": "",
            }
            rows.append({**keys, **scores})
    (tmp_path / "out").mkdir()
    pd.DataFrame(rows).to_csv(tmp_path / "out" / "slices.csv", index=False)
    write_json(tmp_path / "out" / "run.json", {"training_prevalence": dict.fromkeys(LABELS, 0.125)})
    return tmp_path / "out"


def change(folder: Path, sop: str, **values: Any) -> None:
    """Change values of one slice in `slices.csv`."""
    path = folder / "slices.csv"
    table = pd.read_csv(path, dtype={"codes": str})
    for name, value in values.items():
        table.loc[table["sop_uid"] == sop, name] = value
    table.to_csv(path, index=False)


def submission(path: Path, n_slices: int = 2) -> Path:
    """A submission file of the first slices of the first series, all at 0.25."""
    ids = [f"{sop_uid(0, i)}_{label}" for i in range(n_slices) for label in LABELS]
    pd.DataFrame({"ID": ids, "Label": 0.25}).to_csv(path, index=False)
    return path


def test_agreement_is_told_where_the_predictions_have_it(folder: Path) -> None:
    """Slices without an agreement, as those of training patients, count as scored."""
    assert label_scores(folder, labels_of(), None).agreement is None
    change(folder, sop_uid(1, 1), agreement=0.75)
    scores = label_scores(folder, labels_of(n_series=N_SERIES + 1), None)
    assert scores.agreement is not None
    told = dict(zip(scores.truth.table["sop_uid"], scores.agreement, strict=True))
    assert told.pop(sop_uid(1, 1)) == 0.75
    assert np.isnan(list(told.values())).all()
    assert len(scores.unscored) == N_SLICES
    assert list(scores.prob) == [BASE_RATE, *STAGES]


def test_all_stages_stand_beside_the_training_base_rate(folder: Path) -> None:
    scores = label_scores(folder, labels_of(), None)
    assert list(scores.prob) == [BASE_RATE, *STAGES]
    assert (scores.prob[BASE_RATE] == 0.125).all()
    np.testing.assert_allclose(scores.prob["stack"][:4, 0], [0.3, 0.31, 0.32, 0.33])
    assert scores.groups_are == "study"
    assert scores.unscored == ()
    assert scores.n_unlabelled == 0
    assert scores.truth.positive_patients["subdural"] == 1
    assert set(scores.truth.group) == {"1.0", "1.1", "1.2"}


def test_a_labelled_slice_without_a_score_counts_at_the_base_rate(folder: Path) -> None:
    """It was dropped, or its whole series was refused."""
    blank = {f"{stage}_{label}": np.nan for stage in STAGES for label in LABELS}
    change(folder, sop_uid(1, 2), **blank)
    scores = label_scores(folder, labels_of(N_SERIES + 1), None)
    refused = tuple(sop_uid(N_SERIES, i) for i in range(N_SLICES))
    assert scores.unscored == (sop_uid(1, 2), *refused)
    is_unscored = scores.truth.table["sop_uid"].isin(scores.unscored).to_numpy()
    for prob in scores.prob.values():
        assert (prob[is_unscored] == 0.125).all()


def test_slices_without_a_label_take_no_part(folder: Path) -> None:
    scores = label_scores(folder, labels_of().iloc[:5], None)
    assert len(scores.truth.table) == 5
    assert scores.n_unlabelled == N_SERIES * N_SLICES - 5


def test_frames_of_one_slice_have_the_highest_score(folder: Path) -> None:
    change(folder, sop_uid(0, 1), sop_uid=sop_uid(0, 0))
    scores = label_scores(folder, labels_of().drop(sop_uid(0, 1)), None)
    assert scores.prob["encoder"][0, 0] == pytest.approx(0.11)


def test_without_a_known_base_rate_that_of_the_labels_is_used(folder: Path) -> None:
    (folder / "run.json").unlink()
    rate = label_scores(folder, labels_of(), None).prob[BASE_RATE][0]
    assert rate[LABELS.index("any")] == pytest.approx(2 / 12)


def test_a_table_of_patients_says_what_belongs_together(folder: Path, tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "SOPInstanceUID": labels_of().index,
            "series": np.repeat(["s0", "s1", "s2"], N_SLICES),
            "patient": np.repeat(["a", "a", "b"], N_SLICES),
        }
    )
    table.to_csv(tmp_path / "series.csv", index=False)
    scores = label_scores(folder, labels_of(), tmp_path / "series.csv")
    assert scores.groups_are == "patient"
    assert set(scores.truth.group) == {"a", "b"}
    assert set(scores.truth.volume) == {"s0", "s1", "s2"}


def test_slices_of_a_submission_alone_belong_to_nobody(tmp_path: Path) -> None:
    path = submission(tmp_path / "submission.csv")
    scores = label_scores(path, labels_of(), None)
    assert list(scores.prob) == [BASE_RATE, SUBMISSION]
    assert scores.groups_are is None
    assert len(scores.unscored) == N_SERIES * N_SLICES - 2
    assert (scores.prob[SUBMISSION][:2] == 0.25).all()


def test_labels_of_other_slices_are_told(folder: Path) -> None:
    labels = labels_of()
    labels.index = labels.index + ".9"
    with pytest.raises(DataError, match=r"is labelled: the labels name 1\.2\.0\.0\.9 and others"):
        label_scores(folder, labels, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SOPInstanceUID,Label\n1,2\n", "has no column ID"),
        ("ID,Label\n1.2_blood,0.5\n", "ends in no label"),
        ("ID,Label\n1.2_any,1.5\n", "is no probability"),
        ("ID,Label\n1.2_any,x\n", "is no probability"),
        ("", "is no CSV table"),
    ],
)
def test_a_damaged_submission_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "submission.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        label_scores(path, labels_of(), None)


def test_other_folders_and_tables_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no slices\.csv"):
        label_scores(tmp_path / "empty", labels_of(), None)
    with pytest.raises(DataError, match="no file or folder"):
        label_scores(tmp_path / "none.csv", labels_of(), None)
    with pytest.raises(DataError, match="no table of series"):
        label_scores(folder, labels_of(), tmp_path / "none.csv")
    (tmp_path / "series.csv").write_text("SOPInstanceUID,series\n1,2\n")
    with pytest.raises(DataError, match="has no column patient"):
        label_scores(folder, labels_of(), tmp_path / "series.csv")
    table = pd.read_csv(folder / "slices.csv").drop(columns="stack_any")
    table.to_csv(folder / "slices.csv", index=False)
    with pytest.raises(DataError, match="has no column stack_any"):
        label_scores(folder, labels_of(), None)
