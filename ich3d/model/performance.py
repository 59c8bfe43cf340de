"""How well a model finds bleeding in patients that it was not trained on.

A model that is trained by `ich3d train` keeps these figures in its manifest. What its card adds,
such as evaluations on other hospitals, is read from `card.json` beside the model folder.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from ich3d.core.bootstrap import Interval
from ich3d.core.labels import ANY
from ich3d.core.operating_point import SERIES, SLICES, OperatingPoint
from ich3d.core.text import pluralize
from ich3d.core.workspace import read_json
from ich3d.model.starter import FIGURES

HELD_OUT: Final = "patients held out in training"
"""The name of the figures from training."""

MIN_PATIENTS: Final = 20
"""With fewer held-out patients, intervals over patients are too narrow to be trusted."""

PHANTOM: Final = "phantom"
"""The source of drawn heads."""

NOT_RECORDED: Final = "how well it scores patients that are new to it is not recorded"

_SERVED: Final = "stack"
"""The row of a card's metrics whose scores are the answer."""


@dataclass(frozen=True)
class Figures:
    """How well a model finds any bleeding in one set of patients.

    Attributes:
        name: who the patients are.
        patients: their number; None where it is not known.
        auc: AUC of `any` over slices.
        threshold: probability from which a slice is flagged.
        slices: sensitivity and specificity of `any` at the threshold, of slices.
        series: the same of series, each scored by its highest slice; None where not known.
    """

    name: str
    patients: int | None
    auc: Interval
    threshold: float
    slices: OperatingPoint
    series: OperatingPoint | None = None

    @property
    def sentence(self) -> str:
        """Patients, AUC, sensitivity and specificity, with 95 % intervals in brackets."""
        who = "" if self.patients is None else f"{pluralize(self.patients, 'patient')}, "
        levels = [self.slices]
        if self.series is not None and self.series != replace(self.slices, level=SERIES):
            levels.append(self.series)  # series of one slice each repeat the figures of slices
        at_threshold = "; ".join(
            f"{point.level}: sensitivity {_share(point.sensitivity)}, "
            f"specificity {_share(point.specificity)}"
            for point in levels
        )
        auc = f"AUC of any bleeding {_share(self.auc)}"
        return f"{who}{auc}; flagged at {self.threshold:g}, {at_threshold}"

    @property
    def flagged(self) -> tuple[int, int]:
        """How many slices were flagged, and how many of these bled."""
        point = self.slices
        return self._count(point.sensitivity.value, point.specificity.value)

    @property
    def calibration(self) -> str:
        """One sentence: how many of the flagged slices bled."""
        flagged, bled = self.flagged
        if not flagged:
            return f"No slice had a probability of {self.threshold:g} or more ({self.name})."
        share = f"{bled} bled, which is {bled / flagged:.0%}"
        slices = f"{pluralize(flagged, 'slice')} with a probability of {self.threshold:g} or more"
        return f"Of {slices}, {share} ({self.name})."

    @property
    def shows_likelier(self) -> bool:
        """Whether over half of the flagged slices bled, at the lower ends of both intervals."""
        point = self.slices
        flagged, bled = self._count(point.sensitivity.low, point.specificity.low)
        return bled > flagged / 2

    def _count(self, sensitivity: float, specificity: float) -> tuple[int, int]:
        """Flagged slices at a sensitivity and specificity, and those of them that bled."""
        if math.isnan(sensitivity) or math.isnan(specificity):
            return 0, 0
        bled = round(sensitivity * self.slices.n_positive)
        return bled + round((1 - specificity) * self.slices.n_negative), bled

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> "Figures":
        """What `as_dict` of a `Performance` made of one."""
        return cls(
            name=tree["name"],
            patients=tree["patients"],
            auc=_interval(tree["auc"]),
            threshold=tree["threshold"],
            slices=_point(tree["slices"]),
            series=None if tree["series"] is None else _point(tree["series"]),
        )


