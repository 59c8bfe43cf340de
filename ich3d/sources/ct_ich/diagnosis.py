"""CT-ICH's label table `hemorrhage_diagnosis.csv`, and the SOPInstanceUIDs of its slices."""

from pathlib import Path
from typing import Final

import pandas as pd

from ich3d.core.errors import DataError
from ich3d.core.labels import ANY, LABELS, SUBTYPES
from ich3d.dicom.uids import uid

DIAGNOSIS: Final = "hemorrhage_diagnosis.csv"


def slice_uid(patient: str, number: int) -> str:
    """SOPInstanceUID of slice `number` of `patient` (three digits), even if it has no image."""
    return uid("ct-ich", patient, number)


def read_diagnosis(src: Path) -> pd.DataFrame:
    """Read the label table of the data set in the folder `src`; one row per slice.

    Returns:
        Columns `patient` (three digits), `number` (of the slice), `sop_uid`, the six labels 0 or 1,
        and `negative`, the table's own column No_Hemorrhage. `any` is the maximum of the subtypes.

    Raises:
        DataError: the table or a column is missing, a label is neither 0 nor 1, or a slice occurs
            twice. The message names the file.
    """
    path = src / DIAGNOSIS
    if not path.is_file():
        raise DataError(f"{src} holds no table {DIAGNOSIS}; it must be the folder of CT-ICH 1.0.0")
    raw = pd.read_csv(path)
    subtypes = [label.capitalize() for label in SUBTYPES]
    for column in ("PatientNumber", "SliceNumber", "No_Hemorrhage", *subtypes):
        if column not in raw:
            raise DataError(f"{path} has no column {column}")
    if raw.empty:
        raise DataError(f"{path} has no row: copy or download the file again")
    if raw.isna().any(axis=None):
        row = int(raw.isna().any(axis=1).to_numpy().argmax()) + 2
        raise DataError(f"{path}, line {row}, lacks a value: copy or download the file again")
    if not raw[["No_Hemorrhage", *subtypes]].isin([0, 1]).all(axis=None):
        raise DataError(f"{path} holds a label other than 0 and 1")

    table = raw[subtypes].set_axis(list(SUBTYPES), axis=1)
    table[ANY] = table.max(axis=1)
    table["negative"] = raw["No_Hemorrhage"]
    table["patient"] = [f"{number:03d}" for number in raw["PatientNumber"]]
    table["number"] = raw["SliceNumber"]
    slices = zip(table["patient"], table["number"], strict=True)
    table["sop_uid"] = [slice_uid(patient, number) for patient, number in slices]
    _require_unique(path, table)
    return table


def _require_unique(path: Path, table: pd.DataFrame) -> None:
    repeated = table[table["sop_uid"].duplicated()]
    if len(repeated):
        patient, number = repeated["patient"].iloc[0], repeated["number"].iloc[0]
        raise DataError(f"{path} labels patient {patient}, slice {number} twice")


def label_rows(diagnosis: pd.DataFrame) -> pd.DataFrame:
    """The labels of `read_diagnosis` in RSNA's form: columns `ID,Label`, six rows per slice."""
    ids = [f"{sop_uid}_{label}" for sop_uid in diagnosis["sop_uid"] for label in LABELS]
    return pd.DataFrame({"ID": ids, "Label": diagnosis[list(LABELS)].to_numpy().ravel()})


def row_names(diagnosis: pd.DataFrame) -> dict[str, str]:
    """A name for each row of `read_diagnosis` in messages and reports, by `sop_uid`."""
    rows = zip(diagnosis["sop_uid"], diagnosis["patient"], diagnosis["number"], strict=True)
    return {
        sop_uid: f"{DIAGNOSIS}: patient {patient}, slice {number}"
        for sop_uid, patient, number in rows
    }
