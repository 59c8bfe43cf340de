"""Contact sheets: the prepared series of a store as small images, a hundred a page.

They show at one look what the numbers of a data set hide: a head that is cut or turned, HU that are
wrong, a phantom among patients. One slice is read for each image.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from ich3d.core.labels import ANY, LABELS, SUBTYPES
from ich3d.core.progress import Progress, quiet
from ich3d.core.types import SeriesMetadata
from ich3d.core.windows import window
from ich3d.core.workspace import Workspace, replacing
from ich3d.prepare.hu_features import BRAIN_CM2
from ich3d.prepare.store import read_slice, require_metadata

SERIES_A_PAGE: Final = 100

ABBREVIATIONS: Final = dict(zip(SUBTYPES, ("EDH", "IPH", "IVH", "SAH", "SDH"), strict=True))
"""What stands under an image for each subtype: the customary abbreviations of the hemorrhages."""

UID_END: Final = 6
"""So many last characters of the volume_id tell the series of one patient apart."""

_FORMAT: Final = 1
"""Version of the drawing. Raised when the page of the same series looks different."""

_COLUMNS: Final = 10
_SIDE: Final = 160
_CAPTION: Final = 34
_FONT_PX: Final = 11
_INK, _FAINT = 235, 165
_QUALITY: Final = 85


@dataclass(frozen=True)
class _Volume:
    """One series of a page, and what is written under its image."""

    patient_id: str
    volume_id: str
    labels: str


def write_contact_sheets(
    workspace: Workspace, slices: pd.DataFrame, progress: Progress = quiet
) -> list[str]:
    """Write the contact sheets of the stored series, and remove further ones of an earlier store.

    A page that lies there already and shows the same is kept.

    Args:
        workspace: where the store lies, and the folder of the pages.
        slices: the store's table of slices, with labels.
        progress: shows pages.

    Returns:
        The pages, relative to the workspace. Series stand in the order of their patients.

    Raises:
        DataError: the file of a series is missing or damaged.
    """
    groups = slices.groupby("volume_id", sort=True)
    volumes = sorted(
        (_volume(str(name), rows) for name, rows in groups),
        key=lambda volume: (volume.patient_id, volume.volume_id),
    )
    starts = range(0, len(volumes), SERIES_A_PAGE)
    pages: list[Path] = []
    for start in progress(starts, "contact sheets", total=len(starts)):
        page = workspace.contact_sheets / f"sheet_{len(pages) + 1:04d}.jpg"
        _write_page(page, workspace.store, volumes[start : start + SERIES_A_PAGE])
        pages.append(page)

    for path in workspace.contact_sheets.glob("sheet_*.jpg"):
        if path not in pages:
            path.unlink()
    return [page.relative_to(workspace.root).as_posix() for page in pages]


def _volume(volume_id: str, rows: pd.DataFrame) -> _Volume:
    """The series with these rows of the table of slices."""
    return _Volume(str(rows["patient_id"].iloc[0]), volume_id, label_line(rows))


def label_line(rows: pd.DataFrame) -> str:
    """The bleeds of a series in one line, and in how many of its slices they are."""
    if rows[list(LABELS)].isna().all(axis=None):
        return "no labels"
    subtypes = [ABBREVIATIONS[name] for name in SUBTYPES if rows[name].eq(1).any()]
    bleeding = int(rows[ANY].eq(1).sum())
    if not bleeding and not subtypes:
        return "no bleed"
    return f"{' '.join(subtypes) or 'bleed'} {bleeding}/{len(rows)}"


def _write_page(path: Path, store: Path, volumes: Sequence[_Volume]) -> None:
    """Draw one page, unless `path` shows the same series, of the same files, with the same text."""
    stored = [require_metadata(store, volume.volume_id) for volume in volumes]
    facts = [
        (volume, series.files_sha256, series.preprocessing_sha256, _index(series))
        for volume, series in zip(volumes, stored, strict=True)
    ]
    digest = hashlib.sha256(repr((_FORMAT, facts)).encode()).hexdigest().encode()
    if _comment(path) == digest:
        return

    rows = -(-len(volumes) // _COLUMNS)
    page = Image.new("L", (_COLUMNS * _SIDE, rows * (_SIDE + _CAPTION)))
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(_FONT_PX)
    for number, (volume, series) in enumerate(zip(volumes, stored, strict=True)):
        row, column = divmod(number, _COLUMNS)
        left, top = column * _SIDE, row * (_SIDE + _CAPTION)
        hu = read_slice(store, volume.volume_id, _index(series))
        page.paste(slice_image(hu, "brain", _SIDE), (left, top))
        name = f"{volume.patient_id} {volume.volume_id[-UID_END:]}"
        draw.text((left + 3, top + _SIDE + 1), name, fill=_FAINT, font=font)
        draw.text((left + 3, top + _SIDE + 16), volume.labels, fill=_INK, font=font)

    with replacing(path) as partial:
        page.save(partial, format="JPEG", quality=_QUALITY, comment=digest)


def _index(series: SeriesMetadata) -> int:
    """The slice with most brain; the middle one where none shows brain."""
    brain_cm2 = series.hu_features[:, BRAIN_CM2]
    return int(brain_cm2.argmax()) if brain_cm2.any() else len(series) // 2


def slice_image(hu: np.ndarray, window_name: str, side: int) -> Image.Image:
    """One slice (H, W) in Hounsfield units as a grey image of `side` x `side` pixels, in the window
    of this name.
    """
    grey = np.round(window(window_name).apply(hu) * 255).astype(np.uint8)
    return Image.fromarray(grey).resize((side, side), Image.Resampling.LANCZOS)


def _comment(path: Path) -> bytes | None:
    """The comment in a JPEG file; None where there is no file, none in it, or no whole one."""
    try:
        with Image.open(path) as page:
            page.load()
            comment: bytes | None = page.info.get("comment")
            return comment
    except OSError:  # Pillow's own error for what is no image is one too
        return None
