"""Contact sheets: which slice is shown where, with what text, and when a page is drawn anew."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ich3d.core.labels import LABELS
from ich3d.core.workspace import Workspace
from ich3d.prepare import contact_sheet
from ich3d.prepare.contact_sheet import write_contact_sheets
from ich3d.prepare.hu_features import BRAIN_CM2, HU_FEATURES
from ich3d.prepare.store import write_series
from tests.helpers.prepared import prepared_series

SIDE, PITCH = 160, 194
"""Pixels from one image of a page to the next, to the right and down."""


def write_store(workspace: Workspace, names: str | list[str]) -> pd.DataFrame:
    """A series of three slices of 0, 40 and 80 HU a name, and the table of slices.

    In the brain window they are black, grey and white. The grey slice shows most brain.
    """
    rows = []
    for name in names:
        hu = np.repeat([0, 40, 80], 16).reshape(3, 4, 4).astype(np.int16)
        features = np.zeros((3, len(HU_FEATURES)), dtype=np.float32)
        features[:, BRAIN_CM2] = [10, 90, 20]
        series = prepared_series(hu, volume_id=name, hu_features=features)
        write_series(workspace.store, series)
        rows += [{"volume_id": name, "patient_id": f"p{name}"} for _ in hu]
    return pd.DataFrame(rows).assign(**dict.fromkeys(LABELS, 0.0))


def grey_at(page: Path, row: int, column: int) -> int:
    """The grey value in the middle of an image of a page."""
    with Image.open(page) as image:
        value = image.getpixel((column * SIDE + SIDE // 2, row * PITCH + SIDE // 2))
    assert isinstance(value, int)
    return value


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def test_the_slice_with_most_brain_is_shown(workspace: Workspace) -> None:
    (sheet,) = write_contact_sheets(workspace, write_store(workspace, "a"))
    assert sheet == "contact_sheets/sheet_0001.jpg"
    assert grey_at(workspace.root / sheet, 0, 0) == pytest.approx(128, abs=4)


def test_a_page_has_a_hundred_series_and_older_pages_go(workspace: Workspace) -> None:
    slices = write_store(workspace, [f"{number:03d}" for number in range(101)])
    sheets = write_contact_sheets(workspace, slices)
    assert sheets == ["contact_sheets/sheet_0001.jpg", "contact_sheets/sheet_0002.jpg"]
    assert grey_at(workspace.root / sheets[0], 9, 9) == pytest.approx(128, abs=4)
    with Image.open(workspace.root / sheets[1]) as page:
        assert page.size == (10 * SIDE, PITCH)

    fewer = slices[slices["volume_id"] < "050"]
    assert write_contact_sheets(workspace, fewer) == sheets[:1]
    assert [path.name for path in workspace.contact_sheets.iterdir()] == ["sheet_0001.jpg"]


@pytest.fixture
def written(workspace: Workspace) -> tuple[Path, pd.DataFrame, int]:
    """A page, the table of its slices, and when it was written."""
    slices = write_store(workspace, "ab")
    (sheet,) = write_contact_sheets(workspace, slices)
    page = workspace.root / sheet
    return page, slices, page.stat().st_mtime_ns


def test_a_page_that_shows_the_same_is_kept(
    workspace: Workspace, written: tuple[Path, pd.DataFrame, int]
) -> None:
    page, slices, time_ns = written
    write_contact_sheets(workspace, slices)
    assert page.stat().st_mtime_ns == time_ns


def test_a_page_is_drawn_anew_where_a_label_changed(
    workspace: Workspace, written: tuple[Path, pd.DataFrame, int]
) -> None:
    page, slices, time_ns = written
    before = page.read_bytes()
    write_contact_sheets(workspace, slices.assign(subdural=1.0, any=1.0))
    assert page.stat().st_mtime_ns > time_ns
    assert page.read_bytes() != before
    write_contact_sheets(workspace, slices)
    assert page.read_bytes() == before


@pytest.mark.parametrize("damage", ["cut", "emptied", "no image"])
def test_a_damaged_page_is_drawn_anew(
    workspace: Workspace, written: tuple[Path, pd.DataFrame, int], damage: str
) -> None:
    page, slices, _ = written
    whole = page.read_bytes()
    page.write_bytes({"cut": whole[:-200], "emptied": b"", "no image": b"text"}[damage])
    write_contact_sheets(workspace, slices)
    assert page.read_bytes() == whole


@pytest.mark.parametrize(
    ("labels", "line"),
    [
        ([(), (), ()], "no bleed"),
        ([None, None, None], "no labels"),
        ([("subdural", "any"), ("epidural", "any"), None], "EDH SDH 2/3"),
        ([("any",), (), ()], "bleed 1/3"),
    ],
)
def test_the_line_of_labels(labels: list[tuple[str, ...] | None], line: str) -> None:
    rows = pd.DataFrame(
        {label: np.nan if has is None else float(label in has) for label in LABELS}
        for has in labels
    )
    assert contact_sheet.label_line(rows) == line


def test_the_longest_text_stays_in_its_column(workspace: Workspace) -> None:
    """The column beside it has no series, and stays black."""
    slices = write_store(workspace, ["1.2.826.0.1.3680043.8.498.44444444"])
    everything = slices.assign(**dict.fromkeys(LABELS, 1.0), patient_id="p" + "a" * 12)
    (sheet,) = write_contact_sheets(workspace, everything)
    with Image.open(workspace.root / sheet) as page:
        pixels = np.asarray(page)
    assert pixels[SIDE:, :SIDE].max() > 200
    assert pixels[SIDE:, SIDE + 8 :].max() < 16  # JPEG blurs by up to a block
