"""The label table of a data set, a CSV file in one of two forms.

Long, as RSNA's: the columns `ID` and `Label`, an ID is `<SOPInstanceUID>_<label>`, a Label 0 or 1.
Wide: a column `SOPInstanceUID` and a column for each label. Letter case does not matter, and
semicolons or tabs may separate the columns.
"""

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from ich3d.core.errors import DataError, suggestion
from ich3d.core.labels import ANY, LABELS, SUBTYPES
from ich3d.core.path_kinds import require_table
from ich3d.core.text import pluralize

_COLUMN_OF_LABEL: Final = {label: column for column, label in enumerate(LABELS)}
_UID_COLUMNS: Final = ("sopinstanceuid", "sop_uid", "id")
"""Names that the column of slices may have in a wide table, in lower case."""

_FORMS: Final = (
    "a label table has the columns ID,Label with rows such as 1.2.840.1_any,0, or a column "
    f"SOPInstanceUID and columns of labels ({', '.join(LABELS)})"
)


def read_labels(path: Path, repair: bool = False) -> pd.DataFrame:
    """Read a label table; one row per slice and one column per label.

    Rows that occur twice are allowed where they agree, because RSNA's `stage_2_train.csv` has such
    rows.

    Args:
        path: the CSV file.
        repair: mend slices whose `any` contradicts their subtypes: `any` becomes 1 where a subtype
            is 1; where `any` is 1 and all five subtypes are 0, the subtypes become unknown.

    Returns:
        Labels float32 (slices, 6), 0 or 1, NaN where a slice has no value for a label. The index is
        `sop_uid`, the columns are `LABELS`, in their order.

    Raises:
        DataError: the file is no such table, an ID names no slice or an unknown label, a value is
            neither 0 nor 1, two rows contradict each other, or, without `repair`, `any` contradicts
            the subtypes. The message names file and row.
    """
    raw = _read_rows(path)
    table = _long(path, raw) if {"id", "label"} <= set(raw) else _wide(path, raw)
    if table.empty:
        raise DataError(f"{path} has no row; {_FORMS}")
    return _coherent(path, table, repair)


def _long(path: Path, raw: pd.DataFrame) -> pd.DataFrame:
    """The labels of a table with the columns `id` and `label`."""
    ids = raw["id"].fillna("").tolist()
    sop_uids, columns = _split_ids(path, ids)
    values = _parse_values(path, raw["label"].to_numpy(), "Label", ids)
    return _by_slice(path, sop_uids, columns, values, ids)


def _wide(path: Path, raw: pd.DataFrame) -> pd.DataFrame:
    """The labels of a table with a column of slices and columns of labels; empty cells are NaN."""
    uid_column = next((name for name in _UID_COLUMNS if name in raw), None)
    present = [label for label in LABELS if label in raw]
    if uid_column is None or not present:
        raise DataError(f"{path} has the columns {', '.join(raw.columns)}; {_FORMS}")

    sop_uids = raw[uid_column].fillna("")
    if (sop_uids == "").any():
        raise DataError(f"{path}: row {int(np.argmax(sop_uids == '')) + 2} names no slice")
    is_given = raw[present].notna().to_numpy()  # (rows, labels)
    rows, columns = np.nonzero(is_given)
    names = sop_uids.to_numpy(object)[rows]
    values = _parse_values(
        path,
        raw[present].to_numpy(object)[rows, columns],
        "value",
        [f"{name}, {present[column]}" for name, column in zip(names, columns, strict=True)],
    )
    label_columns = np.array([_COLUMN_OF_LABEL[label] for label in present])[columns]
    return _by_slice(path, names, label_columns, values, names.tolist())


