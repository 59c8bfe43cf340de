"""The page of one study that was scored: one HTML file that needs no server and no network.

Slices to step through in windows to choose from, probabilities along the head by stage, where the encoder
saw signs in the strongest flagged slices and what the stacker leaned on there, and what is odd about the
series. It names no patient, unless PatientIDs are asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

import ich3d
from ich3d.core.labels import ANY, FLAG_AT, LABELS, STAGES, SUBTYPES, label_index
from ich3d.core.text import pluralize
from ich3d.core.types import FileRef, Rejected, SliceHeader, SliceScores
from ich3d.core.windows import WINDOWS
from ich3d.core.workspace import replacing
from ich3d.dicom.headers.read import read_file
from ich3d.explain.explanation import explain_slices
from ich3d.inference.run import OutputWriter
from ich3d.inference.scoring import SeriesPrediction, study_of
from ich3d.model.folder import Model
from ich3d.prepare.store import plain_name
from ich3d.report.explanation import leaned_on, moved
from ich3d.report.run.page import template
from ich3d.report.study.probability_plot import SHOWN_ORDER, ProbabilityPlot, make_probability_plot
from ich3d.report.study.quality_notes import quality_notes
from ich3d.report.study.thumbnails import SHOWN_IN, Thumbnails, heat_picture, make_thumbnails

EXPLAINED: Final = 6
"""Most flagged slices of a series that are explained: each costs about as much as scoring a dozen slices."""


@dataclass(frozen=True)
class Tile:
    """One slice of the strip: its words, the labels it is flagged for, its tile's place on the sheet."""

    index: int
    said: str
    flags: tuple[str, ...]
    prob_any: float
    place: str


@dataclass(frozen=True)
class Explained:
    """Why a slice is flagged: the heat as a data URI, empty where there is none, and clauses."""

    index: int
    label: str
    heat: str
    clauses: tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """What the page shows of one series; `prob` in `SHOWN_ORDER`, `start` the slice that it opens with, and
    `patient_id` empty unless it was asked for."""

    item: SeriesPrediction
    patient_id: str
    headline: str
    prob: dict[str, float]
    strip: Thumbnails
    tiles: list[Tile]
    lines: ProbabilityPlot
    explained: list[Explained]
    notes: list[str]
    start: int

    @property
    def data(self) -> dict[str, Any]:
        """What the page's script reads; lists run over slices."""
        stored = self.item.stored
        return {
            "start": self.start,
            "said": [tile.said for tile in self.tiles],
            "place": [tile.place for tile in self.tiles],
            "x": self.lines.x,
            "uid": [key.sop_uid for key in stored.keys],
            "prob": {
                stage: self.item.prob[stage].astype(float).round(3).tolist() for stage in STAGES
            },
            "heat": {one.index: one.label for one in self.explained if one.heat},
        }


def page_writer(model: Model, folder: Path, identifiers: bool) -> OutputWriter:
    """A page in `folder` for each study that `pipeline.predict` scores; PatientIDs are shown where
    `identifiers` says so."""

    def write(study: Sequence[SeriesPrediction]) -> tuple[Rejected, ...]:
        write_study_page(model, study, folder, identifiers)
        return ()

    return OutputWriter(folder, write)


def read_patient_id(file: FileRef) -> str:
    """The PatientID of a DICOM file, empty where it has none or can no longer be read."""
    match read_file(file):
        case [SliceHeader() as header, *_]:
            return header.patient_id
        case _:
            return ""


def write_study_page(
    model: Model, items: Sequence[SeriesPrediction], folder: Path, identifiers: bool = False
) -> Path:
    """Write the page of the series `items` of one study to `folder`/<study_uid>.html; its path.

    A study_uid that is no plain file name is replaced by its hash. `identifiers` shows whose each series is.
    """
    path = folder / f"{plain_name(study_of(items[0].stored))}.html"
    html = template("study.html.j2").render(_content(model, items, identifiers))
    with replacing(path) as partial:
        partial.write_text(html, encoding="utf-8")
    return path


