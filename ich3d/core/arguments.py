"""Checks of what callers of the library pass in. Each raises DataError with one sentence.

Public functions take arrays of numpy, tensors of torch and lists of numbers, of any precision, and
paths as text or as `Path`. What a command line or a configuration gives is checked elsewhere.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from ich3d.core.errors import DataError, suggestion
from ich3d.core.labels import LABELS
from ich3d.core.types import Rejected

ArrayLike = Any
"""A numpy array, a tensor of torch, or a list of numbers. Named for readers; torch is not needed
to name its tensors."""

LARGEST_HU: Final = 32767
"""HU are kept as int16."""

SHOWN: Final = 60
"""Characters of a value that a message shows."""


def as_hu(hu: ArrayLike, matrix: int, pixel_mm: float) -> np.ndarray:
    """Hounsfield units of one series on a model's grid, int16 (Z, H, W); fractions are rounded.

    Args:
        hu: slices inferior to superior (Z, H, W).
        matrix: H and W of the grid.
        pixel_mm: distance between its pixels in mm, for the message.

    Raises:
        DataError: they are no numbers, not of this grid, not finite, or do not fit int16.
    """
    values = _numbers("hu", hu, "(Z, H, W)", 3)
    if not len(values):
        raise DataError("hu must hold at least one slice, got none")
    if values.shape[1:] != (matrix, matrix):
        grid = f"{matrix} x {matrix} pixels of {pixel_mm:g} mm"
        size = f"{values.shape[1]} x {values.shape[2]}"
        raise DataError(
            f"hu must be on the model's grid, {grid}, got slices of {size}; "
            "ich3d.prepare.head.crop_head, or a Volume as input, brings them there"
        )
    if values.dtype == np.int16:
        return values
    _require_finite("hu", values)
    if np.abs(values).max() > LARGEST_HU:
        largest = values.ravel()[np.abs(values).argmax()]
        raise DataError(f"hu must be Hounsfield units within +-{LARGEST_HU}, got {largest:g}")
    rounded: np.ndarray = np.rint(values).astype(np.int16)
    return rounded


def as_z_mm(z_mm: ArrayLike, n_slices: int) -> np.ndarray:
    """Slice positions in mm, float64 (Z,), increasing from inferior to superior.

    Raises:
        DataError: there is not one for each slice, one is not finite, or they do not increase.
    """
    values = _numbers("z_mm", z_mm, "(Z,)", 1).astype(np.float64)
    if len(values) != n_slices:
        raise DataError(
            f"z_mm must hold one position for each of {n_slices} slices, got {len(values)}"
        )
    _require_finite("z_mm", values)
    steps_mm = np.diff(values)
    if len(steps_mm) and (steps_mm < 0).all():
        raise DataError(
            "z_mm must increase from inferior to superior, got positions that decrease; "
            "reverse both: hu[::-1] and z_mm[::-1]"
        )
    if (steps_mm <= 0).any():
        at = int(np.argmax(steps_mm <= 0))
        raise DataError(
            "z_mm must increase from inferior to superior, "
            f"got {values[at]:g} before {values[at + 1]:g} mm at slice {at + 1}"
        )
    return values


def as_matrix(name: str, values: ArrayLike, shape: tuple[int, int], form: str) -> np.ndarray:
    """Numbers of exactly `shape`, which the message calls `form`, such as "(Z, K)"; NaN may occur.

    Raises:
        DataError: they are no numbers, or of another shape.
    """
    matrix = _numbers(name, values, form, 2)
    if matrix.shape != shape:
        raise DataError(f"{name} must be {form} = {shape}, got the shape {matrix.shape}")
    return matrix


def as_prob(name: str, values: ArrayLike, n_rows: int) -> np.ndarray:
    """Probabilities (N, K) within 0..1. DataError otherwise."""
    prob = as_matrix(name, values, (n_rows, len(LABELS)), "(N, K)")
    if not np.all((prob >= 0) & (prob <= 1)):  # NaN is not within 0..1 either
        raise DataError(f"{name} must hold probabilities within 0..1")
    return prob


def as_names(name: str, names: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    """The chosen ones of `known` names, in their order; None chooses all.

    Raises:
        DataError: a name is not known, or a text stands in place of a list.
    """
    if names is None:
        return list(known)
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise DataError(f"{name} must be a list of names, got {_shown(names)}")
    chosen, there = list(names), set(known)
    for one in chosen:
        if one not in there:
            ending = suggestion(str(one), known)
            raise DataError(f"{name} holds {_shown(one)}, which is not there{ending}")
    return chosen


def require_type(name: str, value: object, *allowed: type, hint: str = "") -> None:
    """DataError unless `value` is of one of the `allowed` types. A `Rejected` is told with its
    reason, for functions return it in place of data that cannot be used.
    """
    if isinstance(value, allowed):
        return
    names = " or ".join(kind.__name__ for kind in allowed)
    if isinstance(value, Rejected):
        raise DataError(f"{name} must be a {names}, and it was rejected: {value.sentence}")
    raise DataError(f"{name} must be a {names}, got {_shown(value)}{hint}")


def require_tensor(
    name: str, value: Any, form: str, sizes: Sequence[int | None], hint: str = ""
) -> None:
    """DataError unless `value` is a tensor of the `sizes`, None for any size.

    Args:
        name: the argument.
        value: what was given.
        form: the sizes in letters, such as "(B, T, K)".
        sizes: what each of them must be.
        hint: the end of the message.
    """
    if not hasattr(value, "detach"):
        raise DataError(f"{name} must be a tensor {form}, got {_shown(value)}")
    shape = tuple(value.shape)
    is_equal = len(shape) == len(sizes) and all(
        size in (None, given) for size, given in zip(sizes, shape, strict=True)
    )
    if not is_equal:
        letters = re.findall(r"\w+", form)
        pairs = zip(letters, sizes, strict=True)
        known = [f"{letter} = {size}" for letter, size in pairs if size is not None]
        where = f" with {', '.join(known)}" if known else ""
        raise DataError(f"{name} must be {form}{where}, got the shape {shape}{hint}")
    if 0 in shape:
        raise DataError(f"{name} must not be empty, got {form} = {shape}")


def _numbers(name: str, values: ArrayLike, form: str, n_axes: int) -> np.ndarray:
    """`values` as an array of real numbers with `n_axes` axes."""
    if hasattr(values, "detach"):  # a tensor, on any device, also one that asks for gradients
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() and values.itemsize < 4 else values
    try:
        array = np.asarray(values)
    except (ValueError, TypeError):  # a list of lists of different lengths
        raise DataError(f"{name} must be {form}, got rows of different lengths") from None
    if array.dtype.kind not in "iuf":
        kind = "text" if array.dtype.kind in "US" else f"values of type {array.dtype}"
        kind = _shown(values) if array.dtype == object else kind
        raise DataError(f"{name} must hold numbers {form}, got {kind}")
    if array.ndim != n_axes:
        raise DataError(f"{name} must be {form}, got the shape {array.shape}")
    return array


def _require_finite(name: str, values: np.ndarray) -> None:
    n_bad = int((~np.isfinite(values)).sum())
    if n_bad:
        share = f"{n_bad} of {values.size} values"
        raise DataError(f"{name} must be finite, got NaN or infinity in {share}")


def _shown(value: object) -> str:
    """A value in a message: short ones as they are, others by their type."""
    if value is None:
        return "None"
    text = repr(value)
    is_short = isinstance(value, str | int | float | Path) and len(text) <= SHOWN
    return text if is_short else type(value).__name__
