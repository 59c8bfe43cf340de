"""The configuration: one frozen dataclass a section, YAML files over it, and `a.b=c` overrides.

A file may name a `base`, or several that are laid over each other, and hold only what differs. Unknown keys
fail with a suggestion; values are checked at birth. `${oc.env:NAME}` is the one way an environment variable
gets in.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ich3d.config.ablation import AblationConfig, AblationRow, ControlConfig
from ich3d.config.renamed import renamed_keys, with_new_names
from ich3d.config.root import Config
from ich3d.config.schema import (
    ENCODERS,
    ContextConfig,
    PhantomConfig,
    PrepareConfig,
    ReportConfig,
    SlicesConfig,
    SourceConfig,
    StackConfig,
)
from ich3d.core.errors import ConfigError

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

    return _merge([OmegaConf.create(with_new_names(tree))], origin)


def _merge(layers: Sequence[Any], origin: str) -> Config:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    for layer in layers:
        given: Any = OmegaConf.to_container(layer, resolve=False)
        for old, new in renamed_keys(given).items():
            raise ConfigError(f"{origin}: {old} is now {new}")

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
