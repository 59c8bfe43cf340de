"""TODO."""

import math

from ich3d.core.errors import ConfigError


def require_numbers(section: str, config: object, **rules: tuple[float, float]) -> None:
    """Each named value must lie within its bounds, both included."""
    for name, (low, high) in rules.items():
        value = getattr(config, name)
        bounds = f"at least {low:g}" if high == math.inf else f"within {low:g}..{high:g}"
        require(low <= value <= high, f"{section}.{name}", bounds, value)


def require(ok: bool, key: str, rule: str, value: object) -> None:
    if not ok:
        raise ConfigError(f"{key} must be {rule}, got {value!r}")
