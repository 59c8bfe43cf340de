"""Images of a series for its page: one sheet of slices for each window, and heat maps."""

from dataclasses import dataclass
from io import BytesIO
from math import ceil, sqrt
from typing import Final

import matplotlib as mpl
import numpy as np
from PIL import Image

from ich3d.prepare.contact_sheet import slice_image
from ich3d.report.drawing import data_uri
from ich3d.report.explanation import MAX_HEAT_OPACITY

SHOWN_WINDOWS: Final = ("brain", "subdural", "soft", "bone")
"""The windows that a reader can choose from."""

MAX_SHEET_PIXELS: Final = 40 * 256**2
"""A longer series gets smaller tiles. The four sheets of 40 slices of 256 x 256 pixels take about
1 MB, those of 300 slices about 2 MB."""

MAX_HEAT_PX: Final = 96
_WEBP_QUALITY: Final = 75


@dataclass(frozen=True)
class Thumbnails:
    """The slices of a series as tiles of `side` x `side` pixels, row by row, the lowest first.

    `columns` and `rows` count the tiles of a sheet; `sheets` has a data URI for each window.
    """

    columns: int
    rows: int
    side: int
    sheets: dict[str, str]

    def position(self, index: int) -> str:
        """The tile of slice `index`, as a value of the CSS property `background-position`."""
        row, column = divmod(index, self.columns)
        return f"{_percent(column, self.columns)} {_percent(row, self.rows)}"


def make_thumbnails(hu: np.ndarray) -> Thumbnails:
    """Sheets of all slices of `hu` (Z, H, W), in Hounsfield units, in the `SHOWN_WINDOWS`."""
    count = len(hu)
    columns = ceil(sqrt(count))
    rows = ceil(count / columns)
    side = min(hu.shape[1], int(sqrt(MAX_SHEET_PIXELS / count)))
    sheets = {name: _sheet(hu, name, columns, rows, side) for name in SHOWN_WINDOWS}
    return Thumbnails(columns, rows, side, sheets)


def _sheet(hu: np.ndarray, window_name: str, columns: int, rows: int, side: int) -> str:
    """One image of all slices (Z, H, W) in a window."""
    sheet = Image.new("L", (columns * side, rows * side))
    for index, hu_slice in enumerate(hu):
        row, column = divmod(index, columns)
        sheet.paste(slice_image(hu_slice, window_name, side), (column * side, row * side))
    return _webp(sheet)


def heat_image(heat: np.ndarray) -> str:
    """Heat 0..1 (H, W) as a data URI, transparent where it is zero."""
    rgba = mpl.colormaps["inferno"](heat)  # (H, W, 4)
    rgba[..., 3] = MAX_HEAT_OPACITY * heat
    image = Image.fromarray(np.round(rgba * 255).astype(np.uint8))
    image.thumbnail((MAX_HEAT_PX, MAX_HEAT_PX))
    return _webp(image)


def _webp(image: Image.Image) -> str:
    data = BytesIO()
    image.save(data, format="WEBP", quality=_WEBP_QUALITY)
    return data_uri("image/webp", data)


def _percent(index: int, count: int) -> str:
    """0 % for the first of `count` tiles, 100 % for the last."""
    return f"{100 * index / max(1, count - 1):.4f}%"