def _content(model: Model, items: Sequence[SeriesPrediction], identifiers: bool) -> dict[str, Any]:
    """All that the template names."""
    return {
        "study_uid": items[0].stored.study_uid,
        "parts": [
            _part(model, item, read_patient_id(item.files[0]) if identifiers else "")
            for item in items
        ],
        "model": model,
        "version": ich3d.__version__,
        "labels": LABELS,
        "stages": STAGES,
        "flag_at": FLAG_AT,
        "windows": {name: WINDOWS[name] for name in SHOWN_IN},
        "most_explained": EXPLAINED,
    }


def _part(model: Model, item: SeriesPrediction, patient_id: str) -> Part:
    stack, strip = item.prob["stack"], make_thumbnails(item.hu)
    series = SliceScores(item.stored.volume_id, "stack", stack).series_prob
    return Part(
        item=item,
        patient_id=patient_id,
        headline=_headline(item),
        prob={label: round(float(series[label_index(label)]), 7) for label in SHOWN_ORDER},
        strip=strip,
        tiles=[_tile(item, strip, index) for index in range(len(stack))],
        lines=make_probability_plot(item),
        explained=_explained(model, item),
        notes=quality_notes(model, item),
        start=int(stack[:, label_index(ANY)].argmax()),
    )


def flags_of(item: SeriesPrediction, index: int) -> tuple[str, ...]:
    """The labels that slice `index` is flagged for: none unless its `any` reaches `FLAG_AT`, else those whose
    own probability does."""
    prob = item.prob["stack"][index]
    if prob[label_index(ANY)] < FLAG_AT:
        return ()
    return tuple(label for label in SHOWN_ORDER if prob[label_index(label)] >= FLAG_AT)


def _tile(item: SeriesPrediction, strip: Thumbnails, index: int) -> Tile:
    flags, prob = flags_of(item, index), item.prob["stack"][index]
    told = ", ".join(f"{label} {prob[label_index(label)]:.3f}" for label in flags)
    what = f"flagged for {told}" if flags else f"not flagged, any {prob[label_index(ANY)]:.3f}"
    said = f"Slice {index}, z {item.stored.z_mm[index]:.1f} mm: {what}"
    return Tile(index, said, flags, float(prob[label_index(ANY)]), strip.place(index))


def _headline(item: SeriesPrediction) -> str:
    stack = item.prob["stack"]
    scores = stack[:, label_index(ANY)]
    count, slices = int((scores >= FLAG_AT).sum()), pluralize(len(stack), "slice")
    if not count:
        top = int(scores.argmax())
        highest = f"the highest probability of any bleeding is {scores[top]:.3f}, in slice {top}"
        return f"No slice of {len(stack)} is flagged; {highest}."
    tops = {label: float(stack[:, label_index(label)].max()) for label in SUBTYPES}
    likeliest = max(SUBTYPES, key=tops.__getitem__)
    flagged = f"In {count} of {slices} bleeding is likelier than not"
    return f"{flagged}; the likeliest subtype is {likeliest}, {tops[likeliest]:.3f}."


def _explained(model: Model, item: SeriesPrediction) -> list[Explained]:
    """The strongest flagged slices explained, each for its likeliest flagged subtype, from below."""
    scores = item.prob["stack"][:, label_index(ANY)]
    strongest = np.argsort(-scores, kind="stable")[:EXPLAINED]
    chosen = sorted(int(index) for index in strongest if scores[index] >= FLAG_AT)
    if not chosen:
        return []
    return [
        Explained(
            index=one.slice_index,
            label=one.label,
            heat=heat_picture(one.heat) if one.heat.any() else "",
            clauses=tuple(filter(None, (moved(one), leaned_on(one)))),
        )
        for one in explain_slices(
            model, item, [(index, _label_of(item, index)) for index in chosen]
        )
    ]


def _label_of(item: SeriesPrediction, index: int) -> str:
    """The likeliest subtype that a slice is flagged for; `any` where it is flagged for none."""
    prob = item.prob["stack"][index]
    subtypes = [label for label in flags_of(item, index) if label != ANY]
    return max(subtypes, key=lambda label: float(prob[label_index(label)]), default=ANY)
