"""The sections of the configuration that ask what a stage is worth: controls, and the rows of an ablation."""

import math
from collections import Counter
from dataclasses import dataclass, field

from ich3d.config.validation import require, require_numbers

SHUFFLES = ("never", "test", "training", "with_differences")
STACKERS = ("without", "both", "only")
STACKED = " + stacker"  # the name of a row's second line ends so
CHANGED = ("slices", "context", "stack", "control", "precision")  # rows share data, folds and seed
PREDICTORS = (
    "base rate",
    "position only",
    "label continuity",
    "rolling mean",
    "encoder",
    "context",
)


def file_stem(line: str) -> str:
    """A line's name as a file name without a suffix."""
    return "".join(c if c.isalnum() else "_" for c in line.replace("+", "plus")).lower()


@dataclass(frozen=True)
class ControlConfig:
    """What an ablation does on purpose to learn what a stage is worth; no model is saved from it.

    shuffle: `test` gives the context model a series' slices in random order when it scores them, `training`
        also when it is trained. Scores and their differences move, position and gaps stay. `with_differences`
        shuffles at test before differences are taken, which are then to whatever slice has come to lie next.
    allow_in_sample: train a fold's context model on what the fold's own encoder says of the patients that it
        was fitted on.
    embedding_noise: SD of the noise on embeddings in training, in units of each dimension's own SD.
    nested: train a fold's context model on embeddings by encoders that never saw the fold either, one more
        set of encoders for each fold. Plain cross-fitting leaves that second-order leak open; a stacker still
        does.
    patients: train every stage on at most so many patient groups, as many from each fold.
    force_stacker: keep the stacker of every label that two patients have, whatever the inner folds say.
    """

    shuffle: str = "never"
    allow_in_sample: bool = False
    embedding_noise: float = 0.0
    nested: bool = False
    patients: int | None = None
    force_stacker: bool = False

    def __post_init__(self) -> None:
        require(
            self.shuffle in SHUFFLES,
            "control.shuffle",
            f"one of {', '.join(SHUFFLES)}",
            self.shuffle,
        )
        require_numbers("control", self, embedding_noise=(0, math.inf))
        require(
            self.patients is None or self.patients >= 3,
            "control.patients",
            "at least 3",
            self.patients,
        )


@dataclass(frozen=True)
class AblationRow:
    """One row of an ablation.

    predictor: whose scores the row shows, one of `PREDICTORS`.
    set: what differs from the config, in the form of `--set`.
    against: the row that it is compared with; None takes the ablation's reference.
    stacker: `without`, or a second line with a stacker on the row (`both`), or that line `only`.
    retrain_encoders: train the encoders anew for each seed as well.
    """

    predictor: str = "context"
    set: tuple[str, ...] = ()
    against: str | None = None
    stacker: str = "without"
    retrain_encoders: bool = False

    def __post_init__(self) -> None:
        require(
            self.predictor in PREDICTORS,
            "ablation.rows: predictor",
            f"one of {', '.join(PREDICTORS)}",
            self.predictor,
        )
        require(
            self.stacker in STACKERS,
            "ablation.rows: stacker",
            f"one of {', '.join(STACKERS)}",
            self.stacker,
        )
        takes_stacker = self.predictor in ("encoder", "context")
        rule = f"without on a row of the predictor {self.predictor}"
        require(
            takes_stacker or self.stacker == "without", "ablation.rows: stacker", rule, self.stacker
        )
        for given in self.set:
            section = given.partition("=")[0].partition(".")[0].strip()
            require(section in CHANGED, "ablation.rows: set", f"of {', '.join(CHANGED)}", given)

    def lines(self, name: str) -> list[str]:
        """The lines that the row called `name` is shown as."""
        return {"without": [name], "both": [name, name + STACKED], "only": [name + STACKED]}[
            self.stacker
        ]


@dataclass(frozen=True)
class AblationConfig:
    """Rows over the folds and cached stages of one run.

    seeds: how often each trained row is trained, context and stacker drawn anew.
    reference: the row that others are compared with unless they name another.
    question: the row whose worth over the row that it is compared with is told first.
    rows: by name, in the order shown; empty for the stages of the run as they are.
    """

    seeds: int = 1
    reference: str = "encoder"
    question: str | None = None
    rows: dict[str, AblationRow] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_numbers("ablation", self, seeds=(1, 100))
        names = [line for name, row in self.rows.items() for line in row.lines(name)]
        twice = [name for name, count in Counter(map(file_stem, names)).items() if count > 1]
        require(
            not twice, "ablation.rows", "named so that no two lines share a file", ", ".join(twice)
        )
        for name, row in self.rows.items():
            known = row.against is None or row.against in names
            require(known, f"ablation.rows.{name}.against", "the name of a row", row.against)
        for key, given in (("reference", self.reference), ("question", self.question)):
            known = given is None or given in names or (not names and key == "reference")
            require(known, f"ablation.{key}", "the name of a row", given)
