"""What one series adds to the fingerprint of its data set."""

from pathlib import Path

import numpy as np

from ich3d.core.types import Series
from ich3d.dicom.index import index
from ich3d.dicom.write import write_series
from ich3d.prepare.series_fingerprint import (
    LOWEST_HU,
    N_BINS,
    STEP_HU,
    bin_edges_hu,
    fingerprint_from_json,
    fingerprint_to_json,
    series_fingerprint,
)
from tests.helpers.identity import IDENTITY, PATIENT_ID
from tests.helpers.series import edit, head_series


def series_of(folder: Path, **attributes: object) -> Series:
    """A head of three slices whose files have these attributes."""
    for path in write_series(head_series(n=3), folder):
        edit(path, **attributes)
    (series,) = index(folder).series
    return series


def test_each_pixel_is_counted_in_its_bin_and_what_lies_beyond_in_the_last(tmp_path: Path) -> None:
    hu = np.array([[[-32768, LOWEST_HU], [0, 3]], [[4, 3071], [3072, 32767]]], dtype=np.int16)
    counts = series_fingerprint(series_of(tmp_path), hu).hu_counts
    zero = -LOWEST_HU // STEP_HU
    assert bin_edges_hu()[zero] == 0
    found = {int(place): int(counts[place]) for place in np.flatnonzero(counts)}
    assert found == {0: 2, zero: 2, zero + 1: 1, N_BINS - 1: 3}


def test_the_scanner_is_that_of_the_header_and_names_no_patient(tmp_path: Path) -> None:
    series = series_of(
        tmp_path,
        PatientID=PATIENT_ID,
        **IDENTITY,
        Manufacturer="Maker",
        ManufacturerModelName="CT 1",
        KVP="120",
        SeriesDescription=f"Head of {IDENTITY['PatientName'].split('^')[0]}",
    )
    fingerprint = series_fingerprint(series, np.zeros((3, 4, 4), dtype=np.int16))
    assert fingerprint.origin.scanner == "Maker CT 1"
    assert fingerprint.origin.series_description == "Head of ***"
    assert fingerprint.kvp == "120"
    first = series.headers[0]
    assert fingerprint.field_of_view_mm == (
        first.rows * first.pixel_spacing_mm[0],
        first.columns * first.pixel_spacing_mm[1],
    )

    again = fingerprint_from_json(fingerprint_to_json(fingerprint))
    assert again.origin == fingerprint.origin
    assert (again.hu_counts == fingerprint.hu_counts).all()
    assert fingerprint_to_json(again) == fingerprint_to_json(fingerprint)
