"""Enhanced CT files: each frame is a slice and has functional groups of its own."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedCTImageStorage, RLELossless

from ich3d.dicom.write import write_series
from tests.helpers.series import stack

Groups = Mapping[str, Sequence]

FRAME_Z_MM = (10.0, 0.0, 15.0, 5.0)
"""Where frames 1 to 4 lie along z; further frames repeat these positions."""

ASCENDING = (1, 3, 0, 2)
"""Indices of the four frames in ascending order of z."""

MOVED_ATTRIBUTES = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "RescaleSlope",
    "RescaleIntercept",
    "AcquisitionNumber",
)
"""Attributes of a single-frame CT that an Enhanced CT holds in functional groups."""


def functional_group(macro: str, **attributes: Any) -> dict[str, Sequence]:
    """The functional group `macro`: a sequence of one item with these attributes."""
    return {macro: Sequence([_dataset(attributes)])}


def no_groups(frame: int) -> Groups:
    """No functional groups but the position of a frame."""
    return {}


def for_frames(numbers: tuple[int, ...], groups: Groups) -> Callable[[int], Groups]:
    """`frame_groups` for `write_enhanced` that gives `groups` to the frames of these numbers."""
    return lambda frame: groups if frame in numbers else {}


def write_enhanced(
    folder: Path,
    name: str = "a",
    n: int = 4,
    frame_groups: Callable[[int], Groups] = no_groups,
    hu: np.ndarray | None = None,
) -> Path:
    """Write an Enhanced CT file of `n` frames and return its path, `<folder>/<name>.dcm`.

    Frame k, counted from 1, lies at `FRAME_Z_MM[k - 1]` and holds slice k - 1 of
    `stack(n, name)` or of `hu (n, Y, X)`. `frame_groups(k)` gives further functional groups of
    frame k, which replace the position of the frame or the groups that all frames share.
    """
    (path,) = write_series(stack(n=1, name=name, file_names=[f"{name}.dcm"]), folder)
    dataset = pydicom.dcmread(path)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    for keyword in MOVED_ATTRIBUTES:
        del dataset[keyword]

    dataset.NumberOfFrames = n
    dataset.SharedFunctionalGroupsSequence = Sequence([_dataset(_shared_groups())])
    dataset.PerFrameFunctionalGroupsSequence = Sequence(
        [_dataset({**_position(frame), **frame_groups(frame)}) for frame in range(1, n + 1)]
    )

    pixels = stack(n=n).hu if hu is None else hu
    dataset.PixelData = pixels.astype("<i2").tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.save_as(path)
    return path


def damage_last_frame(path: Path) -> None:
    """Compress a file and overwrite the compressed bytes of its last frame."""
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.save_as(path)

    content = bytearray(path.read_bytes())
    last_item = content.rindex(b"\xfe\xff\x00\xe0")
    content[last_item + 8 : last_item + 40] = b"\xff" * 32
    path.write_bytes(content)


def _shared_groups() -> Groups:
    return {
        **functional_group("PixelMeasuresSequence", PixelSpacing=[0.5, 0.4]),
        **functional_group("PlaneOrientationSequence", ImageOrientationPatient=[1, 0, 0, 0, 1, 0]),
        **functional_group(
            "PixelValueTransformationSequence", RescaleSlope="1", RescaleIntercept="0"
        ),
    }


def _position(frame: int) -> Groups:
    z_mm = FRAME_Z_MM[(frame - 1) % len(FRAME_Z_MM)]
    return functional_group("PlanePositionSequence", ImagePositionPatient=[-100, -120, z_mm])


def _dataset(attributes: Mapping[str, Any]) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset
