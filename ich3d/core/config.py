"""The configuration: one frozen dataclass a section, YAML files over it, and `a.b=c` overrides.

A file may name a `base`, or several that are laid over each other, and hold only what differs. Unknown keys
fail with a suggestion; values are checked at birth. `${oc.env:NAME}` is the one way an environment variable
gets in.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ich3d.core.ablation import AblationConfig, AblationRow, ControlConfig
from ich3d.core.errors import ConfigError
from ich3d.core.sections import (
    ENCODERS,
    ContextConfig,
    PhantomConfig,
    PrepareConfig,
    ReportConfig,
    SlicesConfig,
    SourceConfig,
    StackConfig,
    require,
)
from ich3d.core.seeds import derive

__all__ = [
    "ENCODERS",
    "AblationConfig",
    "AblationRow",
    "Config",
    "ContextConfig",
    "ControlConfig",
    "PhantomConfig",
    "PrepareConfig",
    "ReportConfig",
    "SlicesConfig",
    "SourceConfig",
    "StackConfig",
    "as_dict",
    "from_dict",
    "load_config",
    "with_overrides",
]
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
        require(self.precision in PRECISIONS, "precision", f"one of {', '.join(PRECISIONS)}", self.precision)
        is_mixed, rule = self.control.shuffle != "never", "unset with control.shuffle"
        require(self.context.reads_whole_series or not is_mixed, "context.window", rule, self.context.window)
        least, patients = self.prepare.folds - 1, self.control.patients
        rule = f"at least {least}, one of each of the other folds"
        require(patients is None or patients >= least, "control.patients", rule, patients)

    @property
    def late_seed(self) -> int:
        """The seed of context models and stackers."""
        return derive(self.seed, "replicate", self.replicate) if self.replicate else self.seed


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """The config in `path`, over its bases, under `overrides` (each `section.key=value`).

    Raises ConfigError with one sentence for a missing file, an unknown key or a value that is not allowed.
    """
    return _merge([*_with_bases(path), _overrides(overrides)], str(path))


def with_overrides(config: Config, overrides: Sequence[str], origin: str) -> Config:
    """`config` under `overrides`, as `load_config` takes them; `origin` names who gave them in errors."""
    from omegaconf import OmegaConf

    return _merge([OmegaConf.create(as_dict(config)), _overrides(overrides)], origin)


def as_dict(section: Any) -> dict[str, Any]:
    """A config or section as plain JSON-ready data."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(section)))
    return plain


def from_dict(tree: dict[str, Any], origin: str) -> Config:
    """The config that `as_dict` wrote; `origin` names the file in errors."""
    from omegaconf import OmegaConf

    return _merge([OmegaConf.create(tree)], origin)


def _merge(layers: Sequence[Any], origin: str) -> Config:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), *layers))
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from None
    except OmegaConfBaseException as error:
        key = f" ({error.full_key})" if error.full_key else ""
        raise ConfigError(f"{origin}: {_first_line(error)}{key}") from None
    assert isinstance(config, Config)
    return config


def _overrides(items: Sequence[str]) -> Any:
    import yaml
    from omegaconf import OmegaConf

    for item in items:
        if "=" not in item:
            raise ConfigError(f"an override reads section.key=value, got {item!r}")
    try:
        return OmegaConf.from_dotlist(list(items))
    except yaml.YAMLError as error:
        raise ConfigError(f"an override is no YAML: {_first_line(error)}") from None


def _with_bases(path: Path, above: tuple[Path, ...] = ()) -> list[Any]:
    """The file's own layer after those of its bases, farthest base first. `above` are the files that
    led here."""
    import yaml
    from omegaconf import DictConfig, OmegaConf

    if path.resolve() in above:
        raise ConfigError(f"{path} is its own base")
    if not path.is_file():
        raise ConfigError(f"there is no config file {path}")
    try:
        own = OmegaConf.load(path)
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no YAML: {_first_line(error)}") from None
    if not isinstance(own, DictConfig):
        raise ConfigError(f"{path} holds no keys")
    base = own.pop("base", [])
    bases = [base] if isinstance(base, str) else base
    if not isinstance(bases, Sequence) or not all(isinstance(name, str) for name in bases):
        raise ConfigError(f"{path}: base must be a file name or several, got {base!r}")
    here = (*above, path.resolve())
    return [*(layer for name in bases for layer in _with_bases(path.parent / name, here)), own]


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]
