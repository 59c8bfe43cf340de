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
from ich3d.core.labels import ANY, FLAG_AT, LABELS, STAGES, SUBTYPES, place_of
from ich3d.core.types import FileRef, Rejected, SliceHeader, SliceScores
from ich3d.core.windows import WINDOWS
from ich3d.core.words import counted
from ich3d.core.workspace import replacing
from ich3d.dicom.header import read_file
from ich3d.explain import explain_slices
from ich3d.pipeline.model import Model
from ich3d.pipeline.predict import Predicted, study_of
from ich3d.pipeline.serve import Sink
from ich3d.prepare.store import plain_name
from ich3d.report.explanation import leaned_on, moved
from ich3d.report.lines import SHOWN_ORDER, Lines, make_lines
from ich3d.report.notes import quality_notes
from ich3d.report.page import template
from ich3d.report.strip import SHOWN_IN, Strip, heat_picture, make_strip

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

    item: Predicted
    patient_id: str
    headline: str
    prob: dict[str, float]
    strip: Strip
    tiles: list[Tile]
    lines: Lines
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
            "prob": {stage: self.item.prob[stage].astype(float).round(3).tolist() for stage in STAGES},
            "heat": {one.index: one.label for one in self.explained if one.heat},
        }


def page_sink(model: Model, folder: Path, identifiers: bool) -> Sink:
    """A page in `folder` for each study that `pipeline.predict` scores; PatientIDs are shown where
    `identifiers` says so."""

    def write(study: Sequence[Predicted]) -> tuple[Rejected, ...]:
        write_study_page(model, study, folder, identifiers)
        return ()

    return Sink(folder, write)


def read_patient_id(file: FileRef) -> str:
    """The PatientID of a DICOM file, empty where it has none or can no longer be read."""
    match read_file(file):
        case [SliceHeader() as header, *_]:
            return header.patient_id
        case _:
            return ""


def write_study_page(
    model: Model, items: Sequence[Predicted], folder: Path, identifiers: bool = False
) -> Path:
    """Write the page of the series `items` of one study to `folder`/<study_uid>.html; its path.

    A study_uid that is no plain file name is replaced by its hash. `identifiers` shows whose each series is.
    """
    path = folder / f"{plain_name(study_of(items[0].stored))}.html"
    html = template("study.html.j2").render(_content(model, items, identifiers))
    with replacing(path) as partial:
        partial.write_text(html, encoding="utf-8")
    return path


def _content(model: Model, items: Sequence[Predicted], identifiers: bool) -> dict[str, Any]:
    """All that the template names."""
    return {
        "study_uid": items[0].stored.study_uid,
        "parts": [
            _part(model, item, read_patient_id(item.files[0]) if identifiers else "") for item in items
        ],
        "model": model,
        "version": ich3d.__version__,
        "labels": LABELS,
        "stages": STAGES,
        "flag_at": FLAG_AT,
        "windows": {name: WINDOWS[name] for name in SHOWN_IN},
        "most_explained": EXPLAINED,
    }


def _part(model: Model, item: Predicted, patient_id: str) -> Part:
    stack, strip = item.prob["stack"], make_strip(item.hu)
    series = SliceScores(item.stored.volume_id, "stack", stack).series_prob
    return Part(
        item=item,
        patient_id=patient_id,
        headline=_headline(item),
        prob={label: round(float(series[place_of(label)]), 7) for label in SHOWN_ORDER},
        strip=strip,
        tiles=[_tile(item, strip, index) for index in range(len(stack))],
        lines=make_lines(item),
        explained=_explained(model, item),
        notes=quality_notes(model, item),
        start=int(stack[:, place_of(ANY)].argmax()),
    )


def flags_of(item: Predicted, index: int) -> tuple[str, ...]:
    """The labels that slice `index` is flagged for: none unless its `any` reaches `FLAG_AT`, else those whose
    own probability does."""
    prob = item.prob["stack"][index]
    if prob[place_of(ANY)] < FLAG_AT:
        return ()
    return tuple(label for label in SHOWN_ORDER if prob[place_of(label)] >= FLAG_AT)


def _tile(item: Predicted, strip: Strip, index: int) -> Tile:
    flags, prob = flags_of(item, index), item.prob["stack"][index]
    told = ", ".join(f"{label} {prob[place_of(label)]:.3f}" for label in flags)
    what = f"flagged for {told}" if flags else f"not flagged, any {prob[place_of(ANY)]:.3f}"
    said = f"Slice {index}, z {item.stored.z_mm[index]:.1f} mm: {what}"
    return Tile(index, said, flags, float(prob[place_of(ANY)]), strip.place(index))


def _headline(item: Predicted) -> str:
    stack = item.prob["stack"]
    scores = stack[:, place_of(ANY)]
    count, slices = int((scores >= FLAG_AT).sum()), counted(len(stack), "slice")
    if not count:
        top = int(scores.argmax())
        highest = f"the highest probability of any bleeding is {scores[top]:.3f}, in slice {top}"
        return f"No slice of {len(stack)} is flagged; {highest}."
    tops = {label: float(stack[:, place_of(label)].max()) for label in SUBTYPES}
    likeliest = max(SUBTYPES, key=tops.__getitem__)
    flagged = f"In {count} of {slices} bleeding is likelier than not"
    return f"{flagged}; the likeliest subtype is {likeliest}, {tops[likeliest]:.3f}."


def _explained(model: Model, item: Predicted) -> list[Explained]:
    """The strongest flagged slices explained, each for its likeliest flagged subtype, from below."""
    scores = item.prob["stack"][:, place_of(ANY)]
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
        for one in explain_slices(model, item, [(index, _label_of(item, index)) for index in chosen])
    ]


def _label_of(item: Predicted, index: int) -> str:
    """The likeliest subtype that a slice is flagged for; `any` where it is flagged for none."""
    prob = item.prob["stack"][index]
    subtypes = [label for label in flags_of(item, index) if label != ANY]
    return max(subtypes, key=lambda label: float(prob[place_of(label)]), default=ANY)
