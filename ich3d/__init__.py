"""ich3d: hemorrhage labels for every slice of a head CT, from the whole study."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
_LAZY = {"load_model": "ich3d.model.folder", "predict": "ich3d.inference.scoring"}


def __getattr__(name: str) -> Any:
    """`ich3d.load_model`, whose room is imported when it is asked for: importing ich3d loads no network."""
    if name not in _LAZY:
        raise AttributeError(f"module 'ich3d' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
