"""The JPEG images of one CT-ICH patient: read, and paired to slices.

Layout: `Patients_CT/<nnn>/{brain,bone}/<n>.jpg`. Slice 1 is the most inferior.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from PIL import Image

from ich3d.sources.ct_ich.hu import GreyImages

IMAGES: Final = "Patients_CT"


class IncompleteSlice(NamedTuple):
    """A slice that cannot be imported.

    slice_number: number of its brain image.
    lacks: `brain` or `bone`, the window without a usable image.
    detail: the file, and what is wrong with it.
    """

    slice_number: int
    lacks: str
    detail: str


@dataclass(frozen=True)
class WindowPair:
    """The two images of one slice, grey levels uint8 (Y, X), and the size of both JPEG files."""

    number: int
    brain: np.ndarray
    bone: np.ndarray
    jpeg_bytes: int


def read_window(folder: Path, window: str) -> GreyImages:
    """The images in `folder` of one window (`brain` or `bone`), but for undecodable ones."""
    images = {number: _read_grey(path) for number, path in _numbered(folder, window).items()}
    return {number: image for number, image in sorted(images.items()) if image is not None}


def pair_windows(
    folder: Path, brain: GreyImages, bone: GreyImages, shift: int
) -> tuple[list[WindowPair], list[IncompleteSlice]]:
    """The slices of one patient that have both images, inferior to superior, and those that do not.

    Args:
        folder: the patient's folder.
        brain: images that could be decoded, by number.
        bone: likewise.
        shift: number of a bone image minus number of the brain image of the same slice.
    """
    pairs: list[WindowPair] = []
    incomplete: list[IncompleteSlice] = []
    for number in _slice_numbers(folder, shift):
        brain_image, bone_image = brain.get(number), bone.get(number + shift)
        if brain_image is not None and bone_image is not None:
            paths = _path(folder, "brain", number), _path(folder, "bone", number + shift)
            jpeg_bytes = sum(path.stat().st_size for path in paths)
            pairs.append(WindowPair(number, brain_image, bone_image, jpeg_bytes))
            continue
        if brain_image is None:
            incomplete.append(_without_image(folder, "brain", number, number))
        if bone_image is None:
            incomplete.append(_without_image(folder, "bone", number, number + shift))
    return pairs, incomplete


def picture_name(patient: str, window: str, number: int) -> str:
    """Path of an image below the data set's folder, for messages and tables."""
    return f"{IMAGES}/{patient}/{window}/{number}.jpg"


def pictures_digest(folder: Path) -> str:
    """SHA-256 of names, sizes and modification times of all JPEG files below `folder`."""
    facts = []
    for path in sorted(folder.rglob("*.jpg")):
        status = path.stat()
        facts.append((path.relative_to(folder).as_posix(), status.st_size, status.st_mtime_ns))
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _numbered(folder: Path, window: str) -> dict[int, Path]:
    """The image files of one window, by number."""
    # The brain folders also hold outlines of the bleeds, `<n>_HGE_Seg.jpg`.
    paths = [path for path in (folder / window).glob("*.jpg") if path.stem.isdecimal()]
    return {int(path.stem): path for path in paths}


def _slice_numbers(folder: Path, shift: int) -> list[int]:
    """Ascending numbers of all slices of which either window has a file."""
    of_bone = {number - shift for number in _numbered(folder, "bone")}
    numbers = _numbered(folder, "brain").keys() | of_bone
    return sorted(number for number in numbers if number > 0)  # a bone image can precede slice 1


def _without_image(
    folder: Path, window: str, slice_number: int, picture_number: int
) -> IncompleteSlice:
    exists = _path(folder, window, picture_number).exists()
    state = "cannot be decoded" if exists else "is missing"
    name = picture_name(folder.name, window, picture_number)
    return IncompleteSlice(slice_number, window, f"{name} {state}")


def _path(folder: Path, window: str, number: int) -> Path:
    return folder / window / f"{number}.jpg"


def _read_grey(path: Path) -> np.ndarray | None:
    """Grey levels uint8 (Y, X) of a JPEG file; None where it cannot be decoded."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("L"))
    except OSError:  # raised by Pillow for missing, truncated and other files
        return None
