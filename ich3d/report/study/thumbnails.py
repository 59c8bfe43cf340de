"""A series as small pictures: all slices on one sheet a window, and the heat that is laid over some."""

from dataclasses import dataclass
from io import BytesIO
from math import ceil, sqrt
from typing import Final

import matplotlib as mpl
import numpy as np
from PIL import Image

from ich3d.core.windows import window
from ich3d.report.explanation import MOST_COVER
from ich3d.report.figures import data_uri

SHOWN_IN: Final = ("brain", "subdural", "soft", "bone")
"""The windows that a reader can choose from."""

SHEET_PIXELS: Final = 40 * 256**2
"""Most pixels of a sheet. The tiles of a longer series are smaller: the four sheets of 40 slices of 256 x 256
take about 1 MB, those of 300 slices about 2 MB."""

HEAT_PX: Final = 96
_QUALITY: Final = 75


@dataclass(frozen=True)
class Thumbnails:
    """The slices of a series as tiles of `side` pixels, `columns` in each of `rows` rows, the lowest first;
    `sheets` holds them as a data URI by window."""

    columns: int
    rows: int
    side: int
    sheets: dict[str, str]

    def place(self, index: int) -> str:
        """Where the tile of slice `index` lies, as CSS `background-position`."""
        row, column = divmod(index, self.columns)
        return f"{_percent(column, self.columns)} {_percent(row, self.rows)}"


def make_thumbnails(hu: np.ndarray) -> Thumbnails:
    """The strip of HU (Z, H, W)."""
    count = len(hu)
    columns = ceil(sqrt(count))
    side = min(hu.shape[1], int(sqrt(SHEET_PIXELS / count)))
    rows = ceil(count / columns)
    sheets = {name: _sheet(window(name).apply(hu), columns, rows, side) for name in SHOWN_IN}
    return Thumbnails(columns, rows, side, sheets)


def _sheet(grey: np.ndarray, columns: int, rows: int, side: int) -> str:
    """Grey values 0..1 (Z, H, W) as one picture."""
    sheet = Image.new("L", (columns * side, rows * side))
    for index, one in enumerate(grey):
        tile = Image.fromarray(np.round(one * 255).astype(np.uint8))
        row, column = divmod(index, columns)
        sheet.paste(
            tile.resize((side, side), Image.Resampling.LANCZOS), (column * side, row * side)
        )
    return _webp(sheet)


def heat_picture(heat: np.ndarray) -> str:
    """Heat 0..1 (H, W) as a data URI, see-through where it is cold."""
    rgba = mpl.colormaps["inferno"](heat)
    rgba[..., 3] = MOST_COVER * heat
    picture = Image.fromarray(np.round(rgba * 255).astype(np.uint8))
    picture.thumbnail((HEAT_PX, HEAT_PX))
    return _webp(picture)


def _webp(picture: Image.Image) -> str:
    data = BytesIO()
    picture.save(data, format="WEBP", quality=_QUALITY)
    return data_uri("image/webp", data)


def _percent(place: int, count: int) -> str:
    return f"{100 * place / max(1, count - 1):.4f}%"
