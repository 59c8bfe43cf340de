"""TODO."""

from dataclasses import dataclass, field

from ich3d.config.ablation import AblationConfig, ControlConfig
from ich3d.config.schema import (
    ContextConfig,
    PhantomConfig,
    PrepareConfig,
    ReportConfig,
    SlicesConfig,
    SourceConfig,
    StackConfig,
)
from ich3d.config.validation import require
from ich3d.core.seeds import derive

PRECISIONS = ("auto", "fp32")


@dataclass(frozen=True)
class Config:
    """Everything a run depends on.

    workspace: the run's folder.
    seed: the root of every random stream.
    replicate: draws context models and stackers anew over the same encoders; with another seed all is new.
    precision: `auto` computes in bf16 where the device does so natively, `fp32` never.
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

    def __post_init__(self) -> None:
        require(
            self.precision in PRECISIONS,
            "precision",
            f"one of {', '.join(PRECISIONS)}",
            self.precision,
        )
        is_mixed, rule = self.control.shuffle != "never", "unset with control.shuffle"
        require(
            self.context.reads_whole_series or not is_mixed,
            "context.window",
            rule,
            self.context.window,
        )
        least, patients = self.prepare.folds - 1, self.control.patients
        rule = f"at least {least}, one of each of the other folds"
        require(patients is None or patients >= least, "control.patients", rule, patients)

    @property
    def context_seed(self) -> int:
        """The seed of context models and stackers."""
        return derive(self.seed, "replicate", self.replicate) if self.replicate else self.seed
