"""The page of one scored study: a single HTML file that needs no server and no network.

It shows the slices in several windows, the probabilities of each stage along the head, explanations
of the strongest flagged slices, and notes on quality. It names no patient unless PatientIDs are
asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

import ich3d
from ich3d.core.labels import ANY, FLAG_AT, LABELS, STAGES, SUBTYPES, label_index, series_prob
from ich3d.core.text import pluralize
from ich3d.core.types import FileRef, Rejected, SliceHeader
from ich3d.core.windows import WINDOWS
from ich3d.core.workspace import replacing
from ich3d.dicom.headers.read import read_file
from ich3d.explain.explanation import HEAT_FROM, Explanation, explain_slices
from ich3d.inference.run import OutputWriter
from ich3d.inference.scoring import SeriesPrediction, study_uid_of
from ich3d.model.folder import Model
from ich3d.model.performance import doubt, sentences
from ich3d.prepare.store import plain_name
from ich3d.report.explanation import contributions_clause, stacker_clause
from ich3d.report.page_template import template
from ich3d.report.study.index_page import doubt_sentence, write_index
from ich3d.report.study.probability_plot import SHOWN_ORDER, ProbabilityPlot, make_probability_plot
from ich3d.report.study.quality_notes import quality_notes
from ich3d.report.study.thumbnails import (
    SHOWN_WINDOWS,
    Thumbnails,
    heat_image,
    make_thumbnails,
)

MAX_EXPLAINED: Final = 6
"""Flagged slices of a series that are explained at most. One explanation costs about as much as
scoring a dozen slices."""


@dataclass(frozen=True)
class SliceTile:
    """One slice in the overview of a series.

    `position` is the CSS `background-position` of its image, `flags` are the labels that it is
    flagged for, `prob_any` is its probability of `any`.
    """

    index: int
    description: str
    flags: tuple[str, ...]
    prob_any: float
    position: str


@dataclass(frozen=True)
class SliceExplanation:
    """Why a slice is flagged for `label`.

    `heat` is its heat map as a data URI, empty where the encoder saw no sign of the label.
    """

    index: int
    label: str
    heat: str
    clauses: tuple[str, ...]

    @classmethod
    def of(cls, explanation: Explanation) -> "SliceExplanation":
        """The parts of an explanation that the page shows."""
        clauses = contributions_clause(explanation), stacker_clause(explanation)
        return cls(
            index=explanation.slice_index,
            label=explanation.label,
            heat=heat_image(explanation.heat) if explanation.heat.any() else "",
            clauses=tuple(clause for clause in clauses if clause),
        )


@dataclass(frozen=True)
class SeriesSection:
    """What the page shows of one series.

    Attributes:
        prediction: the scored series.
        patient_id: the PatientID, empty unless it was asked for.
        headline: the main result in one sentence.
        agreement: how far the model's folds agree on the strongest slice, in one sentence; empty
            for a model of one fold, and for a patient that it was trained on.
        prob: probability of the series for each label, in `SHOWN_ORDER`.
        thumbnails: the images of all slices.
        tiles: the slices, from inferior to superior.
        plot: probability along the head.
        explained: explanations of the strongest flagged slices.
        notes: sentences on quality.
        start: index of the slice that is shown first.
    """

    prediction: SeriesPrediction
    patient_id: str
    headline: str
    agreement: str
    prob: dict[str, float]
    thumbnails: Thumbnails
    tiles: list[SliceTile]
    plot: ProbabilityPlot
    explained: list[SliceExplanation]
    notes: list[str]
    start: int

    @property
    def data(self) -> dict[str, Any]:
        """What the page's script reads as JSON; lists have an entry for each slice."""
        prob = {
            stage: self.prediction.prob[stage].astype(float).round(3).tolist() for stage in STAGES
        }
        return {
            "start": self.start,
            "descriptions": [tile.description for tile in self.tiles],
            "positions": [tile.position for tile in self.tiles],
            "x": self.plot.x,
            "uids": [key.sop_uid for key in self.prediction.series.keys],
            "prob": prob,
            "heat": {
                explained.index: explained.label for explained in self.explained if explained.heat
            },
        }


def page_writer(model: Model, folder: Path, identifiers: bool) -> OutputWriter:
    """Write a page to `folder` for each study that is scored, and their index where it has several.

    `identifiers` shows PatientIDs on the pages.
    """

    def write(study: Sequence[SeriesPrediction]) -> tuple[Rejected, ...]:
        write_study_page(model, study, folder, identifiers)
        return ()

    def finish(series: pd.DataFrame) -> None:
        write_index(model, series, folder)

    return OutputWriter(folder, write, finish)


def read_patient_id(file: FileRef) -> str:
    """The PatientID of a DICOM file, empty where it has none or cannot be read any more."""
    match read_file(file):
        case [SliceHeader() as header, *_]:
            return header.patient_id
        case _:
            return ""


def write_study_page(
    model: Model, study: Sequence[SeriesPrediction], folder: Path, identifiers: bool = False
) -> Path:
    """Write the page of one study to `folder`/<study_uid>.html and return its path.

    Args:
        model: the model that scored the study.
        study: the scored series of the study.
        folder: where the page is written. A study_uid that is no safe file name is replaced by its
            hash.
        identifiers: show the PatientID of each series, read from its files.
    """
    path = folder / f"{plain_name(study_uid_of(study[0].series))}.html"
    html = template("study.html.j2").render(_content(model, study, identifiers))
    with replacing(path) as partial:
        partial.write_text(html, encoding="utf-8")
    return path


