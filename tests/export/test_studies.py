"""Series from DICOM, as an exported network reads them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ich3d.dicom.uids import uid
from ich3d.dicom.write import SeriesToWrite, write_series
from ich3d.export.studies import from_dicom
from tests.helpers.dicom_results import write_enhanced


def test_every_series_below_a_folder_is_read(studies: Path) -> None:
    series_by_length = {len(series["hu"]): series for series in from_dicom(str(studies), 48, 4.8)}
    assert sorted(series_by_length) == [1, 6]
    series = series_by_length[6]
    assert (series["hu"].shape, series["hu"].dtype) == ((6, 48, 48), np.int16)
    np.testing.assert_allclose(np.diff(series["z_mm"]), 5.0)
    assert len(set(series["sop_uid"])) == 6
    assert list(series["frame"]) == [""] * 6


def test_frames_are_named_by_number(
    make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    write_enhanced(make_head("frames"), tmp_path)
    (series,) = from_dicom(str(tmp_path), 48, 4.8)
    assert list(series["frame"]) == ["6", "5", "4", "3", "2", "1"]
    assert len(set(series["sop_uid"])) == 1


def test_a_rejected_series_is_logged_and_the_others_are_read(
    make_head: Callable[..., SeriesToWrite], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    air = np.full((6, 64, 64), -1000, dtype=np.int16)
    write_series(make_head("good"), tmp_path / "good")
    write_series(make_head("air", hu=air), tmp_path / "air")

    (series,) = from_dicom(str(tmp_path), 48, 4.8)

    assert series["hu"].shape == (6, 48, 48)
    (record,) = caplog.records
    assert record.name == "ich3d.export.studies"
    assert uid("head series", "air") in record.getMessage()
