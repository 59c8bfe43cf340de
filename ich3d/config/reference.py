"""What `ich3d config` prints: each key of a configuration, its default and what it means.

The texts are those of the sections' docstrings, so that there is one place to say it.
"""

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from ich3d.config.ablation import AblationRow
from ich3d.config.root import Config
from ich3d.core.errors import ConfigError, suggestion

WIDTH: Final = 96
"""Characters of a printed line."""


class Key(NamedTuple):
    """One key: `section.key`, or the name alone where it stands in no section."""

    name: str
    default: str
    text: str


def keys(section: str | None = None) -> list[Key]:
    """All keys, or those of one section, in the order of the configuration.

    Raises:
        ConfigError: no section has this name.
    """
    sections = {field.name for field in _fields(Config) if _is_section(field)}
    if section is not None and section not in sections:
        raise ConfigError(f"no section is called {section!r}{suggestion(section, sections)}")
    every = [*_keys_of(Config, ""), *_keys_of(AblationRow, "ablation.rows.NAME.")]
    return [key for key in every if section is None or key.name.startswith(f"{section}.")]


def as_text(rows: list[Key]) -> str:
    """The keys with their defaults, each with its meaning below it."""
    blocks = []
    for key in rows:
        meaning = textwrap.fill(key.text, WIDTH, initial_indent="    ", subsequent_indent="    ")
        blocks.append(f"{key.name} = {key.default}\n{meaning}")
    return "\n".join(blocks)


def _keys_of(section: type[Any], prefix: str) -> Iterator[Key]:
    texts = _attribute_texts(section)
    for field in _fields(section):
        if _is_section(field):
            assert isinstance(field.default_factory, type)
            yield from _keys_of(field.default_factory, f"{prefix}{field.name}.")
        else:
            yield Key(prefix + field.name, _default(field), texts[field.name])


def _fields(section: type[Any]) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(section)


def _is_section(field: dataclasses.Field[Any]) -> bool:
    return dataclasses.is_dataclass(field.default_factory)


def _default(field: dataclasses.Field[Any]) -> str:
    """The default as a YAML file has it."""
    value = field.default
    if value is dataclasses.MISSING:
        assert field.default_factory is not dataclasses.MISSING
        value = field.default_factory()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return "null" if value is None else str(value)


def _attribute_texts(section: type[Any]) -> dict[str, str]:
    """The texts of the part "Attributes:" of a docstring, by attribute, each on one line."""
    attributes = (inspect.getdoc(section) or "").partition("Attributes:\n")[2].split("\n\n")[0]
    entries = re.split(r"^    (?=\w+: )", attributes, flags=re.MULTILINE)[1:]
    pairs = (entry.partition(": ") for entry in entries)
    return {name: " ".join(text.split()) for name, _, text in pairs}
