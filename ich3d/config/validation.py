"""Checks that the sections of the configuration share; each raises ConfigError."""

import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from ich3d.core.errors import ConfigError


def require(ok: bool, key: str, rule: str, value: object) -> None:
    """Raise ConfigError unless `ok`: "`key` must be `rule`, got `value`"."""
    if not ok:
        raise ConfigError(f"{key} must be {rule}, got {value!r}")


def require_whole(key: str, value: object, lowest: int) -> None:
    """Raise ConfigError unless `value` is a whole number, and at least `lowest`."""
    is_whole = isinstance(value, int) and not isinstance(value, bool) and value >= lowest
    require(is_whole, key, f"a whole number from {lowest} on", value)


def require_one_of(allowed: Sequence[str], key: str, value: str) -> None:
    """Raise ConfigError unless `value` is in `allowed`; the message lists what is allowed."""
    require(isinstance(value, str) and value in allowed, key, f"one of {', '.join(allowed)}", value)


def require_numbers(section: str, config: Any, **bounds: tuple[float, float]) -> None:
    """Raise ConfigError unless each named attribute is within its bounds, both included.

    Args:
        section: name of the section, which the message puts before the attribute's name.
        config: the section itself.
        bounds: smallest and largest value of each attribute; `math.inf` for no upper bound.
    """
    whole = {field.name for field in fields(config) if field.type is int}
    for name, (low, high) in bounds.items():
        value = getattr(config, name)
        is_number = isinstance(value, int if name in whole else int | float)
        kind = "a whole number" if name in whole else "a number"
        require(is_number, f"{section}.{name}", kind, value)
        rule = f"at least {low:g}" if high == math.inf else f"within {low:g}..{high:g}"
        require(low <= value <= high, f"{section}.{name}", rule, value)