def _by_slice(
    path: Path, sop_uids: np.ndarray, columns: np.ndarray, values: np.ndarray, origin: list[str]
) -> pd.DataFrame:
    """One row a slice from N values, each with its slice, its column in `LABELS` and its origin."""
    rows, unique_sop_uids = pd.factorize(sop_uids)
    table = np.full((len(unique_sop_uids), len(LABELS)), np.nan, dtype=np.float32)
    table[rows, columns] = values
    # Of two rows with one ID the last is kept; an earlier one that differs contradicts it.
    contradicts = table[rows, columns] != values
    if contradicts.any():
        raise DataError(f"{path}: {origin[int(np.argmax(contradicts))]} is labelled both 0 and 1")
    index = pd.Index(unique_sop_uids, dtype=str, name="sop_uid")
    return pd.DataFrame(table, index=index, columns=list(LABELS))


def _coherent(path: Path, table: pd.DataFrame, repair: bool) -> pd.DataFrame:
    """The table without a contradiction between `any` and the subtypes, mended where allowed."""
    subtypes = table[list(SUBTYPES)]
    is_missed = (table[ANY] == 0) & (subtypes == 1).any(axis=1)
    is_unexplained = (table[ANY] == 1) & (subtypes == 0).all(axis=1)
    contradicts = is_missed | is_unexplained
    if not contradicts.any():
        return table
    if not repair:
        missed = pluralize(int(is_missed.sum()), "slice")
        example = table.index[int(np.argmax(contradicts))]
        raise DataError(
            f"{path}: any is 0 beside a subtype of 1 in {missed}, and 1 with all five subtypes 0 "
            f"in {int(is_unexplained.sum())}, such as {example}; correct the table, or let "
            "--repair-labels mend any in the first case and take the subtypes for unknown in the "
            "second"
        )
    mended = table.copy()
    mended.loc[is_missed, ANY] = 1.0
    mended.loc[is_unexplained, list(SUBTYPES)] = np.nan
    return mended


def _split_ids(path: Path, ids: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """SOPInstanceUID, objects (N,), and column of the label in `LABELS`, int64 (N,), of each ID."""
    names = [row_id.rpartition("_")[2].lower() for row_id in ids]
    columns = np.fromiter((_COLUMN_OF_LABEL.get(name, -1) for name in names), np.int64, len(ids))
    unknown = columns < 0
    if unknown.any():
        index = int(np.argmax(unknown))
        hint = suggestion(names[index], LABELS)
        raise DataError(f"{path}: ID {ids[index]!r} ends in no label{hint}; {_FORMS}")

    sop_uids = np.array([row_id.rpartition("_")[0] for row_id in ids], dtype=object)
    if "" in sop_uids:
        raise DataError(f"{path}: an ID names a label but no slice; {_FORMS}")
    return sop_uids, columns


def _parse_values(path: Path, cells: np.ndarray, what: str, origin: list[str]) -> np.ndarray:
    """Cells as float32 (N,), each 0 or 1."""
    values = pd.to_numeric(pd.Series(cells), errors="coerce").to_numpy(dtype=np.float32)
    invalid = ~np.isin(values, (0, 1))
    if invalid.any():
        raise DataError(f"{path}: the {what} of {origin[int(np.argmax(invalid))]} must be 0 or 1")
    return values


def _read_rows(path: Path) -> pd.DataFrame:
    """The columns that may matter of a CSV file, under lower-case names; slices as text."""
    require_table("label table", path)
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty; {_FORMS}")
    try:
        with path.open(encoding="utf-8-sig") as file:
            first_line = file.readline()
        separator = next((mark for mark in ";\t" if mark in first_line), ",")
        header = pd.read_csv(path, sep=separator, nrows=0, encoding="utf-8-sig")
        lower = {name: str(name).strip().lower() for name in header}
        wanted = {*_UID_COLUMNS, "label", *LABELS}
        text = {name: str for name, low in lower.items() if low in _UID_COLUMNS}
        used = [name for name, low in lower.items() if low in wanted] or list(header)
        rows = pd.read_csv(
            path, sep=separator, usecols=used, dtype=text, low_memory=False, encoding="utf-8-sig"
        )
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no CSV table: {str(error).strip()}; {_FORMS}") from None
    return rows.rename(columns=lower)
