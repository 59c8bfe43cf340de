"""The types that walk between rooms. Frozen, checked at birth, no operations on pixels.

Axes: Z slices, Y rows, X columns of the source image; H x W prepared pixels; D embedding width;
K = 6 labels in the order of `core.labels.LABELS`. Millimetres are in DICOM's patient frame (LPS:
x to the patient's left, y to posterior, z to superior; PS3.3 C.7.6.2.1.1).
`Series` and `Volume` ascend along the slice normal; from `PreparedSeries` on, slices run inferior
to superior.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ich3d.core.issues import IssueCode
from ich3d.core.labels import LABELS, STAGES

Vector3 = tuple[float, float, float]


class SliceKey(NamedTuple):
    """What names a slice: its SOPInstanceUID, its frame (None in a single-frame file), its path below the
    searched folder."""

    sop_uid: str
    frame: int | None
    path: str


@dataclass(frozen=True)
class Reason:
    """A code and one sentence that names the file or tag."""

    code: IssueCode
    detail: str


@dataclass(frozen=True)
class Rejected:
    """Something that should have been a volume, or part of one, and is not. A value, not an error.

    `subject` is a path relative to the searched folder, or a volume_id; `paths` all files it takes along,
    relative to that folder as well.
    """

    subject: str
    code: IssueCode
    detail: str
    paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class LeftOut:
    """Files that are no part of a CT volume, and nothing is wrong with that."""

    paths: tuple[str, ...]
    code: IssueCode
    detail: str


class FileRef(NamedTuple):
    """Where the bytes of a file lie: on disk at `path`, or in the zip there, as its `member`.

    `name` is what sentences and tables call it: its place below the searched folder, with forward slashes;
    a member lies in its zip as in a folder.
    """

    path: Path
    name: str
    member: str = ""


@dataclass(frozen=True)
class SliceHeader:
    """One slice's header, without pixels. Directions are unit vectors, lengths millimetres.

    `frame` counts from 1 in a multi-frame file, None in a single-frame one. `image_type`, `frame_type`,
    `kernel`, `acquisition` and `transfer_syntax` are the texts of ImageType, FrameType, ConvolutionKernel,
    AcquisitionNumber and TransferSyntaxUID, empty where the file has none.
    """

    file: FileRef
    sop_uid: str
    series_uid: str
    study_uid: str
    patient_id: str
    position_mm: Vector3
    row_dir: Vector3
    col_dir: Vector3
    pixel_spacing_mm: tuple[float, float]
    rows: int
    columns: int
    slope: float
    intercept: float
    bits_stored: int
    signed: bool
    frame: int | None = None
    image_type: str = ""
    frame_type: str = ""
    kernel: str = ""
    acquisition: str = ""
    transfer_syntax: str = ""

    @property
    def path(self) -> Path:
        """Where the file lies; a member lies in its zip as in a folder, `file` says where its bytes are."""
        return self.file.path / self.file.member.lstrip("/")

    @property
    def name(self) -> str:
        """What sentences call the slice: its file, and its frame in a multi-frame file."""
        return self.file.name if self.frame is None else f"{self.file.name} frame {self.frame}"


@dataclass(frozen=True)
class DroppedSlice:
    """A slice that its series goes on without, and what its file still tells: `sop_uid` is empty and
    `position_mm` None where it does not. `file` and `frame` are as in `SliceHeader`."""

    file: FileRef
    frame: int | None
    sop_uid: str
    position_mm: Vector3 | None
    code: IssueCode


@dataclass(frozen=True)
class Series:
    """Ordered headers of one volume. `z_mm` (Z,) float64 is the projection of ImagePositionPatient
    on the slice normal, strictly increasing; `spacing_mm` its median step (None for one slice). `lost` are
    the slices that were left out of it as flawed."""

    volume_id: str
    series_uid: str
    study_uid: str
    patient_id: str
    headers: tuple[SliceHeader, ...]
    z_mm: np.ndarray
    spacing_mm: float | None
    tilt_deg: float | None
    is_regular: bool
    reasons: tuple[Reason, ...] = ()
    lost: tuple[DroppedSlice, ...] = ()

    def __post_init__(self) -> None:
        if len(self.headers) != len(self.z_mm):
            raise ValueError(f"{len(self.headers)} headers but {len(self.z_mm)} positions")
        if np.any(np.diff(self.z_mm) <= 0):
            raise ValueError("z_mm must increase along the slice normal")

    def __len__(self) -> int:
        return len(self.headers)

    @property
    def paths(self) -> tuple[str, ...]:
        """The names of its files, each once, in the order of the slices."""
        return tuple(dict.fromkeys(header.file.name for header in self.headers))


@dataclass(frozen=True)
class Volume:
    """HU of one series, int16 (Z, Y, X), with the affine from index (column, row, slice) to LPS mm:
    sheared where the gantry was tilted, None where the steps are irregular."""

    series: Series
    hu: np.ndarray
    affine_mm: np.ndarray | None
    reasons: tuple[Reason, ...] = ()

    def __post_init__(self) -> None:
        if self.hu.dtype != np.int16 or self.hu.ndim != 3:
            raise ValueError(f"hu must be int16 (Z, Y, X), got {self.hu.dtype} {self.hu.shape}")
        if len(self.hu) != len(self.series):
            raise ValueError(f"{len(self.hu)} slices of pixels for {len(self.series)} headers")

    @property
    def keys(self) -> tuple[SliceKey, ...]:
        return tuple(SliceKey(h.sop_uid, h.frame, h.file.name) for h in self.series.headers)


@dataclass(frozen=True)
class PreparedSeries:
    """What a model sees of one series. `hu` int16 (Z, H, W), slices inferior to superior, rows toward
    posterior, columns toward the patient's left; `z_mm` (Z,) increasing; `targets` float32 (Z, K),
    NaN where a slice has no label. `group_id` names the patients that must stay in one fold."""

    volume_id: str
    series_uid: str
    study_uid: str
    group_id: str
    fold: int
    pixel_mm: float
    hu: np.ndarray
    z_mm: np.ndarray
    keys: tuple[SliceKey, ...]
    targets: np.ndarray
    codes: str = ""

    def __post_init__(self) -> None:
        n = len(self.hu)
        if self.hu.dtype != np.int16 or self.hu.ndim != 3:
            raise ValueError(f"hu must be int16 (Z, H, W), got {self.hu.dtype} {self.hu.shape}")
        if len(self.z_mm) != n or len(self.keys) != n or self.targets.shape != (n, len(LABELS)):
            raise ValueError("hu, z_mm, keys and targets must agree on the number of slices")
        if np.any(np.diff(self.z_mm) <= 0):
            raise ValueError("z_mm must increase from inferior to superior")

    def __len__(self) -> int:
        return len(self.hu)


@dataclass(frozen=True)
class TrainingGroups:
    """The patient groups that a maker was fitted on, sorted, with their hash."""

    groups: frozenset[str]

    @classmethod
    def of(cls, groups: Iterable[str]) -> "TrainingGroups":
        return cls(frozenset(groups))

    @property
    def sha256(self) -> str:
        return hashlib.sha256("\n".join(sorted(self.groups)).encode()).hexdigest()

    def __contains__(self, group_id: str) -> bool:
        return group_id in self.groups


@dataclass(frozen=True)
class SliceEmbeddings:
    """What an encoder says of one series: `embeddings` float32 (Z, D) and `logits` float32 (Z, K)."""

    volume_id: str
    embeddings: np.ndarray
    logits: np.ndarray
    encoder_id: str
    training_groups: TrainingGroups

    def __post_init__(self) -> None:
        if self.logits.shape != (len(self.embeddings), len(LABELS)):
            raise ValueError(f"logits must be (Z, {len(LABELS)}), got {self.logits.shape}")

    def __len__(self) -> int:
        return len(self.embeddings)


@dataclass(frozen=True)
class SliceScores:
    """Probabilities float32 (Z, K) of one series at one stage."""

    volume_id: str
    stage: str
    prob: np.ndarray
    training_groups: TrainingGroups = field(default_factory=lambda: TrainingGroups(frozenset()))

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise ValueError(f"stage must be one of {STAGES}, got {self.stage!r}")
        if self.prob.ndim != 2 or self.prob.shape[1] != len(LABELS):
            raise ValueError(f"prob must be (Z, {len(LABELS)}), got {self.prob.shape}")
        if not np.all((self.prob >= 0) & (self.prob <= 1)):
            raise ValueError(f"{self.stage} scores of {self.volume_id} leave 0..1")

    @property
    def series_prob(self) -> np.ndarray:
        """Probability (K,) of the series: the maximum over its slices."""
        return np.asarray(self.prob.max(axis=0))