def _content(model: Model, study: Sequence[SeriesPrediction], identifiers: bool) -> dict[str, Any]:
    """The variables of `study.html.j2`."""
    sections = []
    for prediction in study:
        patient_id = read_patient_id(prediction.files[0]) if identifiers else ""
        sections.append(_section(model, prediction, patient_id))
    return {
        "study_uid": study[0].series.study_uid,
        "sections": sections,
        "model": model,
        "version": ich3d.__version__,
        "labels": LABELS,
        "stages": STAGES,
        "flag_at": FLAG_AT,
        "windows": {name: WINDOWS[name] for name in SHOWN_WINDOWS},
        "max_explained": MAX_EXPLAINED,
        "heat_from": HEAT_FROM,
        "pluralize": pluralize,
        "doubt": doubt_sentence(model),
        "performance": sentences(model.performance),
    }


def _section(model: Model, prediction: SeriesPrediction, patient_id: str) -> SeriesSection:
    stack = prediction.prob["stack"]  # (Z, K)
    prob = series_prob(stack)  # (K,)
    thumbnails = make_thumbnails(prediction.series.hu)
    return SeriesSection(
        prediction=prediction,
        patient_id=patient_id,
        headline=_headline(stack, is_calibrated=not doubt(model.performance)),
        agreement=_agreement(model, prediction),
        prob={label: round(float(prob[label_index(label)]), 7) for label in SHOWN_ORDER},
        thumbnails=thumbnails,
        tiles=[_tile(prediction, thumbnails, index) for index in range(len(stack))],
        plot=make_probability_plot(prediction),
        explained=_explain_flagged(model, prediction),
        notes=quality_notes(model, prediction),
        start=int(stack[:, label_index(ANY)].argmax()),
    )


def flags_of(prob: np.ndarray) -> tuple[str, ...]:
    """The labels that a slice with the probabilities `prob` (K,) is flagged for.

    None unless `any` reaches `FLAG_AT`; otherwise each label that reaches it.
    """
    if prob[label_index(ANY)] < FLAG_AT:
        return ()
    return tuple(label for label in SHOWN_ORDER if prob[label_index(label)] >= FLAG_AT)


def _tile(prediction: SeriesPrediction, thumbnails: Thumbnails, index: int) -> SliceTile:
    prob = prediction.prob["stack"][index]  # (K,)
    prob_any, flags = float(prob[label_index(ANY)]), flags_of(prob)
    result = f"not flagged, any {prob_any:.3f}"
    if flags:
        scores = ", ".join(f"{label} {prob[label_index(label)]:.3f}" for label in flags)
        result = f"flagged for {scores}"

    description = f"Slice {index}, z {prediction.series.z_mm[index]:.1f} mm: {result}"
    return SliceTile(index, description, flags, prob_any, thumbnails.position(index))


def _headline(stack: np.ndarray, is_calibrated: bool) -> str:
    """The main result of a series with the probabilities `stack` (Z, K), in one sentence.

    That bleeding is likelier than not is said only of a model whose figures show it.
    """
    prob_any = stack[:, label_index(ANY)]
    flagged = int((prob_any >= FLAG_AT).sum())
    if not flagged:
        top = int(prob_any.argmax())
        highest = f"the highest probability of any bleeding is {prob_any[top]:.3f}, in slice {top}"
        return f"None of {pluralize(len(stack), 'slice')} is flagged; {highest}."

    subtype_prob = {label: float(stack[:, label_index(label)].max()) for label in SUBTYPES}
    likeliest = max(SUBTYPES, key=subtype_prob.__getitem__)
    count = f"{flagged} of {pluralize(len(stack), 'slice')}"
    subtype = f"the likeliest subtype is {likeliest}, {subtype_prob[likeliest]:.3f}"
    if is_calibrated:
        return f"Bleeding is more likely than not in {count}; {subtype}."
    reach = "reaches" if flagged == 1 else "reach"
    return f"{count} {reach} the probability of {FLAG_AT} at which slices are flagged; {subtype}."


def _agreement(model: Model, prediction: SeriesPrediction) -> str:
    """How far the folds agree on the strongest slice, in one sentence."""
    n_folds = len(model.fold_models)
    if n_folds == 1:
        return ""
    if np.isnan(prediction.agreement).all():  # folds that know the answer agree
        return ""
    strongest = int(prediction.prob["stack"][:, label_index(ANY)].argmax())
    return (
        f"Agreement of the model's {n_folds} folds on slice {strongest}: "
        f"{prediction.agreement[strongest]:.2f}, where 1 is the same probability from all."
    )


def _explain_flagged(model: Model, prediction: SeriesPrediction) -> list[SliceExplanation]:
    """Explanations of the strongest flagged slices, from inferior to superior."""
    stack = prediction.prob["stack"]  # (Z, K)
    prob_any = stack[:, label_index(ANY)]
    strongest = np.argsort(-prob_any, kind="stable")[:MAX_EXPLAINED]
    chosen = sorted(int(index) for index in strongest if prob_any[index] >= FLAG_AT)
    if not chosen:
        return []

    requests = [(index, _explained_label(stack[index])) for index in chosen]
    explanations = explain_slices(model, prediction, requests)
    return [SliceExplanation.of(explanation) for explanation in explanations]


def _explained_label(prob: np.ndarray) -> str:
    """The likeliest subtype that a slice with `prob` (K,) is flagged for; `any` if for none."""
    subtypes = [label for label in flags_of(prob) if label != ANY]
    return max(subtypes, key=lambda label: float(prob[label_index(label)]), default=ANY)
