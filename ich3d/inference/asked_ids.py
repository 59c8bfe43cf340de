"""The rows that a challenge asks for, in its order: RSNA 2019's `stage_2_sample_submission.csv`."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

import pandas as pd

from ich3d.core.errors import DataError
from ich3d.core.labels import LABELS

ID: Final = "ID"


def read_asked_ids(path: Path) -> list[str]:
    """The IDs that a table asks for, each once.

    Args:
        path: a CSV file with a column `ID`, whose cells are `<SOPInstanceUID>_<label>`, or
            SOPInstanceUIDs alone, which ask for all six labels. Other columns are not read.

    Raises:
        DataError: the file is missing or has no such column, or a cell of it is empty.
    """
    try:
        table = pd.read_csv(path, usecols=[ID], dtype=str, encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except (ValueError, pd.errors.ParserError, UnicodeDecodeError):
        raise DataError(
            f"{path} has no column {ID}: it needs one, with rows such as 1.2.840.1_any"
        ) from None
    cells = table[ID].fillna("").str.strip()
    if cells.empty or (cells == "").any():
        row = 2 if cells.empty else int((cells == "").to_numpy().argmax()) + 2
        raise DataError(f"{path}: row {row} has no {ID}")
    asked: list[str] = []
    for cell in cells:
        names_label = cell.rpartition("_")[2] in LABELS
        asked += [cell] if names_label else [f"{cell}_{label}" for label in LABELS]
    return list(dict.fromkeys(asked))


def only_asked(
    submission: pd.DataFrame, asked: Collection[str], base_rate: Mapping[str, float | None]
) -> pd.DataFrame:
    """The rows of `submission` that are asked for, in that order.

    An ID of a slice that was not given gets the training set's `base_rate` of its label.
    """
    given = dict(zip(submission["ID"], submission["Label"].tolist(), strict=True))
    values = [
        given[row_id] if row_id in given else base_rate[row_id.rpartition("_")[2]] or 0.0
        for row_id in asked
    ]
    return pd.DataFrame({"ID": list(asked), "Label": values})


def sop_uids_of(ids: Collection[str]) -> set[str]:
    """The SOPInstanceUIDs of IDs that end in a label."""
    return {row_id.rpartition("_")[0] for row_id in ids}
