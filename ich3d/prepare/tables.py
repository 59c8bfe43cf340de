"""The tables that preparation writes beside the store, and the summary of its training set.

`inspect.csv` has a row a stored series, `rejected.csv` a row a rejected series or file, and
`unmatched.csv` the slices without a label and the labels without a slice.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from ich3d.core.issues import join
from ich3d.core.labels import LABELS
from ich3d.core.types import Rejected, SeriesMetadata
from ich3d.prepare.metadata_json import acquisition_to_json

RANGED_FACTS: Final = (
    "n_slices",
    "spacing_mm",
    "largest_gap_mm",
    "tilt_deg",
    "rows",
    "columns",
    "pixel_mm",
)
"""The numbers of an `Acquisition` whose range in the training set a model keeps."""


def rejected_table(rejected: Iterable[Rejected]) -> pd.DataFrame:
    """One row a rejected subject, as in `rejected.csv` and a prediction's `failures.csv`."""
    rows = [
        {
            "subject": rejection.subject,
            "path": "|".join(rejection.paths),
            "code": rejection.code.value,
            "detail": rejection.detail,
        }
        for rejection in rejected
    ]
    return pd.DataFrame(rows, columns=["subject", "path", "code", "detail"])


def inspect_table(stored: Iterable[SeriesMetadata]) -> pd.DataFrame:
    """One row a stored series, with its acquisition and the codes of its issues."""
    rows = [
        {
            "volume_id": series.volume_id,
            "series_uid": series.series_uid,
            "study_uid": series.study_uid,
            **acquisition_to_json(series.acquisition),
            "codes": join(issue.code for issue in series.issues),
        }
        for series in stored
    ]
    return pd.DataFrame(rows)


def unmatched_table(
    slices: pd.DataFrame, labels: pd.DataFrame, imported: Path | None, is_subset: bool
) -> pd.DataFrame:
    """Slices that have no label, labels that have no slice, and what an importer could not match.

    Args:
        slices: the store's table of slices, with labels.
        labels: the source's label table, by sop_uid.
        imported: the table of the same columns that an importer wrote, as `Source.unmatched`; None
            where there is none.
        is_subset: whether only some patients were prepared; labels of the others are not listed.

    Returns:
        A row a SOPInstanceUID, with the columns `sop_uid`, `lacks` ("label", "image" or what the
        importer wrote) and `detail`.
    """
    columns = ["sop_uid", "lacks", "detail"]
    not_imported = pd.DataFrame(columns=columns, dtype=str)
    if imported is not None:
        not_imported = pd.read_csv(imported, dtype=str)

    has_no_label = slices[list(LABELS)].isna().all(axis=1)
    unlabelled = slices.loc[has_no_label, ["sop_uid", "path"]]
    unlabelled = unlabelled.rename(columns={"path": "detail"}).assign(lacks="label")

    without_image = [] if is_subset else sorted(set(labels.index) - set(slices["sop_uid"]))
    no_image = pd.DataFrame(
        {"sop_uid": without_image, "lacks": "image", "detail": ""}, columns=columns, dtype=str
    )

    joined = pd.concat([not_imported, unlabelled[columns], no_image], ignore_index=True)
    return joined.drop_duplicates("sop_uid")


def conflict_table(slices: pd.DataFrame) -> pd.DataFrame:
    """Slices with identical pixels and different labels: a row a slice, equal pixels together.

    Args:
        slices: the store's table of slices, with labels. Slices without a hash, or without any
            label, conflict with none.

    Returns:
        The columns `hash`, `sop_uid`, `patient_id`, `path` and those of the labels.
    """
    is_judged = (slices["hash"] != "") & slices[list(LABELS)].notna().any(axis=1)
    judged = slices[is_judged]
    by_pixels = judged.groupby("hash")[list(LABELS)]
    differs = (by_pixels.transform("max") > by_pixels.transform("min")).any(axis=1)
    columns = ["hash", "sop_uid", "patient_id", "path", *LABELS]
    return judged.loc[differs, columns].sort_values(["hash", "sop_uid"])


def fingerprint(series: pd.DataFrame, slices: pd.DataFrame) -> dict[str, Any]:
    """What the training set is like; a model keeps it and compares each series that it scores.

    Args:
        series: the table of the store's series, from `inspect_table`.
        slices: the store's table of slices, with labels.

    Returns:
        `counts` of series, slices and irregular series; `ranges`, the lowest, median and highest
        value of each of `RANGED_FACTS` (those that no series has are left out);
        `transfer_syntaxes`, how many series hold each; `prevalence` of each label in the labelled
        slices, None where no slice has it.
    """
    counts = {
        "series": len(series),
        "slices": len(slices),
        "irregular": int((~series["is_regular"]).sum()),
    }

    known = {name: series[name].astype(float).dropna() for name in RANGED_FACTS}
    ranges = {
        name: values.quantile([0, 0.5, 1]).tolist() for name, values in known.items() if len(values)
    }

    syntaxes = series["transfer_syntaxes"].str.split("|").explode()
    means = {label: float(slices[label].mean()) for label in LABELS}
    return {
        "counts": counts,
        "ranges": ranges,
        "transfer_syntaxes": syntaxes.value_counts().sort_index().to_dict(),
        "prevalence": {label: None if np.isnan(mean) else mean for label, mean in means.items()},
    }
