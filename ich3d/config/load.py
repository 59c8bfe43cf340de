"""Read a configuration: YAML files, their bases, and overrides such as `slices.epochs=20`.

A file holds only what differs from the defaults, or from the files that it names under `base`
(one, or several of which the later wins). An unknown key is an error that suggests the nearest
known one. `${oc.env:NAME}` inserts an environment variable; nothing else is evaluated.
"""

import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from ich3d.config.reference import keys
from ich3d.config.renamed import renamed_keys, with_new_names
from ich3d.config.root import Config
from ich3d.core.errors import ConfigError, suggestion
from ich3d.core.path_arguments import as_path
from ich3d.core.path_kinds import require_config

_ROWS: Final = "ablation.rows"


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
    files = _file_and_bases(path)
    layers = [*(layer for _, layer in files), _parse_overrides(overrides)]
    try:
        return _merge(layers)
    except _KeyError as error:
        where = _where(error.key, [file for file, _ in files], overrides) or str(path)
        raise ConfigError(f"{where}: {error}") from None


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

    return _merged([OmegaConf.create(as_dict(config)), _parse_overrides(overrides)], origin)


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

    return _merged([OmegaConf.create(with_new_names(tree))], origin)


class _KeyError(Exception):
    """One key of a configuration is wrong: a sentence without the file, and the key."""

    def __init__(self, problem: str, key: str) -> None:
        super().__init__(problem)
        self.key = key


def _merged(layers: Sequence[Any], origin: str) -> Config:
    """As `_merge`, for layers of one `origin`. ConfigError where a key is wrong."""
    try:
        return _merge(layers)
    except _KeyError as error:
        raise ConfigError(f"{origin}: {error}") from None


