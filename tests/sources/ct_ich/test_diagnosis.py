"""CT-ICH's label table."""

from pathlib import Path

import pandas as pd
import pytest

from ich3d.core.errors import DataError
from ich3d.core.labels import LABELS
from ich3d.sources.ct_ich.diagnosis import label_rows, read_diagnosis, row_names, slice_uid
from tests.helpers.ct_ich import write_ct_ich


@pytest.fixture
def src(tmp_path: Path) -> Path:
    return write_ct_ich(tmp_path / "source")


def test_each_slice_has_six_labels_with_any_as_the_maximum(src: Path) -> None:
    table = read_diagnosis(src).set_index("sop_uid")
    assert len(table) == 6
    row = table.loc[slice_uid("049", 3)]
    assert {label for label in LABELS if row[label]} == {"intraparenchymal", "subdural", "any"}
    assert (row["patient"], row["number"], row["negative"]) == ("049", 3, 0)
    assert not table.loc[slice_uid("049", 1), list(LABELS)].any()


def test_labels_in_rsna_form_have_six_rows_per_slice(src: Path) -> None:
    diagnosis = read_diagnosis(src)
    rows = label_rows(diagnosis)
    assert list(rows.columns) == ["ID", "Label"]
    expected = [f"{sop_uid}_{label}" for sop_uid in diagnosis["sop_uid"] for label in LABELS]
    assert rows["ID"].tolist() == expected
    assert rows["Label"].tolist() == diagnosis[list(LABELS)].to_numpy().ravel().tolist()


def test_rows_are_named_by_patient_and_slice() -> None:
    diagnosis = pd.DataFrame({"sop_uid": ["1.2"], "patient": ["049"], "number": [3]})
    assert row_names(diagnosis) == {"1.2": "hemorrhage_diagnosis.csv: patient 049, slice 3"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Epidural", "EDH", "no column Epidural"),
        ("49,1,0", "49,1,2", "label other than 0 and 1"),
        ("49,2,", "49,1,", "patient 049, slice 1 twice"),
    ],
)
def test_an_invalid_table_is_rejected_with_its_reason(
    src: Path, old: str, new: str, message: str
) -> None:
    path = src / "hemorrhage_diagnosis.csv"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=message) as caught:
        read_diagnosis(src)
    assert "hemorrhage_diagnosis.csv" in str(caught.value)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no table hemorrhage_diagnosis\.csv"):
        read_diagnosis(tmp_path / "nowhere")
