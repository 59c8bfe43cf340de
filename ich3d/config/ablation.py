"""The sections of the configuration that measure what each model stage contributes.

`ControlConfig` changes training or scoring on purpose; `AblationConfig` lists the rows of an
ablation table, each the run's configuration with a few keys changed.
"""

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from ich3d.config.validation import require, require_numbers, require_one_of

NEVER: Final = "never"
IN_TRAINING: Final = "training"
WITH_DIFFERENCES: Final = "with_differences"
SHUFFLES: Final = (NEVER, "test", IN_TRAINING, WITH_DIFFERENCES)

STACKERS: Final = ("without", "both", "only")

STACKER_PARTS: Final = ("trees", "hu", "neighbours", "series", "position")
"""What `control.stacker_without` may leave out."""

STACKED: Final = " + stacker"
"""Ends the name of a table line that shows a row with a stacker on top."""

CHANGEABLE: Final = ("slices", "context", "stack", "control", "precision", "simulation")
"""Sections that a row may change. All rows share the run's data, folds and seed."""

SMOOTHER: Final = "smoother"
"""The predictor that knows how simulated scores were made."""

PREDICTORS: Final = (
    "base rate",
    "position only",
    "label continuity",
    "rolling mean",
    "encoder",
    "context",
    SMOOTHER,
)


def file_stem(line: str) -> str:
    """The name of a table line as a file name without suffix: letters, digits and underscores."""
    return "".join(c if c.isalnum() else "_" for c in line.replace("+", "plus")).lower()


@dataclass(frozen=True)
class ControlConfig:
    """Deliberate changes that show what a stage is worth. A changed model is never saved for use.

    Attributes:
        shuffle: order of a series' slices for the context model. `never` keeps it. `test` scores
            slices in random order; `training` also trains on it. Logits, and the differences to
            neighbours computed from them, move with the slice; positions and gaps stay.
            `with_differences` shuffles at test before differences are computed.
        allow_in_sample: train a fold's context model on what the fold's own encoder predicts for
            its own training patients.
        embedding_noise: standard deviation of Gaussian noise added to embeddings in training, in
            units of each dimension's standard deviation.
        nested: train a fold's context model on embeddings of encoders that have not seen that
            fold, at the price of another set of encoders for each fold.
        patients: largest number of patient groups that any stage is trained on, drawn evenly from
            the folds; None for all.
        force_stacker: keep the stacker's trees for every label that two patients have, even where
            they do not improve the validation loss.
        cut: context model and stacker score each series as if it were cut, from the lowest slice
            on, into runs of this many slices, each a series of its own; the last run may be
            shorter. Training and the encoder stay as they are. None for whole series.
        stacker_without: what the stacker does without: `trees`, which leaves the blend; `hu`,
            all that HU say; `neighbours`, the scores and HU of slices within reach; `series`, the
            largest and mean values of the series; `position`, where the slice lies. None for
            nothing.
    """

    shuffle: str = "never"
    allow_in_sample: bool = False
    embedding_noise: float = 0.0
    nested: bool = False
    patients: int | None = None
    force_stacker: bool = False
    cut: int | None = None
    stacker_without: str | None = None

    def __post_init__(self) -> None:
        require_one_of(SHUFFLES, "control.shuffle", self.shuffle)
        require_numbers("control", self, embedding_noise=(0, math.inf))
        is_enough = self.patients is None or self.patients >= 3
        require(is_enough, "control.patients", "at least 3", self.patients)
        is_a_run = self.cut is None or self.cut >= 1
        require(is_a_run, "control.cut", "at least 1", self.cut)
        if self.stacker_without is not None:
            require_one_of(STACKER_PARTS, "control.stacker_without", self.stacker_without)


@dataclass(frozen=True)
class AblationRow:
    """One row of an ablation; it is shown as one table line or two.

    Attributes:
        predictor: whose scores the row shows, one of `PREDICTORS`.
        set: what the row changes in the configuration, each as `section.key=value`.
        against: name of the line it is compared with; None for the ablation's reference.
        stacker: `without`; `both` for a second line with a stacker on top; `only` for that line
            alone.
        stacked_against: name of the line that the second line of `both` is compared with; None for
            the row's own first line.
        retrain_encoders: train the encoders, too, once for each seed.
    """

    predictor: str = "context"
    set: tuple[str, ...] = ()
    against: str | None = None
    stacker: str = "without"
    stacked_against: str | None = None
    retrain_encoders: bool = False

    def __post_init__(self) -> None:
        require_one_of(PREDICTORS, "ablation.rows: predictor", self.predictor)
        require_one_of(STACKERS, "ablation.rows: stacker", self.stacker)

        # A stacker needs the scores of a trained model for training patients as well.
        takes_stacker = self.predictor in ("encoder", "context")
        rule = f"without on a row of the predictor {self.predictor}"
        is_allowed = takes_stacker or self.stacker == "without"
        require(is_allowed, "ablation.rows: stacker", rule, self.stacker)
        has_second_line = self.stacked_against is None or self.stacker == "both"
        rule = "unset on a row whose stacker is not both"
        require(has_second_line, "ablation.rows: stacked_against", rule, self.stacked_against)

        for override in self.set:
            section = override.partition("=")[0].partition(".")[0].strip()
            rule = f"of {', '.join(CHANGEABLE)}"
            require(section in CHANGEABLE, "ablation.rows: set", rule, override)

    def lines(self, name: str) -> list[str]:
        """Names of the table lines that show this row, which is called `name`."""
        without, with_stacker = name, name + STACKED
        if self.stacker == "without":
            return [without]
        return [with_stacker] if self.stacker == "only" else [without, with_stacker]


@dataclass(frozen=True)
class AblationConfig:
    """A table of rows that are trained and scored on the data and folds of one run.

    Attributes:
        title: the question that the ablation asks, as its page's title; None for no question.
        seeds: how many times each row is trained, with other random numbers each time; its
            metrics are averaged.
        reference: name of the line that others are compared with unless they name another.
        question: name of the line whose comparison is the headline of the page; None for no
            headline.
        rows: the rows by name, in the order shown; empty for the run's own stages.
    """

    title: str | None = None
    seeds: int = 1
    reference: str = "encoder"
    question: str | None = None
    rows: dict[str, AblationRow] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_numbers("ablation", self, seeds=(1, 100))
        lines = [line for name, row in self.rows.items() for line in row.lines(name)]
        self._check_file_names(lines)
        self._check_references(lines)

    def _check_file_names(self, lines: list[str]) -> None:
        """Each line's scores have a file of their own."""
        counts = Counter(file_stem(line) for line in lines)
        repeated = [stem for stem, count in counts.items() if count > 1]
        rule = "named so that no two lines share a file"
        require(not repeated, "ablation.rows", rule, ", ".join(repeated))

    def _check_references(self, lines: list[str]) -> None:
        """Every line that another key names exists."""
        for name, row in self.rows.items():
            for key, line in (("against", row.against), ("stacked_against", row.stacked_against)):
                is_known = line is None or line in lines
                require(is_known, f"ablation.rows.{name}.{key}", "the name of a row", line)

        # Without rows the run's stages are shown, and `reference` keeps its default.
        is_known = self.reference in lines or not lines
        require(is_known, "ablation.reference", "the name of a row", self.reference)
        is_known = self.question is None or self.question in lines
        require(is_known, "ablation.question", "the name of a row", self.question)
