"""The whole configuration of a run, and the rules that concern several of its sections."""

from dataclasses import dataclass, field
from typing import Final

from ich3d.config.ablation import SMOOTHER, AblationConfig, ControlConfig
from ich3d.config.schema import (
    SEQUENCES,
    ContextConfig,
    PhantomConfig,
    PrepareConfig,
    ReportConfig,
    SlicesConfig,
    SourceConfig,
    StackConfig,
)
from ich3d.config.simulation import SimulationConfig
from ich3d.config.validation import require, require_one_of
from ich3d.core.seeds import derive

PRECISIONS: Final = ("auto", "fp32")


@dataclass(frozen=True)
class Config:
    """Everything that the result of a run depends on.

    Attributes:
        workspace: folder of the run.
        seed: root of every random stream: folds, weights, order of training.
        replicate: number of a repetition. Another number draws new context models and stackers
            over the same folds and encoders; another `seed` draws everything anew.
        precision: `auto` computes in bfloat16 where the device does so natively, else in float32;
            `fp32` always computes in float32.
        source: where studies and labels come from.
        phantom: the synthetic studies, where they are the source.
        prepare: image grid and folds.
        slices: the slice encoder.
        context: the context model.
        stack: the stacker.
        report: the report.
        control: deliberate changes that an ablation makes.
        ablation: the rows of an ablation.
        simulation: the simulated encoder, where the source is one of label sequences.

    Raises:
        ConfigError: a value is not allowed, or two sections contradict each other.
    """

    workspace: str = "runs/demo"
    seed: int = 0
    replicate: int = 0
    precision: str = "auto"
    source: SourceConfig = field(default_factory=SourceConfig)
    phantom: PhantomConfig = field(default_factory=PhantomConfig)
    prepare: PrepareConfig = field(default_factory=PrepareConfig)
    slices: SlicesConfig = field(default_factory=SlicesConfig)
    context: ContextConfig = field(default_factory=ContextConfig)
    stack: StackConfig = field(default_factory=StackConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    control: ControlConfig = field(default_factory=ControlConfig)
    ablation: AblationConfig = field(default_factory=AblationConfig)
    simulation: SimulationConfig = field(default_factory=SimulationConfig)

    def __post_init__(self) -> None:
        require_one_of(PRECISIONS, "precision", self.precision)
        self._require_whole_series_if_shuffled()
        self._require_patients_in_each_fold()
        self._require_frozen_parts_end_to_end()
        self._require_sequences_if_smoothed()

    @property
    def context_seed(self) -> int:
        """Root of the random streams of context models and stackers: `seed` for replicate 0."""
        return derive(self.seed, "replicate", self.replicate) if self.replicate else self.seed

    def _require_whole_series_if_shuffled(self) -> None:
        """A window selects neighbours by distance, which shuffled slices do not have."""
        is_shuffled = self.control.shuffle != "never"
        require(
            self.context.reads_whole_series or not is_shuffled,
            "context.window",
            "unset with control.shuffle",
            self.context.window,
        )

    def _require_patients_in_each_fold(self) -> None:
        """Training for one fold draws `control.patients` groups from all the other folds."""
        other_folds = self.prepare.folds - 1
        patients = self.control.patients
        require(
            patients is None or patients >= other_folds,
            "control.patients",
            f"at least {other_folds}, one from each of the other folds",
            patients,
        )

    def _require_frozen_parts_end_to_end(self) -> None:
        """Whole series go through the part of the network that is trained; no control applies."""
        is_allowed = self.slices.frozen_parts > 0 and self.control == ControlConfig()
        rule = "false unless slices.frozen_parts is set and no control is"
        allowed = not self.context.end_to_end or is_allowed
        require(allowed, "context.end_to_end", rule, self.context.end_to_end)

    def _require_sequences_if_smoothed(self) -> None:
        """The best answer is known of simulated scores alone."""
        rows = self.ablation.rows.values()
        is_known = self.source.kind == SEQUENCES or all(row.predictor != SMOOTHER for row in rows)
        rule = f"another one than {SMOOTHER} unless source.kind is {SEQUENCES}"
        require(is_known, "ablation.rows: predictor", rule, SMOOTHER)
