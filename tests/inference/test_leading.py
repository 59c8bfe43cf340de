"""Of the series of a study, the plain one with a soft kernel speaks for it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ich3d.dicom.index import index
from ich3d.dicom.uids import uid
from ich3d.inference.leading import leading_series
from ich3d.inference.scoring import study_uid_of
from tests.helpers.pixels import WriteStack


@pytest.fixture
def write_series(write_stack: WriteStack) -> Callable[..., None]:
    """Writes a series of one study: slices over 60 mm, `step_mm` apart."""

    def write(name: str, step_mm: float = 5.0, length_mm: float = 60.0, **extra: Any) -> None:
        n = 1 + round(length_mm / step_mm)
        position_mm = np.array([(-100.0, -120.0, step_mm * i) for i in range(n)])
        write_stack(name=name, n=n, position_mm=position_mm, study_uid="2.25.8", extra=extra)

    return write


def leader(path: Path) -> tuple[str, str]:
    """volume_id and reason of the only study at `path`."""
    ((volume_id, reason),) = leading_series(index(path).series, study_uid_of).items()
    return volume_id, reason


def test_of_thin_bone_and_angiography_the_plain_soft_one_leads(
    tmp_path: Path, write_series: Callable[..., None]
) -> None:
    write_series("thick", ConvolutionKernel="H31s", SeriesDescription="Head 5.0")
    write_series("thin", 1.0, ConvolutionKernel="H31s", SeriesDescription="Head 1.0")
    write_series("bone", 1.0, ConvolutionKernel="H60s", SeriesDescription="Bone 1.0")
    write_series("cta", 1.0, length_mm=300, ConvolutionKernel="H20f", SeriesDescription="CTA 0.6")
    assert leader(tmp_path) == (
        uid("series", "thick"),
        "no contrast agent, soft kernel, step nearest to 5 mm",
    )


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"ContrastBolusAgent": "Iohexol"}, "no contrast agent"),
        ({"ConvolutionKernel": "BONE"}, "soft kernel"),
        ({"length_mm": 10.0}, "covers the head"),
        ({"ImageType": ["DERIVED", "SECONDARY", "MIP"]}, "not derived"),
        ({"step_mm": 10.0}, "step nearest to 5 mm"),
        ({}, "first of equal ones"),
    ],
)
def test_the_reason_is_what_the_other_series_lacks(
    tmp_path: Path, write_series: Callable[..., None], other: dict[str, Any], reason: str
) -> None:
    write_series("plain")
    write_series("other", **other)
    volume_id, why = leader(tmp_path)
    assert why == reason
    if other:
        assert volume_id == uid("series", "plain")


def test_each_study_has_one_and_a_lone_series_is_it(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    write_stack(name="a")
    write_stack(name="b")
    assert leading_series(index(tmp_path).series, study_uid_of) == {
        uid("series", "a"): "the only series",
        uid("series", "b"): "the only series",
    }
