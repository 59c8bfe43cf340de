"""The folds of patients, which stay when data are added: the column `fold` and `folds.csv`.

A model is scored on the patients of its own fold. So a patient who changed folds would be scored by
a model that was trained on them.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ich3d.config.root import Config
from ich3d.core.errors import DataError
from ich3d.core.labels import LABELS
from ich3d.core.seeds import stream
from ich3d.core.text import pluralize
from ich3d.core.workspace import read_csv, read_json
from ich3d.prepare import folds

SHOWN_PATIENTS = 5
"""How many patients a message names."""


@dataclass(frozen=True)
class FoldRecord:
    """The folds that a finished store gave its patients.

    Attributes:
        of_patient: fold by pseudonym; empty where there are none to keep.
    """

    of_patient: Mapping[str, int]

    @classmethod
    def read(cls, table: Path, store_meta: Path, config: Config) -> "FoldRecord":
        """The record of a finished store; empty where it was made with another seed or count."""
        if not (table.exists() and store_meta.exists()):
            return cls({})
        if read_json(store_meta).get("folds") != fold_facts(config):
            return cls({})
        rows = read_csv(table, text=("patient_id", "group_id"))
        return cls(dict(zip(rows["patient_id"], rows["fold"].tolist(), strict=True)))


def fold_facts(config: Config) -> dict[str, Any]:
    """What folds depend on, beside the data; kept in the store's `meta.json`."""
    return {"seed": config.seed, "count": config.prepare.folds}


def with_folds(slices: pd.DataFrame, config: Config, record: FoldRecord) -> pd.DataFrame:
    """`slices` with the group_id and fold of the patients.

    Patients who share an identical brain slice are one group. A group with a patient of the record
    keeps the fold; new groups fill the gaps.

    Raises:
        DataError: there are fewer groups than folds, or a new link joins patients of several folds.
    """
    group_of = folds.link(slices["patient_id"].tolist(), slices["hash"].tolist())
    group_id = slices["patient_id"].map(group_of)
    occurring = slices[list(LABELS)].groupby(group_id, sort=True).max().fillna(0)
    bleeds = dict(zip(occurring.index.astype(str), occurring.to_numpy(float), strict=True))

    n_folds = config.prepare.folds
    if len(bleeds) < n_folds:
        groups = pluralize(len(bleeds), "patient group")
        raise DataError(
            f"{groups} {'is' if len(bleeds) == 1 else 'are'} too few for "
            f"prepare.folds={n_folds}; every fold needs one"
        )

    kept = _kept(group_of, record)
    fold_of = folds.assign_folds(bleeds, n_folds, stream(config.seed, "folds"), kept)
    if len(set(fold_of.values())) < n_folds:
        raise DataError(
            "a fold has lost all its patients: --refold gives all patients a fold anew, and all "
            "models are then trained again"
        )
    return slices.assign(group_id=group_id, fold=group_id.map(fold_of))


def fold_table(slices: pd.DataFrame) -> pd.DataFrame:
    """The table of `folds.csv`: one row a patient."""
    patients = slices[["patient_id", "group_id", "fold"]].drop_duplicates()
    return patients.sort_values(["fold", "patient_id"])


def _kept(group_of: Mapping[str, str], record: FoldRecord) -> dict[str, int]:
    """The fold of each group that has a patient of the record."""
    members: dict[str, list[str]] = defaultdict(list)
    for patient, group in group_of.items():
        if patient in record.of_patient:
            members[group].append(patient)

    kept: dict[str, int] = {}
    for group, patients in members.items():
        in_folds = sorted({record.of_patient[patient] for patient in patients})
        if len(in_folds) > 1:
            names = ", ".join(sorted(patients)[:SHOWN_PATIENTS])
            more = (
                f" and {len(patients) - SHOWN_PATIENTS} more"
                if len(patients) > SHOWN_PATIENTS
                else ""
            )
            where = " and ".join(map(str, in_folds))
            raise DataError(
                f"the patients {names}{more} now share an identical brain slice, but are in the "
                f"folds {where}: the models of these folds were trained on patients whom they "
                "score. --refold gives all patients a fold anew, and all models are then trained "
                "again"
            )
        kept[group] = in_folds[0]
    return kept
