"""The journal of a prediction: the results of its finished series, one JSON line a series.

A resumed run reads from it what need not be scored again. All tables are written from these
results, so they have the same bytes however often a run was interrupted. File paths and patient
names are not part of a scored series' line.
"""

import json
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ich3d.core.issues import IssueCode
from ich3d.core.types import Rejected
from ich3d.core.workspace import replacing
from ich3d.inference.scoring import SeriesPrediction, UnscoredSlice
from ich3d.prepare.hu_features import BRAIN_CM2


@dataclass(frozen=True)
class ScoredSeries:
    """What the tables hold of one scored series. Slices run inferior to superior.

    Attributes:
        study_uid: StudyInstanceUID.
        series_uid: SeriesInstanceUID.
        volume_id: names the volume.
        patient_id: pseudonym of the patient.
        sop_uids: SOPInstanceUID of each slice (Z,).
        frames: frame of each slice (Z,), None in single-frame files.
        z_mm: slice positions in mm, float64 (Z,).
        codes: codes of the series' issues, as in the column `codes`.
        out_of_range: names of the acquisition's values outside the training set's range.
        brain_cm2: area inside the skull of each slice, float64 (Z,).
        prob: probabilities float64 (Z, K) by stage.
        agreement: how far the folds agree on `any` (Z,), NaN where that is not told.
        unscored: slices that were dropped from the series.
        refused: by the name of a further output, why the series is not in it.
        is_known_patient: whether the model was trained on the patient.
    """

    study_uid: str
    series_uid: str
    volume_id: str
    patient_id: str
    sop_uids: tuple[str, ...]
    frames: tuple[int | None, ...]
    z_mm: np.ndarray
    codes: tuple[IssueCode, ...]
    out_of_range: tuple[str, ...]
    brain_cm2: np.ndarray
    prob: dict[str, np.ndarray]
    agreement: np.ndarray
    unscored: tuple[UnscoredSlice, ...] = ()
    refused: dict[str, Rejected] = field(default_factory=dict)
    is_known_patient: bool = False

    @classmethod
    def of(
        cls, prediction: SeriesPrediction, refused: dict[str, Rejected] | None = None
    ) -> "ScoredSeries":
        """The results of `prediction`, without its pixels and file names."""
        series = prediction.series
        return cls(
            study_uid=series.study_uid,
            series_uid=series.series_uid,
            volume_id=series.volume_id,
            patient_id=series.patient_id,
            sop_uids=tuple(key.sop_uid for key in series.keys),
            frames=tuple(key.frame for key in series.keys),
            z_mm=series.z_mm,
            codes=tuple(issue.code for issue in series.issues),
            out_of_range=prediction.out_of_range,
            brain_cm2=series.hu_features[:, BRAIN_CM2].astype(np.float64),
            prob={stage: prob.astype(np.float64) for stage, prob in prediction.prob.items()},
            agreement=prediction.agreement.astype(np.float64),
            unscored=prediction.unscored,
            refused=refused or {},
            is_known_patient=prediction.is_known_patient,
        )

    def __len__(self) -> int:
        return len(self.sop_uids)


