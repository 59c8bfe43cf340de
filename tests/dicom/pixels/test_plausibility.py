"""Values that are no HU are seen, and what only lacks something is not doubted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ich3d.config.schema import PhantomConfig
from ich3d.core.issues import IssueCode
from ich3d.core.types import Volume
from ich3d.dicom.assembly.ordering import order
from ich3d.dicom.index import index
from ich3d.dicom.pixels.plausibility import implausibility
from ich3d.dicom.volume import load_volume
from ich3d.phantom import write_phantoms
from tests.helpers.lifelike import lifelike_head
from tests.helpers.pixels import WriteStack, issue_codes, load, store_values


def window(hu: np.ndarray, center: int, width: int) -> np.ndarray:
    """A picture (Y, X) of 8 bits in a 16-bit file."""
    low = center - width / 2
    return ((hu.astype(float) - low) / width * 255).clip(0, 255).astype(np.int16)


def hole(hu: np.ndarray, value: int, high: int) -> np.ndarray:
    """HU without soft tissue: everything up to `high` HU becomes `value`."""
    return np.where(hu > high, hu, value)


FAULTS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], dict[str, Any], str]] = {
    "lost intercept": (lambda hu: hu + 1024, {}, "without its RescaleIntercept"),
    "lost intercept of 1000": (lambda hu: hu.clip(-1000) + 1000, {}, "without its Rescale"),
    "lost intercept beside a fill": (
        lambda hu: np.where(hu < -1000, -2000, hu + 1024), {}, "without its RescaleIntercept",
    ),
    "lost intercept beside padding": (
        lambda hu: np.where(hu < -1000, -2000, hu + 1024),
        {"PixelPaddingValue": -2000},
        "without its RescaleIntercept",
    ),
    "lost intercept of brain alone": (lambda hu: hu[24:40, 24:40] + 1024, {}, "without its"),
    "double intercept": (lambda hu: hu, {"RescaleIntercept": "-1024"}, "counts twice"),
    "double intercept of 1000": (lambda hu: hu, {"RescaleIntercept": "-1000"}, "counts twice"),
    "double intercept, other padding": (
        lambda hu: hu,
        {"RescaleIntercept": "-1024", "PixelPaddingValue": -32768},
        "counts twice",
    ),
    "left-aligned": (
        lambda hu: ((hu + 1024).astype("<u2") << 4),
        {"RescaleIntercept": "-1024"},
        "above 3071 HU",
    ),
    "large offset": (lambda hu: hu + 8192, {}, "above 3071 HU"),
    "12-bit wrap in 16 bits": (lambda hu: hu & 0xFFF, {}, "above 3071 HU"),
    "lost slope": (
        lambda hu: 2 * (hu + 1024), {"RescaleIntercept": "-1024"}, "no soft tissue is seen",
    ),
    "intercept far too low": (lambda hu: hu, {"RescaleIntercept": "-8192"}, "lower than air"),
    "dense bone read as negative": (
        lambda hu: (np.where(hu > 900, 1500 + np.arange(64) % 9, hu) + 1024).astype(np.int16),
        {"RescaleIntercept": "-1024", "BitsStored": 12, "HighBit": 11},
        "lower than air",
    ),
    "stretched window": (
        lambda hu: (hu * 4095.0 / 80).clip(0, 4095).astype("<u2"),
        {"RescaleIntercept": "-1024"},
        "as the white of a window",
    ),
    "picture of 8 bits with an intercept": (
        lambda hu: window(hu, 40, 80).astype("u1"), {"RescaleIntercept": "-1024"}, "can hold",
    ),
    "picture of brain": (lambda hu: window(hu, 40, 80), {}, "picture of a window"),
    "inverted picture": (lambda hu: 255 - window(hu, 40, 80), {}, "picture of a window"),
    "picture of bone": (lambda hu: window(hu, 600, 2800), {}, "picture of a window"),
    "picture of 8 bits": (lambda hu: window(hu, 40, 80).astype("u1"), {}, "picture of a window"),
    "map of an unspecified unit": (
        lambda hu: np.where(hu > -200, hu.clip(0, 80), 0), {"RescaleType": "US"}, "the unit open",
    ),
}  # fmt: skip

CONTROLS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], dict[str, Any]]] = {
    "head": (lambda hu: hu, {}),
    "head of an unspecified unit": (lambda hu: hu, {"RescaleType": "US"}),
    "unsigned": (lambda hu: (hu + 1024).astype("<u2"), {"RescaleIntercept": "-1024"}),
    "fill": (lambda hu: np.where(hu < -1000, -3024, hu), {}),
    "fill beside padding": (
        lambda hu: np.where(hu < -1000, -3024, hu), {"PixelPaddingValue": -2000},
    ),
    "air without noise": (lambda hu: np.where(hu < -900, -1024, hu), {}),
    "air clipped at 0": (lambda hu: hu.clip(0), {}),
    "no air in view": (lambda hu: hu[16:48, 16:48], {}),
    "brain alone": (lambda hu: hu[24:40, 24:40], {}),
    "brain on air": (lambda hu: np.where((hu > -20) & (hu < 90), hu, -1024), {}),
    "brain on 0": (lambda hu: np.where((hu > -20) & (hu < 90), hu, 0), {}),
    "bone on air": (lambda hu: hole(hu, -1000, 200), {}),
    "bone on 0": (lambda hu: hole(hu, 0, 200), {}),
    "one bone of 1100 HU, no air": (
        lambda hu: np.where(hu[20:44, 20:44] > 200, 1100, hu[20:44, 20:44].clip(20, 45)), {},
    ),
    "clipped to a window": (lambda hu: hu.clip(-100, 300), {}),
    "air alone": (lambda hu: hu[:12, :12], {}),
    "air alone, without noise": (lambda hu: np.full_like(hu, -1024), {}),
    "a head rest": (
        lambda hu: np.where(np.arange(64) > 60, hu.clip(-150, -100), hu.clip(-1024, -990)), {},
    ),
    "water": (lambda hu: hu * 0, {}),
    "thick bone": (lambda hu: np.where(hu > 150, hu + 200, hu), {}),
    "thin bone of a child": (lambda hu: np.where(hu > 150, (hu * 0.5).astype(np.int16), hu), {}),
    "contrast": (lambda hu: np.where((hu > 30) & (hu < 36), hu + 200, hu), {}),
}  # fmt: skip


def write_head(
    write_stack: WriteStack,
    change: Callable[[np.ndarray], np.ndarray],
    attributes: dict[str, Any],
    head: np.ndarray | None = None,
) -> None:
    """A series of `lifelike_head`, its pixels changed and attributes set."""
    hu = lifelike_head(6) if head is None else head
    for path, pixels in zip(write_stack(n=len(hu)), hu, strict=True):
        store_values(path, change(pixels), **attributes)


@pytest.mark.parametrize("name", FAULTS)
def test_values_that_are_no_hu_are_seen(tmp_path: Path, write_stack: WriteStack, name: str) -> None:
    change, attributes, seen = FAULTS[name]
    write_head(write_stack, change, attributes)
    volume = load(tmp_path)
    (issue,) = (issue for issue in volume.issues if issue.code is IssueCode.IMPLAUSIBLE_HU)
    assert seen in issue.detail


@pytest.mark.parametrize("name", CONTROLS)
def test_what_lacks_air_bone_or_brain_is_not_doubted(
    tmp_path: Path, write_stack: WriteStack, name: str
) -> None:
    change, attributes = CONTROLS[name]
    write_head(write_stack, change, attributes)
    assert issue_codes(load(tmp_path)) <= {IssueCode.UNSPECIFIED_UNIT}


@pytest.mark.parametrize("brightness", [3071, 8000, 30000])
def test_metal_is_not_doubted(tmp_path: Path, write_stack: WriteStack, brightness: int) -> None:
    """A clip of 2 % of the pixels, with dark streaks beside it."""
    head = lifelike_head(6)
    head[:, 28:37, 28:37] = brightness
    head[:, 28:37, 37:42] = -900
    write_head(write_stack, lambda hu: hu, {}, head)
    assert not issue_codes(load(tmp_path))


def test_every_kind_of_phantom_is_plausible(tmp_path: Path) -> None:
    """Thin, thick and tilted slices, sharp and noisy ones, a table and slices of air."""
    common = {"studies": 1, "matrix": 128}
    settings: list[dict[str, Any]] = [
        {"thickness_mm": (1.25,)},
        {"thickness_mm": (10.0,), "fov_mm": (180.0, 190.0)},
        {"max_tilt_deg": 30.0, "table": True, "margin_mm": 30.0},
        {"noise_hu": (20.0, 25.0), "blur_mm": (0.3, 0.35)},
        {"lookalikes": 1.0, "fov_mm": (300.0, 320.0)},
    ]
    for seed, changes in enumerate(settings):
        for _ in write_phantoms(PhantomConfig(**{**common, **changes}), seed, tmp_path / str(seed)):
            pass
    for series in index(tmp_path).series:
        middle = series.headers[len(series) // 3 : 2 * len(series) // 3]
        for part in (series, order(middle, "brain alone"), order(series.headers[-1:], "vertex")):
            volume = load_volume(part)
            assert isinstance(volume, Volume)
            assert IssueCode.IMPLAUSIBLE_HU not in issue_codes(volume)


@pytest.mark.parametrize("z", range(6))
def test_single_slices_of_a_head_are_plausible(
    tmp_path: Path, write_stack: WriteStack, z: int
) -> None:
    write_head(write_stack, lambda hu: hu, {}, lifelike_head(6)[z : z + 1])
    assert not issue_codes(load(tmp_path))


def test_a_volume_of_nothing_but_padding_is_not_judged(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    write_head(write_stack, lambda hu: hu * 0 - 2000, {"PixelPaddingValue": -2000})
    assert not issue_codes(load(tmp_path))
    assert implausibility([np.empty(0)], is_unspecified=True) == ""


def test_slices_of_another_rescale_are_judged_apart(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    """Two slices of twelve lost their intercept, which the values of all together would hide."""
    for z, (path, hu) in enumerate(zip(write_stack(n=12), lifelike_head(12), strict=True)):
        is_lost = z in (4, 5)
        store_values(path, hu + 1024, RescaleIntercept="0" if is_lost else "-1024")
    (issue,) = load(tmp_path).issues
    assert issue.code is IssueCode.IMPLAUSIBLE_HU
    assert "in 2 slices, such as a004.dcm, no pixel is air" in issue.detail


def test_slices_that_each_have_a_rescale_are_plausible(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    for z, (path, hu) in enumerate(zip(write_stack(n=6), lifelike_head(6), strict=True)):
        store_values(path, hu + 100 * z, RescaleIntercept=str(-100 * z))
    assert not issue_codes(load(tmp_path))