def _merge(layers: Sequence[Any]) -> Config:
    """The defaults under `layers` (OmegaConf containers), of which the later wins.

    Raises:
        _KeyError: a key is unknown, or its value is not allowed.
        ConfigError: another error.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

    for layer in layers:
        tree: Any = OmegaConf.to_container(layer, resolve=False)
        for old, new in renamed_keys(tree).items():
            raise _KeyError(f"{old} is now {new}", old)
        for name in [name for name, value in tree.items() if not isinstance(value, dict)]:
            _require_no_section(name)
        _require_forms(tree)

    try:
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), *layers))
    except ConfigError as error:
        raise _KeyError(
            str(error), str(error).split()[0].rstrip(":")
        ) from None  # it begins with the key
    except ConfigKeyError as error:
        unknown = error.full_key or ""
        raise _KeyError(f"there is no key {unknown}{_nearest_key(unknown)}", unknown) from None
    except OmegaConfBaseException as error:
        key = error.full_key or ""
        variable = re.search(r"Environment variable '(\w+)' not found", str(error))
        if variable:
            problem = f"{key} needs the environment variable {variable[1]}, which is not set"
            raise _KeyError(problem, key) from None
        raise _KeyError(f"{key}: {_first_line(error)}".removeprefix(": "), key) from None
    assert isinstance(config, Config)
    return config


def _require_no_section(name: str) -> None:
    """_KeyError where `name`, which was given a value, is a section."""
    first_key = next((key.name for key in keys() if key.name.startswith(f"{name}.")), None)
    if first_key is not None:
        raise _KeyError(
            f"{name} is a section with keys such as {first_key}, not a value; "
            f"`ich3d config {name}` lists them",
            name,
        )


def _require_forms(tree: Mapping[str, Any], section: str = "", shown: str = "") -> None:
    """_KeyError where a list, keys or a single value stand in place of another of these.

    Args:
        tree: what was given for a section, or for all of them.
        section: how the names of its keys begin in the list of keys.
        shown: how they begin in the configuration, where a row of an ablation has its own name.
    """
    for name, value in tree.items():
        key, default = f"{shown}{name}", _defaults().get(f"{section}{name}")
        if _is_inserted(value):
            continue
        if default is None:  # a section, or unknown
            if isinstance(value, dict):
                _require_forms(value, f"{section}{name}.", f"{key}.")
        elif default.startswith("["):
            _require_list(key, value, default)
        elif default.startswith("{"):
            _require_names(key, value)
        else:
            _require_single(key, value)


@cache
def _defaults() -> dict[str, str]:
    return {key.name: key.default for key in keys()}


def _is_inserted(value: Any) -> bool:
    """Whether a value names an environment variable or another key, whose value is read later."""
    return isinstance(value, str) and value.startswith("${")


def _require_single(key: str, value: Any) -> None:
    """_KeyError where `value` is a list or holds keys."""
    if isinstance(value, list | dict):
        raise _KeyError(f"{key} is a single value, got {value!r}", key)


def _require_list(key: str, value: Any, default: str) -> None:
    """_KeyError where `value` is no list of single values, or not of numbers as `default` is."""
    holds_numbers = default[1].isdigit()
    is_list = isinstance(value, list) and not any(isinstance(one, list | dict) for one in value)
    if not is_list or (holds_numbers and not all(_may_be_number(one) for one in value)):
        example = default if holds_numbers else "[a, b]"
        raise _KeyError(f"{key} is a list such as {example}, got {value!r}", key)


def _may_be_number(value: Any) -> bool:
    """Whether a value is a finite number, a text of one, or is inserted later."""
    if isinstance(value, bool):
        return False
    try:
        return _is_inserted(value) or math.isfinite(float(value))
    except (TypeError, ValueError):
        return False


def _require_names(key: str, value: Any) -> None:
    """As `_require_forms`, for a key whose values have names: labels, or rows of an ablation."""
    if not isinstance(value, dict):
        raise _KeyError(f"{key} holds named values, got {value!r}", key)
    for name, entry in value.items():
        if key != _ROWS:
            _require_single(f"{key}.{name}", entry)
        elif isinstance(entry, dict):
            _require_forms(entry, f"{_ROWS}.NAME.", f"{key}.{name}.")
        elif not _is_inserted(entry):
            rule = "a row holds keys such as predictor, or {}"
            raise _KeyError(f"{key}.{name}: {rule}, got {entry!r}", f"{key}.{name}")


def _nearest_key(unknown: str) -> str:
    """End of the message about an unknown key or section."""
    names = [key.name for key in keys()]
    sections = [name.partition(".")[0] for name in names]
    return suggestion(unknown, [*names, *sections], "; `ich3d config` lists the keys")


def _parse_overrides(overrides: Sequence[str]) -> Any:
    """Overrides of the form `section.key=value` as one OmegaConf layer."""
    import yaml
    from omegaconf import OmegaConf

    for override in overrides:
        if "=" not in override:
            raise ConfigError(
                f"an override has the form section.key=value, got {override!r}; "
                "`ich3d config` lists the keys"
            )
    try:
        return OmegaConf.from_dotlist(list(overrides))
    except yaml.YAMLError as error:
        raise ConfigError(f"an override is not valid YAML: {_first_line(error)}") from None


def _where(key: str, files: Sequence[Path], overrides: Sequence[str]) -> str | None:
    """Where the value of a key comes from: an override, or the line of a file, of which the last
    wins; None where it is not found.
    """
    if any(override.partition("=")[0] == key for override in overrides):
        return "--set"
    for path in reversed(files):
        line = _line_of(key, path)
        if line is not None:
            return f"{path}, line {line}"
    return None


def _line_of(key: str, path: Path) -> int | None:
    """The number of the line of a YAML file, from 1, that holds the key `section.key`."""
    import yaml

    node, line = yaml.compose(path.read_text(encoding="utf-8")), None
    for name in key.split("."):
        entries = node.value if isinstance(node, yaml.MappingNode) else []
        found = [(entry, value) for entry, value in entries if entry.value == name]
        if not found:
            return None
        line, node = found[-1][0].start_mark.line + 1, found[-1][1]
    return line


def _file_and_bases(path: Path, descendants: tuple[Path, ...] = ()) -> list[tuple[Path, Any]]:
    """Path and layer of each of a file's bases and then of itself, so that the later wins.

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
    return [*layers, (path, layer)]


def _read_yaml(path: Path) -> Any:
    """The keys of one YAML file as an OmegaConf layer."""
    import yaml
    from omegaconf import DictConfig, OmegaConf

    require_config(path)
    try:
        layer = OmegaConf.load(path)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{_marked(path, error)} is not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {_first_line(error)}") from None
    if not isinstance(layer, DictConfig):
        raise ConfigError(f"{path} must hold keys and values")
    return layer


def _marked(path: Path, error: Any) -> str:
    """The path, with the line where YAML found an error if it says so."""
    return f"{path}, line {error.problem_mark.line + 1}," if error.problem_mark else str(path)


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]
