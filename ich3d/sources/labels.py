"""The label table, always in RSNA's form: `ID,Label`, ID = `<SOPInstanceUID>_<label>`, six rows a slice."""

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from ich3d.core.errors import DataError, suggestion
from ich3d.core.labels import LABELS

COLUMN: Final = {label: column for column, label in enumerate(LABELS)}


def read_labels(path: Path) -> pd.DataFrame:
    """Labels float32 (slices, K), 0 or 1, indexed by `sop_uid`, columns in the order of `LABELS`.

    NaN where a slice has no row for a label. A row that is there twice counts once; RSNA's
    `stage_2_train.csv` has such rows. Raises DataError, naming file and row, for a missing column, an
    ID that names no slice or no known label, a value other than 0 and 1, and rows that contradict
    each other.
    """
    raw = _read_rows(path)
    ids = raw["ID"].fillna("").tolist()
    columns = np.fromiter(
        (COLUMN.get(row.rpartition("_")[2], -1) for row in ids), np.int64, len(ids)
    )
    slices, sop_uids = pd.factorize(np.array([row.rpartition("_")[0] for row in ids], dtype=object))
    if (columns < 0).any():
        wrong = ids[int(np.argmax(columns < 0))]
        raise DataError(
            f"{path}: ID {wrong!r} ends in no label{suggestion(wrong.rpartition('_')[2], LABELS)}"
        )
    if "" in sop_uids:
        raise DataError(f"{path}: an ID names a label but no slice")
    values = pd.to_numeric(raw["Label"], errors="coerce").to_numpy(dtype=np.float32)
    unknown = ~np.isin(values, (0, 1))
    if unknown.any():
        raise DataError(f"{path}: the Label of {ids[int(np.argmax(unknown))]} must be 0 or 1")

    table = np.full((len(sop_uids), len(LABELS)), np.nan, dtype=np.float32)
    table[slices, columns] = values
    contradicted = table[slices, columns] != values
    if contradicted.any():
        raise DataError(f"{path}: {ids[int(np.argmax(contradicted))]} is labelled both 0 and 1")
    return pd.DataFrame(
        table, index=pd.Index(sop_uids, dtype=str, name="sop_uid"), columns=list(LABELS)
    )


def _read_rows(path: Path) -> pd.DataFrame:
    """The columns `ID` (text) and `Label` (as it stands) of a CSV file."""
    if not path.is_file():
        raise DataError(f"no label table {path}")
    try:
        header = pd.read_csv(path, nrows=0)
        for column in ("ID", "Label"):
            if column not in header:
                raise DataError(f"{path} has no column {column}")
        return pd.read_csv(path, usecols=["ID", "Label"], dtype={"ID": str}, low_memory=False)
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no CSV table: {str(error).strip()}") from None
