"""The index of study pages: one row a study, the most probable bleeding first."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd

from ich3d.core.labels import FLAG_AT, SUBTYPES
from ich3d.core.workspace import replacing
from ich3d.dicom.origin import SeriesOrigin
from ich3d.model.folder import Model
from ich3d.model.performance import doubt
from ich3d.prepare.store import plain_name
from ich3d.report.page_template import template

INDEX: Final = "index.html"

DOUBT: Final = "A probability of {flag_at} need not mean that bleeding is likelier than not: {why}."
"""What the pages say of a model whose figures do not exclude it."""


@dataclass(frozen=True)
class StudyRow:
    """What the index shows of one study, by the series that speaks for it.

    `page` is the file of its page, `name` its StudyInstanceUID or the volume_id of its only series,
    `n_series` and `n_slices` count what was scored.
    """

    page: str
    name: str
    prob_any: float
    subtype: str
    prob_subtype: float
    description: str
    n_series: int
    n_slices: int
    folder: str
    notes: str

    @classmethod
    def of(cls, series: pd.DataFrame) -> "StudyRow":
        """The row of one study, from its rows of `series.csv`."""
        leading = series[series["leads_study"] != ""].iloc[0]
        name = leading["study_uid"] or leading["volume_id"]
        subtype = max(SUBTYPES, key=lambda label: float(leading[f"prob_{label}"]))
        origin = SeriesOrigin(**{name: leading[name] for name in SeriesOrigin.__dataclass_fields__})
        trained_on = "the model was trained on this patient" if leading["trained_on"] else ""
        codes = leading["codes"].replace("|", ", ").replace("_", " ")
        return cls(
            page=f"{plain_name(name)}.html",
            name=name,
            prob_any=float(leading["prob_any"]),
            subtype=subtype,
            prob_subtype=float(leading[f"prob_{subtype}"]),
            description=origin.sentence,
            n_series=len(series),
            n_slices=int(series["n_slices"].sum()),
            folder=leading["folder"],
            notes="; ".join(filter(None, (trained_on, codes))),
        )


def write_index(model: Model, series: pd.DataFrame, folder: Path) -> None:
    """Write `folder`/index.html where there are several studies; none is left where there is one.

    Args:
        model: the model that scored the studies.
        series: the table of `series.csv`.
        folder: the folder of the studies' pages.
    """
    path = folder / INDEX
    study = series["study_uid"].where(series["study_uid"] != "", series["volume_id"])
    studies = [StudyRow.of(rows) for _, rows in series.groupby(study, sort=False)]
    if len(studies) < 2:
        path.unlink(missing_ok=True)
        return
    html = template("study_index.html.j2").render(_content(model, studies))
    with replacing(path) as partial:
        partial.write_text(html, encoding="utf-8")


def _content(model: Model, studies: list[StudyRow]) -> dict[str, Any]:
    """The variables of `study_index.html.j2`."""
    return {
        "studies": sorted(studies, key=lambda study: (-study.prob_any, study.name)),
        "flagged": sum(study.prob_any >= FLAG_AT for study in studies),
        "flag_at": FLAG_AT,
        "doubt": doubt_sentence(model),
    }


def doubt_sentence(model: Model) -> str:
    """Why a flagged slice may bleed less often than not, in one sentence; empty where excluded."""
    why = doubt(model.performance)
    return DOUBT.format(flag_at=FLAG_AT, why=why) if why else ""
