"""What differs between two trained models: data, configuration, files, figures, and answers.

Change control asks it before a model is replaced. Both models score the same studies, each through
its own preprocessing, and slices are compared by SOPInstanceUID and frame.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from ich3d.config.load import as_dict
from ich3d.core.bootstrap import Interval, interval
from ich3d.core.ground_truth import GroundTruth
from ich3d.core.labels import ANY, FLAG_AT, LABELS, label_index
from ich3d.core.metrics import auc, weighted_log_loss
from ich3d.core.outputs import flat
from ich3d.core.workspace import read_csv
from ich3d.evaluation.predictions import LabelledScores, label_scores
from ich3d.model.manifest import Manifest

A, B = "a", "b"
"""The names of the two models in columns and folders."""

LARGEST: Final = 5
"""So many slices with the largest difference are named for each label."""

_KEYS: Final = ["volume_id", "slice_index", "z_mm", "sop_uid", "frame"]
_TEXT: Final = ("study_uid", "series_uid", "volume_id", "patient_id", "sop_uid", "codes")

Pair = tuple[Any, Any]
"""What the first model has, and what the second has; None where it has nothing."""


@dataclass(frozen=True)
class LabelledDifference:
    """The second model minus the first on labelled slices, with paired intervals.

    `log_loss` is the weighted log loss (below zero, the second is better), `auc_any` the AUC of
    `any`; each draw resamples the same patients for both. `n_groups` counts the patients.
    """

    log_loss: Interval
    auc_any: Interval
    n_slices: int
    n_groups: int


def manifest_differences(a: Manifest, b: Manifest) -> dict[str, dict[str, Pair]]:
    """What differs, by part and by name: `data`, `config`, `files` (hashes) and `figures`."""
    return {
        "data": _differing(_data(a), _data(b)),
        "config": _differing(flat(as_dict(a.config)), flat(as_dict(b.config))),
        "files": _differing(a.files, b.files),
        "figures": _differing(_figures(a), _figures(b)),
    }


def slice_differences(a: Path, b: Path) -> pd.DataFrame:
    """The slices that both models scored, with `a_<label>` and `b_<label>`, their final scores.

    Args:
        a: the output folder of the first model's prediction.
        b: that of the second.
    """
    first, second = (_scores(folder, name) for folder, name in ((a, A), (b, B)))
    keys = ["volume_id", "sop_uid", "frame"]
    return first.merge(second.drop(columns=["slice_index", "z_mm"]), on=keys, how="inner")


def largest_differences(slices: pd.DataFrame) -> pd.DataFrame:
    """Per label the slices with the largest differences, with `label`, `a`, `b`, `difference`."""
    blocks = []
    for label in LABELS:
        difference = slices[f"{B}_{label}"] - slices[f"{A}_{label}"]
        order = difference.abs().sort_values(ascending=False, kind="stable").index[:LARGEST]
        block = slices.loc[order, ["volume_id", "slice_index"]].assign(
            label=label,
            a=slices.loc[order, f"{A}_{label}"],
            b=slices.loc[order, f"{B}_{label}"],
            difference=difference[order],
        )
        blocks.append(block[block["difference"] != 0])
    return pd.concat(blocks, ignore_index=True)


def series_differences(slices: pd.DataFrame) -> pd.DataFrame:
    """A row a series: its number of slices, those whose flag flips, and by label the largest
    absolute difference of a slice.
    """
    rows = [
        {
            "volume_id": volume_id,
            "n_slices": len(rows),
            "flips": int(flips(rows).sum()),
            **{
                label: float((rows[f"{B}_{label}"] - rows[f"{A}_{label}"]).abs().max())
                for label in LABELS
            },
        }
        for volume_id, rows in slices.groupby("volume_id", sort=False)
    ]
    return pd.DataFrame(rows, columns=["volume_id", "n_slices", "flips", *LABELS])


def flips(slices: pd.DataFrame) -> pd.Series:
    """Whether one model flags the slice for `any` and the other does not."""
    return (slices[f"{A}_{ANY}"] >= FLAG_AT) != (slices[f"{B}_{ANY}"] >= FLAG_AT)


def labelled_difference(
    a: Path, b: Path, labels: pd.DataFrame, draws: int, seed: int
) -> LabelledDifference:
    """Compare both predictions with labels; slices that one of both did not score take no part.

    Raises:
        DataError: no slice of a prediction is labelled.
    """
    first, second = (label_scores(folder, labels, None) for folder in (a, b))
    is_scored = ~first.truth.table["sop_uid"].isin({*first.unscored, *second.unscored}).to_numpy()
    truth = GroundTruth(_by_patient(first, a)[is_scored].reset_index(drop=True))
    prob_a, prob_b = (scores.prob["stack"][is_scored] for scores in (first, second))  # (N, K)
    target, k = truth.target, label_index(ANY)

    bootstrap = truth.bootstrap(draws, seed)
    losses = [bootstrap.weighted_log_loss(prob, target) for prob in (prob_a, prob_b)]  # (R,)
    aucs = [bootstrap.auc(prob[:, k], target[:, k]) for prob in (prob_a, prob_b)]  # (R,)
    loss = weighted_log_loss(prob_b, target) - weighted_log_loss(prob_a, target)
    gain = auc(prob_b[:, k], target[:, k]) - auc(prob_a[:, k], target[:, k])
    return LabelledDifference(
        log_loss=interval(loss, losses[1] - losses[0]),
        auc_any=interval(gain, aucs[1] - aucs[0]),
        n_slices=len(target),
        n_groups=truth.n_patients,
    )


def _by_patient(scores: LabelledScores, folder: Path) -> pd.DataFrame:
    """The labelled slices, grouped by patient where the pseudonym is known, else by study."""
    slices = read_csv(folder / "slices.csv", text=_TEXT).drop_duplicates("sop_uid")
    patients = slices.set_index("sop_uid")["patient_id"]
    table = scores.truth.table
    patient = table["sop_uid"].map(patients).fillna("")
    return table.assign(group_id=np.where(patient != "", patient, table["group_id"]))


def _scores(folder: Path, name: str) -> pd.DataFrame:
    """The scored slices of a prediction, with their final scores as `<name>_<label>`."""
    table = read_csv(folder / "slices.csv", text=_TEXT)
    columns = {f"stack_{label}": f"{name}_{label}" for label in LABELS}
    return table.dropna(subset=list(columns))[[*_KEYS, *columns]].rename(columns=columns)


def _data(manifest: Manifest) -> dict[str, Any]:
    """What a model says of its training data and their preparation."""
    return {
        **flat(manifest.fingerprint),
        "preprocessing_sha256": manifest.preprocessing_sha256,
        "folds": list(manifest.folds),
        "training_groups_known": manifest.training_groups_known,
    }


def _figures(manifest: Manifest) -> dict[str, Any]:
    return {} if manifest.performance is None else dict(_leaves(manifest.performance.as_dict()))


def _leaves(tree: object, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a tree of mappings and lists by a dotted name."""
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from _leaves(value, f"{prefix}.{name}" if prefix else str(name))
    elif isinstance(tree, list) and any(isinstance(value, Mapping) for value in tree):
        for number, value in enumerate(tree, start=1):
            yield from _leaves(value, f"{prefix}.{number}")
    else:
        yield prefix, tree


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Pair]:
    names = dict.fromkeys([*a, *b])
    return {name: (a.get(name), b.get(name)) for name in names if a.get(name) != b.get(name)}