@dataclass(frozen=True)
class Performance:
    """How well a model finds any bleeding, as far as it was measured.

    Attributes:
        source: the kind of data that it was trained on, a name of `config.schema.SOURCES`.
        held_out: of patients of the training data, each scored by models that never saw them.
        external: of other data, such as those of another hospital.
    """

    source: str
    held_out: Figures
    external: tuple[Figures, ...] = ()

    @property
    def doubt(self) -> str:
        """Why a flagged slice of it may bleed less often than not; empty where figures exclude it.

        They do where the model was trained on patients, at least `MIN_PATIENTS` of them were held
        out, and in each set of patients more than half of the flagged slices bled, at the lower
        ends of the intervals of sensitivity and specificity.
        """
        if self.source == PHANTOM:
            return "the model was trained on drawn heads and not on patients"
        patients = self.held_out.patients or 0
        if patients < MIN_PATIENTS:
            return f"the model was tested on {pluralize(patients, 'held-out patient')} only"
        for figures in (self.held_out, *self.external):
            if not figures.shows_likelier:
                flagged, bled = figures.flagged
                measured = f"{bled} of {pluralize(flagged, 'flagged slice')} bled"
                return f"{measured} ({figures.name}), which does not prove that most do"
        return ""

    @property
    def sentences(self) -> dict[str, str]:
        """By the name of each set of patients its figures, then one sentence on calibration."""
        all_figures = (self.held_out, *self.external)
        calibration = " ".join(figures.calibration for figures in all_figures)
        return {
            **{figures.name: figures.sentence for figures in all_figures},
            "calibration": calibration,
        }

    def as_dict(self) -> dict[str, Any]:
        """All figures as JSON-ready data; None for what is not defined."""
        tree: dict[str, Any] = _without_nan(asdict(self))
        return tree

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> "Performance":
        """What `as_dict` made."""
        external = tuple(map(Figures.from_dict, tree["external"]))
        return cls(tree["source"], Figures.from_dict(tree["held_out"]), external)


def sentences(performance: Performance | None) -> dict[str, str]:
    """Those of a performance; one that says so where none is recorded."""
    return {HELD_OUT: NOT_RECORDED} if performance is None else performance.sentences


def doubt(performance: Performance | None) -> str:
    """`Performance.doubt`; a model without figures is in doubt."""
    return NOT_RECORDED if performance is None else performance.doubt


def with_card(
    performance: Performance | None, folder: Path, model_sha256: str
) -> Performance | None:
    """`performance` with the figures of the model's card, where one lies beside its `folder`.

    A card's own held-out figures are taken where the manifest has none. A card of another model is
    not read.
    """
    path = folder.absolute().parent / FIGURES
    if not path.is_file():
        return performance
    card = read_json(path)
    if card["model_sha256"] != model_sha256:
        return performance

    own = performance or Performance(
        source=card["source"],
        held_out=_card_figures(HELD_OUT, card["patients"], card["out_of_fold"], card["flag_at"]),
    )
    external = tuple(
        _card_figures(name, None, tables, card["flag_at"])
        for name, tables in card["evaluations"].items()
    )
    return Performance(own.source, own.held_out, external)


def _card_figures(
    name: str, patients: int | None, tables: Mapping[str, Any], threshold: float
) -> Figures:
    """The figures of one part of a card."""
    (auc,) = (
        row
        for row in tables["metrics"]
        if (row["row"], row["metric"], row["label"]) == (_SERVED, "auc", ANY)
    )
    points = {
        row["level"]: OperatingPoint(
            level=row["level"],
            label=ANY,
            n_positive=row["n_positive"],
            n_negative=row["n_negative"],
            sensitivity=_card_interval(row, "sensitivity"),
            specificity=_card_interval(row, "specificity"),
        )
        for row in tables["operating_points"]
        if row["label"] == ANY and row["threshold"] == threshold
    }
    return Figures(name, patients, _interval(auc), threshold, points[SLICES], points.get(SERIES))


def _card_interval(row: Mapping[str, Any], name: str) -> Interval:
    ends = {"value": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"]}
    return _interval(ends)


def _point(tree: Mapping[str, Any]) -> OperatingPoint:
    ends = {name: _interval(tree[name]) for name in ("sensitivity", "specificity")}
    return OperatingPoint(**{**tree, **ends})


def _interval(tree: Mapping[str, Any]) -> Interval:
    """An interval of which undefined numbers are None."""
    ends = (tree[name] for name in ("value", "low", "high"))
    return Interval(*(math.nan if end is None else float(end) for end in ends))


def _share(interval: Interval) -> str:
    """`value (low to high)` with two decimals; a dash where it is not defined."""
    if math.isnan(interval.value):
        return "-"
    if math.isnan(interval.low):
        return f"{interval.value:.2f}"
    return f"{interval.value:.2f} ({interval.low:.2f} to {interval.high:.2f})"


def _without_nan(value: Any) -> Any:
    """JSON-ready data in which a number that is not defined is None; five decimals."""
    if isinstance(value, Mapping):
        return {name: _without_nan(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(part) for part in value]
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 5)
    return value
