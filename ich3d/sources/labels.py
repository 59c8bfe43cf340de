"""The label table in RSNA's form: columns `ID,Label`, six rows per slice.

An `ID` is `<SOPInstanceUID>_<label>`, a `Label` is 0 or 1.
"""

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from ich3d.core.errors import DataError, suggestion
from ich3d.core.labels import LABELS

_COLUMN_OF_LABEL: Final = {label: column for column, label in enumerate(LABELS)}


def read_labels(path: Path) -> pd.DataFrame:
    """Read a label table; one row per slice and one column per label.

    Rows that occur twice are allowed where they agree, because RSNA's `stage_2_train.csv` has such
    rows.

    Returns:
        Labels float32 (slices, 6), 0 or 1, NaN where a slice has no row for a label. The index is
        `sop_uid`, the columns are `LABELS`, in their order.

    Raises:
        DataError: a column is missing, an ID names no slice or an unknown label, a value is neither
            0 nor 1, or two rows contradict each other. The message names file and row.
    """
    raw = _read_rows(path)
    ids = raw["ID"].fillna("").tolist()
    sop_uids, columns = _split_ids(path, ids)
    values = _parse_values(path, ids, raw["Label"])

    rows, unique_sop_uids = pd.factorize(sop_uids)
    table = np.full((len(unique_sop_uids), len(LABELS)), np.nan, dtype=np.float32)
    table[rows, columns] = values
    # Of two rows with one ID the last is kept; an earlier one that differs contradicts it.
    contradicts = table[rows, columns] != values
    if contradicts.any():
        raise DataError(f"{path}: {ids[int(np.argmax(contradicts))]} is labelled both 0 and 1")

    index = pd.Index(unique_sop_uids, dtype=str, name="sop_uid")
    return pd.DataFrame(table, index=index, columns=list(LABELS))


def _split_ids(path: Path, ids: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """SOPInstanceUID, objects (N,), and column of the label in `LABELS`, int64 (N,), of each ID."""
    columns = np.fromiter(
        (_COLUMN_OF_LABEL.get(row_id.rpartition("_")[2], -1) for row_id in ids), np.int64, len(ids)
    )
    unknown = columns < 0
    if unknown.any():
        row_id = ids[int(np.argmax(unknown))]
        hint = suggestion(row_id.rpartition("_")[2], LABELS)
        raise DataError(f"{path}: ID {row_id!r} ends in no label{hint}")

    sop_uids = np.array([row_id.rpartition("_")[0] for row_id in ids], dtype=object)
    if "" in sop_uids:
        raise DataError(f"{path}: an ID names a label but no slice")
    return sop_uids, columns


def _parse_values(path: Path, ids: list[str], labels: pd.Series) -> np.ndarray:
    """The column `Label` as float32 (N,), each 0 or 1."""
    values = pd.to_numeric(labels, errors="coerce").to_numpy(dtype=np.float32)
    invalid = ~np.isin(values, (0, 1))
    if invalid.any():
        raise DataError(f"{path}: the Label of {ids[int(np.argmax(invalid))]} must be 0 or 1")
    return values


def _read_rows(path: Path) -> pd.DataFrame:
    """The columns `ID` (as text) and `Label` (as read) of a CSV file."""
    if not path.is_file():
        raise DataError(f"label table {path} does not exist")
    try:
        header = pd.read_csv(path, nrows=0)
        for column in ("ID", "Label"):
            if column not in header:
                raise DataError(f"{path} has no column {column}; a label table has ID and Label")
        return pd.read_csv(path, usecols=["ID", "Label"], dtype={"ID": str}, low_memory=False)
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no CSV table: {str(error).strip()}") from None
