"""Thumbnails of a series: each slice is on the sheet where its position says."""

import base64
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from ich3d.core.windows import WINDOWS
from ich3d.report.study.thumbnails import (
    MAX_HEAT_PX,
    MAX_SHEET_PIXELS,
    Thumbnails,
    heat_image,
    make_thumbnails,
)


def decode(data_uri: str, mode: str) -> np.ndarray:
    data = base64.b64decode(data_uri.partition(",")[2])
    return np.asarray(Image.open(BytesIO(data)).convert(mode))


def tile(thumbnails: Thumbnails, window_name: str, index: int) -> np.ndarray:
    """Grey values of the tile that CSS shows at the position of slice `index`."""
    sheet = decode(thumbnails.sheets[window_name], "L")
    x, y = (float(part.rstrip("%")) / 100 for part in thumbnails.position(index).split())
    left = round(x * (sheet.shape[1] - thumbnails.side))
    top = round(y * (sheet.shape[0] - thumbnails.side))
    return sheet[top : top + thumbnails.side, left : left + thumbnails.side]


@pytest.mark.parametrize("count", [1, 2, 7, 12])
def test_a_slice_is_on_the_sheet_at_its_position(count: int) -> None:
    levels = np.linspace(0, 80, count)
    hu = np.broadcast_to(levels[:, None, None], (count, 32, 32)).astype(np.int16)
    thumbnails = make_thumbnails(hu)
    assert thumbnails.sheets
    for name in thumbnails.sheets:
        for index in range(count):
            expected = 255 * WINDOWS[name].apply(hu[index])[0, 0]
            shown = float(tile(thumbnails, name, index)[4:-4, 4:-4].mean())
            assert shown == pytest.approx(expected, abs=4), (name, index)


def test_a_long_series_has_smaller_tiles() -> None:
    long = make_thumbnails(np.zeros((300, 96, 96), dtype=np.int16))
    assert long.side == 93
    assert 300 * long.side**2 <= MAX_SHEET_PIXELS
    assert make_thumbnails(np.zeros((34, 96, 96), dtype=np.int16)).side == 96


def test_the_sheets_of_forty_noisy_slices_stay_small() -> None:
    rng = np.random.default_rng(0)
    thumbnails = make_thumbnails(rng.normal(35, 5, (40, 192, 192)).astype(np.int16))
    assert sum(map(len, thumbnails.sheets.values())) < 3_000_000


def test_a_heat_image_is_transparent_where_there_is_no_heat() -> None:
    heat = np.zeros((256, 256), dtype=np.float32)
    heat[:, 128:] = 1.0
    rgba = decode(heat_image(heat), "RGBA")
    assert rgba.shape == (MAX_HEAT_PX, MAX_HEAT_PX, 4)
    alpha = rgba[..., 3]
    assert alpha[:, :40].max() == 0
    assert alpha[:, -40:].min() == pytest.approx(0.6 * 255, abs=3)