class Journal:
    """The finished series of an output folder, by a key that stands for everything they depend on.

    Results of scored series stay in the file until they are asked for: the file is there to resume
    a run (see the module), and while a run scores, it needs no earlier scores. Rejections are few
    and short, so they are kept in memory.

    Attributes:
        rejected: the rejected series by key.
    """

    def __init__(self, path: Path) -> None:
        """An empty journal that will be written to `path`. `resume` opens one that is there."""
        self._path = path
        self._offsets: dict[str, int] = {}
        self.rejected: dict[str, Rejected] = {}

    @classmethod
    def resume(cls, path: Path, keys: Collection[str]) -> "Journal":
        """The journal at `path` as far as it is of use; the file is created if there is none.

        Lines whose key is not in `keys` are deleted from the file, and so are a second line of a
        key and a last line that an interrupted process left incomplete.
        """
        journal = cls(path)
        with replacing(path) as partial, partial.open("wb") as file:
            for tree, line in _read_lines(path):
                key = tree["key"]
                if key not in keys or journal.is_finished(key):
                    continue
                if "rejected" in tree:
                    journal.rejected[key] = _rejected_from_json(tree["rejected"])
                else:
                    journal._offsets[key] = file.tell()
                file.write(line)
        return journal

    def is_scored(self, key: str) -> bool:
        """Whether the series is scored, so that `read` has its results."""
        return key in self._offsets

    def is_finished(self, key: str) -> bool:
        """Whether the series is scored or rejected."""
        return self.is_scored(key) or key in self.rejected

    def add(self, key: str, result: ScoredSeries | Rejected) -> None:
        """Append the result of one series to the file."""
        if isinstance(result, Rejected):
            self._append(_line({"key": key, "rejected": asdict(result)}))
            self.rejected[key] = result
        else:
            self._offsets[key] = self._append(_line({"key": key, "scored": _to_json(result)}))

    def _append(self, line: bytes) -> int:
        """Append a line, whole or not at all; returns where it begins."""
        with self._path.open("ab", buffering=0) as file:
            offset = file.tell()
            try:
                written = file.write(line)
                while written < len(line):  # the disk is all but full
                    written += file.write(line[written:])
            except OSError as error:
                file.truncate(offset)
                raise OSError(error.errno, error.strerror, str(self._path)) from None
        return offset

    def read(self, key: str) -> ScoredSeries:
        """The results of a scored series, from the file. KeyError where it is not scored."""
        with self._path.open("rb") as file:
            file.seek(self._offsets[key])
            return _from_json(json.loads(file.readline())["scored"])


def _line(tree: dict[str, Any]) -> bytes:
    return json.dumps(tree).encode() + b"\n"


def _read_lines(path: Path) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Each line of the file as a tree and as bytes, up to the first that is incomplete."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                tree = json.loads(line)
                tree["key"]
            except (ValueError, KeyError, TypeError):  # the process was killed while it wrote this
                return
            yield tree, line


def _to_json(series: ScoredSeries) -> dict[str, Any]:
    """`series` as plain data; its keys are the names of the attributes."""
    return {
        **vars(series),
        "z_mm": series.z_mm.tolist(),
        "brain_cm2": series.brain_cm2.tolist(),
        "agreement": series.agreement.tolist(),
        "prob": {stage: prob.tolist() for stage, prob in series.prob.items()},
        "unscored": [asdict(dropped) for dropped in series.unscored],
        "refused": {name: asdict(rejected) for name, rejected in series.refused.items()},
    }


def _from_json(tree: dict[str, Any]) -> ScoredSeries:
    """The series of which `_to_json` made a tree."""
    return ScoredSeries(
        study_uid=tree["study_uid"],
        series_uid=tree["series_uid"],
        volume_id=tree["volume_id"],
        patient_id=tree["patient_id"],
        sop_uids=tuple(tree["sop_uids"]),
        frames=tuple(tree["frames"]),
        z_mm=np.array(tree["z_mm"], dtype=np.float64),
        brain_cm2=np.array(tree["brain_cm2"], dtype=np.float64),
        agreement=np.array(tree["agreement"], dtype=np.float64),
        codes=tuple(map(IssueCode, tree["codes"])),
        out_of_range=tuple(tree["out_of_range"]),
        prob={stage: np.array(prob, dtype=np.float64) for stage, prob in tree["prob"].items()},
        unscored=tuple(
            UnscoredSlice(**{**dropped, "code": IssueCode(dropped["code"])})
            for dropped in tree["unscored"]
        ),
        is_known_patient=tree["is_known_patient"],
        refused={name: _rejected_from_json(rejected) for name, rejected in tree["refused"].items()},
    )


def _rejected_from_json(tree: dict[str, Any]) -> Rejected:
    return Rejected(
        subject=tree["subject"],
        code=IssueCode(tree["code"]),
        detail=tree["detail"],
        paths=tuple(tree["paths"]),
        sop_uids=tuple(tree["sop_uids"]),
    )
