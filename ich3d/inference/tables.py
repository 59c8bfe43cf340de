"""The tables of a prediction, from the scored series in memory. Columns are identified by name.

`slices.csv` has a row a slice, inferior to superior; a slice that was dropped from its series has a
code and no scores. `series.csv` has a row a series. `submission.csv` has the form of the RSNA 2019
challenge. `docs/tables.md` explains all columns.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from typing import Any, Final

import numpy as np
import pandas as pd

from ich3d.core.arguments import require_type
from ich3d.core.issues import join
from ich3d.core.labels import ANY, LABELS, STAGES, series_prob
from ich3d.core.slice_geometry import slice_geometry
from ich3d.dicom.origin import SeriesOrigin
from ich3d.inference.journal import ScoredSeries
from ich3d.inference.scoring import SeriesPrediction

TOP_SLICES: Final = 3
"""Number of SOPInstanceUIDs in the column `top_slices` of `series.csv`."""

_ID_COLUMNS: Final = ("study_uid", "series_uid", "volume_id")
_STACK: Final = [f"stack_{label}" for label in LABELS]

SLICE_COLUMNS: Final = [
    *_ID_COLUMNS,
    "patient_id",
    "sop_uid",
    "frame",
    "slice_index",
    "z_mm",
    "gap_mm",
    "brain_cm2",
    "codes",
    *(f"{stage}_{label}" for stage in STAGES for label in LABELS),
    "agreement",
]
SERIES_COLUMNS: Final = [
    *_ID_COLUMNS,
    "n_slices",
    "codes",
    "out_of_range",
    *(f"prob_{label}" for label in LABELS),
    "agreement",
    "top_slices",
    "leads_study",
    *(each.name for each in fields(SeriesOrigin)),
    "trained_on",
]
SLICE_TEXT: Final = (*_ID_COLUMNS, "patient_id", "sop_uid", "codes")
"""The columns of `slices.csv` that are text."""


def slice_table(scored: Iterable[ScoredSeries | SeriesPrediction]) -> pd.DataFrame:
    """The table of `slices.csv`: a row a slice, probabilities rounded to 7 decimals.

    `scored` may be the series of what `ich3d.predict` returned. Within a series rows are sorted by
    `z_mm`; dropped slices stand at their position, or at the end where it is not known.
    """
    blocks = [_slice_rows(_without_pixels(series)) for series in scored]
    if not blocks:
        return pd.DataFrame(columns=SLICE_COLUMNS)
    return pd.concat(blocks, ignore_index=True)


def series_table(
    scored: Iterable[ScoredSeries | SeriesPrediction],
    leaders: Mapping[str, str] | None = None,
    origins: Mapping[str, SeriesOrigin] | None = None,
) -> pd.DataFrame:
    """The table of `series.csv`: a row a series, with the highest probability of its slices.

    Args:
        scored: the series; they may be those of what `ich3d.predict` returned.
        leaders: by volume_id, why a series speaks for its study (`inference.leading`); without it a
            prediction's own `leads` does.
        origins: by volume_id, where each series comes from; without it these columns are empty.
    """
    series = list(scored)
    if leaders is None:
        predictions = [one for one in series if isinstance(one, SeriesPrediction)]
        leaders = {one.series.volume_id: one.leads for one in predictions}
    rows = [
        {
            **_series_row(one),
            "leads_study": leaders.get(one.volume_id, ""),
            **(asdict(origins[one.volume_id]) if origins is not None else {}),
            "trained_on": "yes" if one.is_known_patient else "",
        }
        for one in map(_without_pixels, series)
    ]
    return pd.DataFrame(rows, columns=SERIES_COLUMNS)


def submission(
    slices: pd.DataFrame,
    base_rate: Mapping[str, float | None],
    copies: Mapping[str, str] | None = None,
    rejected_uids: Iterable[str] = (),
) -> pd.DataFrame:
    """The table of `submission.csv`: `ID,Label`, six rows a SOPInstanceUID.

    A SOPInstanceUID of several frames, or of several files (`ambiguous_uids`), gets the maximum of
    their scores. A dropped slice gets the stack scores of its neighbours, interpolated at its
    position. A copy of a slice gets that slice's scores. Where nothing is known of a slice, it gets
    the training set's `base_rate` of each label.

    Args:
        slices: the table of `slices.csv`.
        base_rate: prevalence of each label in the training set, None where no slice was labelled.
        copies: SOPInstanceUIDs of copies that were left out, and of the slice that is used instead.
        rejected_uids: SOPInstanceUIDs of slices of series that were not scored.
    """
    is_scored = slices["stack_any"].notna()
    scored = slices[is_scored]
    prob = scored.groupby("sop_uid", sort=False)[_STACK].max()

    is_missing = ~is_scored & (slices["sop_uid"] != "") & ~slices["sop_uid"].isin(prob.index)
    missing = slices[is_missing]
    if len(missing):
        filled = pd.DataFrame(
            _filled(missing, scored, base_rate), index=missing["sop_uid"], columns=_STACK
        )
        prob = pd.concat([prob, filled.groupby("sop_uid", sort=False).max()])
        prob = prob.loc[slices.loc[slices["sop_uid"].isin(prob.index), "sop_uid"].unique()]

    copied = {copy: used for copy, used in (copies or {}).items() if used in prob.index}
    of_copies = prob.loc[list(copied.values())].set_axis(list(copied))
    unknown = list(rejected_uids)
    of_unknown = pd.DataFrame([_rates(base_rate)] * len(unknown), index=unknown, columns=_STACK)
    prob = pd.concat([table for table in (prob, of_copies, of_unknown) if len(table)] or [prob])
    prob = prob[~prob.index.duplicated()]

    ids = [f"{sop_uid}_{label}" for sop_uid in prob.index for label in LABELS]
    return pd.DataFrame({"ID": ids, "Label": prob.to_numpy(float).ravel().round(7)})


def uids_without_score(slices: pd.DataFrame, rejected_uids: Iterable[str]) -> list[str]:
    """The SOPInstanceUIDs of `submission.csv` of which nothing is known but the base rate."""
    known = slices[slices["stack_any"].notna() | slices["z_mm"].notna()]
    without_position = slices.loc[~slices["sop_uid"].isin(["", *known["sop_uid"]]), "sop_uid"]
    rejected = [sop_uid for sop_uid in rejected_uids if sop_uid not in set(known["sop_uid"])]
    return list(dict.fromkeys([*without_position, *rejected]))


def ambiguous_uids(slices: pd.DataFrame) -> pd.DataFrame:
    """The scored rows of `slices.csv` whose SOPInstanceUID is that of several files.

    Frames of one file share it too, and differ in their number.
    """
    scored = slices[slices["stack_any"].notna()]
    by_uid = scored.groupby("sop_uid", sort=False)["frame"]
    is_mixed = by_uid.transform("count").between(1, by_uid.transform("size") - 1)
    return scored[is_mixed | scored.duplicated(["sop_uid", "frame"], keep=False)]


def _without_pixels(series: ScoredSeries | SeriesPrediction) -> ScoredSeries:
    """What the tables hold of a series. DataError where it is neither of the two."""
    require_type("scored", series, ScoredSeries, SeriesPrediction)
    return ScoredSeries.of(series) if isinstance(series, SeriesPrediction) else series


def _slice_rows(series: ScoredSeries) -> pd.DataFrame:
    """The rows of one series: its Z scored slices, then its U dropped ones, sorted by position."""
    unscored = series.unscored
    n_scored, n_unscored = len(series), len(unscored)
    unscored_z_mm = [np.nan if dropped.z_mm is None else dropped.z_mm for dropped in unscored]
    gap_mm = slice_geometry(series.z_mm).gap_below_mm  # (Z,)

    frames = [*series.frames, *(dropped.frame for dropped in unscored)]
    slice_index = [*range(n_scored), *[None] * n_unscored]
    nothing = np.full(n_unscored, np.nan)
    columns: dict[str, Any] = {
        **{name: getattr(series, name) for name in (*_ID_COLUMNS, "patient_id")},
        "sop_uid": [*series.sop_uids, *(dropped.sop_uid for dropped in unscored)],
        "frame": pd.array(frames, dtype="Int64"),
        "slice_index": pd.array(slice_index, dtype="Int64"),
        "z_mm": np.append(series.z_mm, unscored_z_mm).round(4),
        "gap_mm": np.append(gap_mm.round(4), nothing),
        "brain_cm2": np.append(series.brain_cm2.round(2), nothing),
        "agreement": np.append(series.agreement.round(4), nothing),
        "codes": [join(series.codes)] * n_scored + [dropped.code.value for dropped in unscored],
    }

    no_scores = np.full((n_unscored, len(LABELS)), np.nan)
    for stage in STAGES:
        prob = np.concatenate([series.prob[stage].round(7), no_scores])  # (Z + U, K)
        columns |= {f"{stage}_{label}": prob[:, k] for k, label in enumerate(LABELS)}
    return pd.DataFrame(columns, columns=SLICE_COLUMNS).sort_values("z_mm", kind="stable")


def _series_row(series: ScoredSeries) -> dict[str, Any]:
    """The row of one series; `top_slices` are its slices most likely to bleed, in falling order."""
    stack = series.prob["stack"]
    prob = series_prob(stack)  # (K,)
    top = np.argsort(-stack[:, LABELS.index(ANY)], kind="stable")[:TOP_SLICES]
    return {
        **{name: getattr(series, name) for name in _ID_COLUMNS},
        "n_slices": len(series),
        "codes": join(series.codes),
        "out_of_range": "|".join(series.out_of_range),
        **{f"prob_{label}": round(float(prob[k]), 7) for k, label in enumerate(LABELS)},
        "agreement": round(float(series.agreement[top[0]]), 4),
        "top_slices": "|".join(series.sop_uids[index] for index in top),
    }


def _filled(
    missing: pd.DataFrame, scored: pd.DataFrame, base_rate: Mapping[str, float | None]
) -> np.ndarray:
    """Stack scores (N, K) for N slices that were not scored."""
    rates = _rates(base_rate)
    positions = zip(missing["volume_id"], missing["z_mm"], strict=True)
    return np.array(
        [
            rates
            if np.isnan(z_mm)
            else _interpolated(scored[scored["volume_id"] == volume_id], z_mm)
            for volume_id, z_mm in positions
        ]
    )


def _rates(base_rate: Mapping[str, float | None]) -> np.ndarray:
    """The base rates (K,) in the order of `LABELS`; 0 where no training slice was labelled."""
    return np.array([base_rate[label] or 0.0 for label in LABELS])


def _interpolated(scored: pd.DataFrame, z_mm: float) -> np.ndarray:
    """Stack scores (K,) at `z_mm`, linear between the scored slices of a volume."""
    return np.array([np.interp(z_mm, scored["z_mm"], scored[column]) for column in _STACK])
