"""CT-ICH's `hemorrhage_diagnosis.csv`, and the names its slices carry as DICOM."""

from pathlib import Path
from typing import Final

import pandas as pd

from ich3d.core.errors import DataError
from ich3d.core.labels import ANY, LABELS, SUBTYPES
from ich3d.dicom.uids import uid

DIAGNOSIS: Final = "hemorrhage_diagnosis.csv"


def slice_uid(patient: str, number: int) -> str:
    """SOPInstanceUID of slice `number` of patient `nnn`, whether or not its image exists."""
    return uid("ct-ich", patient, number)


def read_diagnosis(src: Path) -> pd.DataFrame:
    """A row a slice: `patient` (`nnn`), `number`, `sop_uid`, the six labels 0 or 1, and `negative`,
    the table's own No_Hemorrhage. `any` is the maximum of the subtypes.

    Raises DataError, naming the file, for a missing table or column, a label other than 0 and 1, or
    a slice that is there twice.
    """
    path = src / DIAGNOSIS
    if not path.is_file():
        raise DataError(f"{src} holds no table {DIAGNOSIS}")
    raw = pd.read_csv(path)
    subtypes = [label.capitalize() for label in SUBTYPES]
    for column in ("PatientNumber", "SliceNumber", "No_Hemorrhage", *subtypes):
        if column not in raw:
            raise DataError(f"{path} has no column {column}")
    if not raw[["No_Hemorrhage", *subtypes]].isin([0, 1]).all(axis=None):
        raise DataError(f"{path} holds a label other than 0 and 1")
    table = raw[subtypes].set_axis(list(SUBTYPES), axis=1)
    table[ANY] = table.max(axis=1)
    table["negative"] = raw["No_Hemorrhage"]
    table["patient"] = [f"{number:03d}" for number in raw["PatientNumber"]]
    table["number"] = raw["SliceNumber"]
    table["sop_uid"] = [
        slice_uid(p, n) for p, n in zip(table["patient"], table["number"], strict=True)
    ]
    twice = table[table["sop_uid"].duplicated()]
    if len(twice):
        raise DataError(
            f"{path} labels patient {twice['patient'].iloc[0]}, slice {twice['number'].iloc[0]} twice"
        )
    return table


def label_rows(diagnosis: pd.DataFrame) -> pd.DataFrame:
    """The same labels in RSNA's form: `ID,Label`, six rows a slice."""
    ids = [f"{sop_uid}_{label}" for sop_uid in diagnosis["sop_uid"] for label in LABELS]
    return pd.DataFrame({"ID": ids, "Label": diagnosis[list(LABELS)].to_numpy().ravel()})


def row_names(diagnosis: pd.DataFrame) -> dict[str, str]:
    """What to call a row of the table in a report, by `sop_uid`."""
    columns = (diagnosis[name] for name in ("sop_uid", "patient", "number"))
    return {sop: f"{DIAGNOSIS}: patient {p}, slice {n}" for sop, p, n in zip(*columns, strict=True)}
