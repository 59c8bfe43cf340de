"""What `ich3d predict --preview` writes: one picture a series, with all slices and their scores.

    <out>/preview/<volume_id>.png

Slices stand row by row in the brain window, the lowest first. The colour of a frame tells the
probability of `any`. The picture names no patient.
"""

import textwrap
from collections.abc import Sequence
from math import ceil, sqrt
from pathlib import Path
from typing import Final

import matplotlib as mpl
from PIL import Image, ImageDraw, ImageFont

import ich3d
from ich3d.core.labels import ANY, FLAG_AT, SUBTYPES, label_index
from ich3d.core.text import pluralize
from ich3d.core.types import Rejected
from ich3d.core.workspace import replacing
from ich3d.inference.run import OutputWriter
from ich3d.inference.scoring import SeriesPrediction
from ich3d.model.folder import Model
from ich3d.prepare.contact_sheet import ABBREVIATIONS, slice_image
from ich3d.prepare.store import plain_name
from ich3d.report.study.index_page import doubt_sentence

USE: Final = "Research software, not a medical device."

MIN_WIDTH, MAX_WIDTH = 760, 1320
"""Pixels of a picture. Text needs the first; a series of so many slices that its tiles would be
smaller than `MIN_SIDE` is wider than the second.
"""
MIN_SIDE, MAX_SIDE = 96, 256
"""Pixels of a slice."""

LOOK: Final = 1.5
"""Columns a row: a picture is wider than high, as screens are."""

_FRAME, _CAPTION, _MARGIN, _GAP = 4, 18, 14, 10
_FONT_PX, _TITLE_PX = 13, 17
_INK, _FAINT, _PAPER = (235, 235, 235), (165, 165, 165), (0, 0, 0)
_BAR = (180, 12)
_PALEST: Final = 0.15
"""The colour map's share that is left out at its dark end: black frames would not be seen."""

Colour = tuple[int, int, int]


def preview_writer(folder: Path, model: Model) -> OutputWriter:
    """Write a picture of each scored series to `folder`."""

    def write(study: Sequence[SeriesPrediction]) -> tuple[Rejected, ...]:
        for prediction in study:
            path = folder / f"{plain_name(prediction.series.volume_id)}.png"
            with replacing(path) as partial:
                draw_preview(prediction, model).save(partial, format="PNG", optimize=True)
        return ()

    return OutputWriter(folder, write)


def draw_preview(prediction: SeriesPrediction, model: Model) -> Image.Image:
    """The picture of one scored series; equal scores of one model give equal pixels."""
    hu = prediction.series.hu  # (Z, H, W)
    columns, side = _layout(len(hu))
    cell_width, cell_height = side + 2 * _FRAME + _GAP, side + 2 * _FRAME + _CAPTION + _GAP
    width = max(MIN_WIDTH, 2 * _MARGIN + columns * cell_width)
    foot = _foot(prediction, model, width)
    top = _MARGIN + _TITLE_PX + 2 * _FONT_PX + 24
    grid_height = ceil(len(hu) / columns) * cell_height
    height = top + grid_height + len(foot) * (_FONT_PX + 5) + _MARGIN

    picture = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(picture)
    _draw_head(draw, prediction)
    for index in range(len(hu)):
        row, column = divmod(index, columns)
        corner = (_MARGIN + column * cell_width, top + row * cell_height)
        _draw_slice(picture, draw, prediction, index, corner, side)
    for number, line in enumerate(foot):
        position = (_MARGIN, top + grid_height + number * (_FONT_PX + 5))
        draw.text(position, line, fill=_FAINT, font=_font(_FONT_PX))
    return picture


def frame_colour(prob: float) -> Colour:
    """Colour of the probability 0..1, dark to light: it is told without seeing hues."""
    red, green, blue, _ = mpl.colormaps["inferno"](_PALEST + (1 - _PALEST) * prob, bytes=True)
    return int(red), int(green), int(blue)


def _layout(count: int) -> tuple[int, int]:
    """Columns, and the side of a slice in pixels, for so many slices."""
    columns = min(count, ceil(sqrt(LOOK * count)))
    room = (MAX_WIDTH - 2 * _MARGIN) // columns - 2 * _FRAME - _GAP
    return columns, min(MAX_SIDE, max(MIN_SIDE, room))


