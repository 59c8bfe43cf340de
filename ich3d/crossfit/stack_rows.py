"""The rows that a stacker is trained on: whole series, and the same slices in series that are cut.

Serving meets single slices, and series that end mid-head. A stacker that was trained on whole
series alone takes a missing neighbour for a sign.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from ich3d.core.metrics import sigmoid
from ich3d.core.types import SliceEmbeddings, SliceScores
from ich3d.model.fold_model import stacker_prob
from ich3d.prepare.store import Store
from ich3d.stack.booster import StackRows
from ich3d.stack.features import feature_names, feature_values

LONGEST_RUN: Final = 12
"""Most slices of a cut series; a whole head has about thirty."""

ScoreRun = Callable[[str, slice], np.ndarray]
"""Held-out probabilities (Z, K) of the stage before for a run of slices of a series, read as a
series of its own.
"""


@dataclass(frozen=True)
class ScoredPart:
    """A series, or a run of its slices as a series of its own, with scores of the stage before.

    Attributes:
        embedded: the encoder's output.
        stage: the stage before, `context` or `encoder`.
        prob: its probabilities (Z, K).
        z_mm: positions (Z,).
    """

    embedded: SliceEmbeddings
    stage: str
    prob: np.ndarray
    z_mm: np.ndarray

    @property
    def stage_prob(self) -> dict[str, np.ndarray]:
        """The probabilities (Z, K) that the stacker reads, by stage."""
        if self.stage == "encoder":
            return {"encoder": sigmoid(self.embedded.logits)}
        return stacker_prob(self.embedded, self.prob)


def build_stack_rows(
    store: Store,
    names: Sequence[str],
    embedded: Mapping[str, SliceEmbeddings],
    before: Mapping[str, SliceScores],
    reach_mm: float,
    score_run: ScoreRun | None,
    rng: np.random.Generator,
) -> StackRows:
    """The rows of some series: each slice in its whole series and, with `score_run`, in a cut one.

    Args:
        store: the prepared store, for positions, labels, groups and folds.
        names: the volume_ids of the series.
        embedded: held-out embeddings by volume_id.
        before: held-out scores of the stage before, of whole series.
        reach_mm: how far features read neighbours on each side.
        score_run: scores of the stage before for a part of a series; None for whole series alone.
        rng: where series are cut.
    """
    parts: list[ScoredPart] = []
    targets, groups, folds = [], [], []
    for name in names:
        stage, z_mm, target = before[name].stage, store.z_mm(name), store.targets(name)
        runs = [(slice(None), before[name].prob)]
        if score_run is not None:
            runs += [(run, score_run(name, run)) for run in random_runs(len(z_mm), rng)]
        for run, prob in runs:
            parts.append(ScoredPart(embedded[name].part(run), stage, prob, z_mm[run]))
            targets.append(target[run])
        n_rows = sum(len(prob) for _, prob in runs)
        groups += [store.groups[name]] * n_rows
        folds += [store.folds[name]] * n_rows
    return StackRows(
        features=stack_features(parts, reach_mm),
        start_prob=np.concatenate([part.prob for part in parts]),
        target=np.concatenate(targets),
        group=np.array(groups),
        fold=np.array(folds),
    )


def stack_features(parts: Sequence[ScoredPart], reach_mm: float) -> pd.DataFrame:
    """What a stacker reads of some series, or of runs of their slices, one row a slice.

    Each row is written where it stays, so that there is no second copy of it.

    Args:
        parts: at least one, all scored by one stage.
        reach_mm: how far features read neighbours on each side.
    """
    names = feature_names(tuple(parts[0].stage_prob), reach_mm, has_hu=True)
    ends = np.cumsum([len(part.prob) for part in parts])
    values = np.empty((ends[-1], len(names)), dtype=np.float32)
    for part, end in zip(parts, ends, strict=True):
        values[end - len(part.prob) : end] = feature_values(
            part.stage_prob, part.z_mm, reach_mm, part.embedded.hu_features
        )
    return pd.DataFrame(values, columns=names, copy=False)


def random_runs(n_slices: int, rng: np.random.Generator) -> Iterator[slice]:
    """Runs of 1 to `LONGEST_RUN` slices, one after the other, that together are the series."""
    start = 0
    while start < n_slices:
        stop = min(n_slices, start + int(rng.integers(1, LONGEST_RUN + 1)))
        yield slice(start, stop)
        start = stop


def cut_runs(n_slices: int, length: int | None) -> list[slice]:
    """Runs of `length` slices, one after the other, that together are the series; the last may be
    shorter. One run of all slices where `length` is None.
    """
    step = n_slices if length is None else length
    return [slice(start, min(start + step, n_slices)) for start in range(0, n_slices, step)]
