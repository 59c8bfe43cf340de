"""Figures of models that tests choose."""

from typing import Any

from ich3d.core.bootstrap import Interval
from ich3d.core.operating_point import OperatingPoint
from ich3d.model.performance import HELD_OUT, Figures, Performance


def figures(
    sensitivity: tuple[float, float, float] = (0.8, 0.7, 0.9),
    specificity: tuple[float, float, float] = (0.95, 0.9, 1.0),
    **changes: Any,
) -> Figures:
    """Figures of 100 slices with a bleed and 200 without; intervals are (value, low, high)."""
    point = OperatingPoint(
        "slices", "any", 100, 200, Interval(*sensitivity), Interval(*specificity)
    )
    fields: dict[str, Any] = {
        "name": HELD_OUT,
        "patients": 40,
        "auc": Interval(0.9, 0.85, 0.95),
        "threshold": 0.5,
        "slices": point,
        "series": None,
    }
    return Figures(**{**fields, **changes})


def performance(source: str = "folder", **changes: Any) -> Performance:
    """The performance of a model whose figures leave no doubt, except for the changes."""
    return Performance(source, figures(**changes))