def _draw_head(draw: ImageDraw.ImageDraw, prediction: SeriesPrediction) -> None:
    """The title, what is shown, and the legend of the frames."""
    y = _MARGIN
    draw.text((_MARGIN, y), _title(prediction), fill=_INK, font=_font(_TITLE_PX))
    y += _TITLE_PX + 7
    draw.text((_MARGIN, y), _subtitle(prediction), fill=_FAINT, font=_font(_FONT_PX))

    y += _FONT_PX + 7
    font = _font(_FONT_PX)
    label = f"frame: probability of {ANY}   0"
    x = _MARGIN + int(draw.textlength(label, font=font)) + 6
    draw.text((_MARGIN, y), label, fill=_FAINT, font=font)
    bar_width, bar_height = _BAR
    for step in range(bar_width):
        colour = frame_colour(step / (bar_width - 1))
        draw.line([(x + step, y + 2), (x + step, y + 2 + bar_height)], fill=colour)
    flag_x = x + round(FLAG_AT * (bar_width - 1))
    draw.line([(flag_x, y - 1), (flag_x, y + 5 + bar_height)], fill=_INK)
    flagged = f"1   flagged from {FLAG_AT:g} on (line), with the likeliest subtype"
    draw.text((x + bar_width + 6, y), flagged, fill=_FAINT, font=font)


def _title(prediction: SeriesPrediction) -> str:
    """How much is flagged, and the highest probability; no identifier."""
    prob_any = prediction.prob["stack"][:, label_index(ANY)]
    flagged, top = int((prob_any >= FLAG_AT).sum()), int(prob_any.argmax())
    count = f"{flagged} of {pluralize(len(prob_any), 'slice')} flagged"
    return f"{count}; highest probability of {ANY} {prob_any[top]:.2f}, in slice {top}"


def _subtitle(prediction: SeriesPrediction) -> str:
    z_mm = prediction.series.z_mm
    order = "inferior to superior" if len(z_mm) > 1 else "one slice"
    left_out = pluralize(len(prediction.unscored), "slice")
    return "; ".join(
        [
            f"{order}, z {z_mm[0]:.0f} to {z_mm[-1]:.0f} mm",
            "brain window",
            "the patient's right is at the left",
            *([f"{left_out} left out"] if prediction.unscored else []),
        ]
    )


def _foot(prediction: SeriesPrediction, model: Model, width: int) -> list[str]:
    """The lines below the slices: what to know before the picture is trusted."""
    known = "The model was trained on this patient: it scores new patients less well."
    sentences = [
        *([known] if prediction.is_known_patient else []),
        *([doubt_sentence(model)] if doubt_sentence(model) else []),
        f"{USE} ich3d {ich3d.__version__}, model {model.sha256[:12]}.",
    ]
    letters = int((width - 2 * _MARGIN) / (0.5 * _FONT_PX))  # as wide as its text is on average
    return [line for sentence in sentences for line in textwrap.wrap(sentence, letters)]


def _draw_slice(
    picture: Image.Image,
    draw: ImageDraw.ImageDraw,
    prediction: SeriesPrediction,
    index: int,
    corner: tuple[int, int],
    side: int,
) -> None:
    """One slice with its frame; below it its number, its probability, and its likeliest subtype."""
    prob = prediction.prob["stack"][index]  # (K,)
    prob_any = float(prob[label_index(ANY)])
    x, y = corner
    end = side + 2 * _FRAME - 1
    draw.rectangle((x, y, x + end, y + end), outline=frame_colour(prob_any), width=_FRAME)
    image = slice_image(prediction.series.hu[index], "brain", side)
    picture.paste(image, (x + _FRAME, y + _FRAME))

    is_flagged = prob_any >= FLAG_AT
    ink, font = _INK if is_flagged else _FAINT, _font(_FONT_PX)
    baseline = y + end + 2
    draw.text((x + 1, baseline), str(index), fill=_FAINT, font=font)
    score = f"{prob_any:.2f}"
    if is_flagged:
        likeliest = max(SUBTYPES, key=lambda name: float(prob[label_index(name)]))
        score = f"{ABBREVIATIONS[likeliest]} {score}"
    draw.text((x + end, baseline), score, fill=ink, font=font, anchor="ra")


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)
