"""Read a configuration: YAML files, their bases, and overrides such as `slices.epochs=20`.

A file holds only what differs from the defaults, or from the files that it names under `base`
(one, or several of which the later wins). An unknown key is an error that suggests the nearest
known one. `${oc.env:NAME}` inserts an environment variable; nothing else is evaluated.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ich3d.config.renamed import renamed_keys, with_new_names
from ich3d.config.root import Config
from ich3d.core.arguments import as_path
from ich3d.core.errors import ConfigError


def load_config(path: Path | str, overrides: Sequence[str] = ()) -> Config:
    """The configuration in the YAML file `path`.

    Args:
        path: the file; its bases are read first, and the file's own keys win over theirs.
        overrides: texts of the form `section.key=value`, which win over all files.

    Raises:
        ConfigError: a file is missing, a key is unknown, or a value is not allowed.
        DataError: `path` is no path.
    """
    path = as_path("path", path)
    return _merge([*_file_and_bases(path), _parse_overrides(overrides)], str(path))


def with_overrides(config: Config, overrides: Sequence[str], origin: str) -> Config:
    """A copy of `config` with some values replaced.

    Args:
        config: the configuration to start from.
        overrides: texts of the form `section.key=value`.
        origin: where the overrides come from, for error messages.

    Raises:
        ConfigError: a key is unknown, or a value is not allowed.
    """
    from omegaconf import OmegaConf

    return _merge([OmegaConf.create(as_dict(config)), _parse_overrides(overrides)], origin)


def as_dict(section: Any) -> dict[str, Any]:
    """A `Config`, or one of its sections, as a tree that JSON can hold; tuples become lists."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(section)))
    return plain


def from_dict(tree: dict[str, Any], origin: str) -> Config:
    """The configuration that `as_dict` wrote, also with key names of version 0.1.

    Args:
        tree: what was read from JSON.
        origin: the file it was read from, for error messages.

    Raises:
        ConfigError: a key is unknown, or a value is not allowed.
    """
    from omegaconf import OmegaConf

    return _merge([OmegaConf.create(with_new_names(tree))], origin)


def _merge(layers: Sequence[Any], origin: str) -> Config:
    """The defaults under `layers` (OmegaConf containers), of which the later wins."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    for layer in layers:
        tree: Any = OmegaConf.to_container(layer, resolve=False)
        for old, new in renamed_keys(tree).items():
            raise ConfigError(f"{origin}: {old} is now {new}")

    try:
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), *layers))
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from None
    except OmegaConfBaseException as error:
        key = f" ({error.full_key})" if error.full_key else ""
        raise ConfigError(f"{origin}: {_first_line(error)}{key}") from None
    except TypeError as error:  # OmegaConf raises it for a list in place of a section
        raise ConfigError(f"{origin} holds a list where keys are expected: {error}") from None
    assert isinstance(config, Config)
    return config


def _parse_overrides(overrides: Sequence[str]) -> Any:
    """Overrides of the form `section.key=value` as one OmegaConf layer."""
    import yaml
    from omegaconf import OmegaConf

    for override in overrides:
        if "=" not in override:
            raise ConfigError(f"an override has the form section.key=value, got {override!r}")
    try:
        return OmegaConf.from_dotlist(list(overrides))
    except yaml.YAMLError as error:
        raise ConfigError(f"an override is not valid YAML: {_first_line(error)}") from None


def _file_and_bases(path: Path, descendants: tuple[Path, ...] = ()) -> list[Any]:
    """The layers of a file's bases and then its own, so that the later wins.

    `descendants` are the files that have this one as a base, directly or through others; a file
    among them means a circle.
    """
    if path.resolve() in descendants:
        raise ConfigError(f"{path} is its own base")
    layer = _read_yaml(path)

    base = layer.pop("base", [])
    names = [base] if isinstance(base, str) else base
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{path}: base must be a file name or a list of file names, got {base!r}")

    layers = []
    for name in names:
        layers += _file_and_bases(path.parent / name, (*descendants, path.resolve()))
    return [*layers, layer]


def _read_yaml(path: Path) -> Any:
    """The keys of one YAML file as an OmegaConf layer."""
    import yaml
    from omegaconf import DictConfig, OmegaConf

    if not path.is_file():
        raise ConfigError(f"there is no config file {path}")
    try:
        layer = OmegaConf.load(path)
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {_first_line(error)}") from None
    if not isinstance(layer, DictConfig):
        raise ConfigError(f"{path} must hold keys and values")
    return layer


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]
