"""What the DICOM objects of one series report, as plain values and without any DICOM library."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

import ich3d
from ich3d.core.labels import ANY, FLAG_AT, LABELS, series_prob
from ich3d.core.types import SliceKey
from ich3d.dicom.uids import uid

if TYPE_CHECKING:
    from ich3d.inference.scoring import SeriesPrediction

SliceReferences = Mapping[str, list[int]]
"""Slices by SOPInstanceUID, inferior to superior: frame numbers, empty for a single-frame file."""


@dataclass(frozen=True)
class ReportContent:
    """Findings of one series, as its structured report states them.

    Attributes:
        volume_id: The scored volume.
        series_prob: Probability of the series by label, rounded to 7 decimals.
        positive_slices: For each label, the flagged slices that show it; see `positive_slices`.
        strongest_slices: For each label, the slice whose probability is the series': its
            SOPInstanceUID, and its frame number or None.
        algorithm_parameters: Texts for Algorithm Parameters of TID 4019; the first names the model.
        leads_study: Whether it is the series, of several, that speaks for the study.
    """

    volume_id: str
    series_prob: Mapping[str, float]
    positive_slices: Mapping[str, SliceReferences]
    strongest_slices: Mapping[str, tuple[str, int | None]]
    algorithm_parameters: tuple[str, ...]
    leads_study: bool = False

    @property
    def flagged_slices(self) -> SliceReferences:
        """The slices with hemorrhage of any kind."""
        return self.positive_slices[ANY]

    def content_uid(self, *names: str) -> str:
        """UID that depends on `names`, on everything reported and on the version of ich3d.

        Equal predictions of the same model therefore get equal UIDs in every run.
        """
        # The spelling of this text is part of the file format: another text gives other UIDs.
        content = (
            f"Told(volume_id={self.volume_id!r}, prob={self.series_prob!r}, "
            f"shown={self.positive_slices!r}, strongest={self.strongest_slices!r}, "
            f"algorithm={self.algorithm_parameters!r})"
        )
        return uid("ich3d result", *names, content, ich3d.__version__)


def report_content(prediction: "SeriesPrediction", model_sha256: str) -> ReportContent:
    """Content of the report on one scored series, from the stack's probabilities (Z, K).

    `model_sha256` identifies the model and is reported as a parameter of the algorithm.
    """
    series = prediction.series
    slice_prob = prediction.prob["stack"]
    prob = series_prob(slice_prob)  # (K,)
    strongest = [series.keys[int(index)] for index in slice_prob.argmax(axis=0)]  # of K labels

    leads = f"Series that speaks for its study: {prediction.leads}" if prediction.leads else ""

    return ReportContent(
        volume_id=series.volume_id,
        series_prob={label: round(float(prob[k]), 7) for k, label in enumerate(LABELS)},
        positive_slices=positive_slices(slice_prob, series.keys),
        strongest_slices={
            label: (key.sop_uid, key.frame) for label, key in zip(LABELS, strongest, strict=True)
        },
        algorithm_parameters=(
            f"model_sha256={model_sha256}",
            f"flag_at={FLAG_AT:g}",
            "Probability of a series: the maximum over its slices",
            "Source of Measurement: the slices whose probabilities of the finding and of any "
            "hemorrhage are at least flag_at",
            *([leads] if leads else []),
        ),
        leads_study=bool(leads),
    )


def positive_slices(prob: np.ndarray, keys: Sequence[SliceKey]) -> dict[str, dict[str, list[int]]]:
    """For each label, the slices that show it, as `SliceReferences`.

    A slice shows a label where both the label and `any` have a probability of at least `FLAG_AT`.

    Args:
        prob: Probabilities (Z, K) of one series.
        keys: Identity of each of the Z slices, inferior to superior.
    """
    is_flagged = prob[:, LABELS.index(ANY)] >= FLAG_AT  # (Z,)

    references: dict[str, dict[str, list[int]]] = {}
    for k, label in enumerate(LABELS):
        references[label] = {}
        for index in np.flatnonzero(is_flagged & (prob[:, k] >= FLAG_AT)):
            key = keys[int(index)]
            frames = references[label].setdefault(key.sop_uid, [])
            if key.frame is not None:
                frames.append(key.frame)
    return references
