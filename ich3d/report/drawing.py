"""How figures become images inside the HTML of a page.

They are drawn without pyplot, so that importing this module selects no backend and opens no window.
"""

from base64 import b64encode
from dataclasses import dataclass
from io import BytesIO

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH_IN = 7.2
INK, FAINT = "#222222", "#767676"


@dataclass(frozen=True)
class EmbeddedImage:
    """An image as the data URI `src`, and the text `alt` for readers who cannot see it."""

    src: str
    alt: str


def style_axes(axes: Axes) -> None:
    """Small text, and no lines at the top and the right."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.xaxis.label.set_fontsize(8)
    axes.yaxis.label.set_fontsize(8)


def as_svg(figure: Figure, alt: str) -> EmbeddedImage:
    """The figure as SVG. Equal figures give equal bytes: no date, and ids from a fixed salt."""
    data = BytesIO()
    with mpl.rc_context({"svg.hashsalt": "ich3d"}):
        figure.savefig(data, format="svg", metadata={"Date": None}, facecolor="white")
    return EmbeddedImage(data_uri("image/svg+xml", data), alt)


def data_uri(media_type: str, data: BytesIO) -> str:
    """The bytes of `data` as a data URI (RFC 2397)."""
    return f"data:{media_type};base64,{b64encode(data.getvalue()).decode()}"
