"""The data types that packages exchange.

They are frozen. Those that hold arrays check sizes and order when they are created; their methods
only derive values from their own fields.

Conventions, which hold in the whole package:

Axes
    Z slices, Y rows, X columns of a source image; H rows, W columns of a prepared image;
    D width of an embedding; K = 6 labels in the order of `ich3d.core.labels.LABELS`.
Frame
    Positions and directions are in DICOM's patient coordinate system (PS3.3 C.7.6.2.1.1), in
    millimetres: x grows to the patient's left (L), y to posterior (P), z to superior (S).
Slice order and z_mm
    `z_mm` is a projection of ImagePositionPatient, not its z coordinate. `Series` and `Volume` are
    sorted along the slice normal `row_dir x col_dir`, which may point up or down. From
    `PreparedSeries` on, `z_mm` is measured along the superior normal (the slice normal, reversed
    where it points down), and slices run from inferior to superior.
Spacing
    `spacing_mm` is the step between slices, `pixel_spacing_mm` (rows, columns) is in plane.
Pixel values
    `hu` is int16 in Hounsfield units: -1000 is air, 0 is water.
Problems
    Bad input is a value, not an exception:

    ============== ===========================================================================
    word           meaning
    ============== ===========================================================================
    Issue          a warning; what it is about is used
    InvalidSlice   a file, a frame of it or a zip that cannot be read (`dicom.headers.read`)
    Rejected       a file or a whole series that should have been a CT volume and is not used
    LeftOut        files that are in no volume, without a failure: another object, a copy, or,
                   under the lenient policy, the file of a dropped slice
    DroppedSlice   under the lenient policy, a slice that was removed so that its series is used
    UnscoredSlice  a dropped slice in the tables of a prediction (`inference.scoring`)
    refused        a scored series that gets no DICOM results or page, and why (a Rejected)
    ============== ===========================================================================

    `rejected.csv` and `failures.csv` list what is rejected; `failures.csv` also what is refused.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ich3d.core.issues import IssueCode
from ich3d.core.labels import LABELS, STAGES

Vector3 = tuple[float, float, float]
"""x, y, z in the patient coordinate system (LPS)."""


class SliceKey(NamedTuple):
    """What identifies one slice, also where files repeat a UID.

    Attributes:
        sop_uid: SOPInstanceUID.
        frame: number of the frame, from 1; None in a single-frame file.
        path: path of the file relative to the searched folder, which is `FileRef.name`.
    """

    sop_uid: str
    frame: int | None
    path: str


@dataclass(frozen=True)
class Issue:
    """One problem of a file, a slice or a series.

    Attributes:
        code: the kind of problem.
        detail: one sentence for the user; it names the file or the tag.
    """

    code: IssueCode
    detail: str


@dataclass(frozen=True)
class Rejected:
    """Files that should have been a CT volume, or a part of one, but cannot be used.

    Attributes:
        subject: what was rejected: a path relative to the searched folder, or a volume_id.
        code: the kind of problem.
        detail: one sentence for the user; it names the file or the tag.
        paths: all files that cannot be used because of it, relative to the searched folder.
        sop_uids: SOPInstanceUID of the slices in these files, where it can be read.
    """

    subject: str
    code: IssueCode
    detail: str
    paths: tuple[str, ...] = ()
    sop_uids: tuple[str, ...] = field(default=(), compare=False)

    @property
    def sentence(self) -> str:
        """Subject and detail; the subject is not repeated where the detail begins with it."""
        if self.detail.startswith(self.subject):
            return self.detail
        return f"{self.subject}: {self.detail}"


@dataclass(frozen=True)
class LeftOut:
    """Files that are in no CT volume, and that count as no failure.

    They are no part of a CT volume, such as a localizer or a copy, or, under the lenient policy,
    they hold a slice that cannot be used and was dropped from its series.

    Attributes:
        paths: the files, relative to the searched folder.
        code: why they are left out.
        detail: one sentence for the user.
        copy_of: of a copy, its SOPInstanceUID and that of the slice that is used in its place.
    """

    paths: tuple[str, ...]
    code: IssueCode
    detail: str
    copy_of: tuple[str, str] | None = field(default=None, compare=False)


class ZipSpan(NamedTuple):
    """Where a member lies in a zip, as the zip's list of members says.

    With it a member is opened without that list, which takes 0.5 GB for a million members.

    Attributes:
        offset: where the member's local header begins, in bytes.
        packed_bytes: length as packed.
        unpacked_bytes: length as unpacked.
        method: compression method (PKWARE APPNOTE 4.4.5).
        crc32: checksum of the unpacked bytes.
    """

    offset: int
    packed_bytes: int
    unpacked_bytes: int
    method: int
    crc32: int


class FileRef(NamedTuple):
    """Where the bytes of a file are: on disk, or inside a zip.

    Attributes:
        path: the file on disk, or the zip that holds it.
        name: path relative to the searched folder, with forward slashes, as shown in messages. A
            zip counts as a folder: `study.zip/0001.dcm`. Keys, rejections and tables hold this
            text as `path` or `paths`.
        span: where the file lies inside the zip; None for a file on disk.
    """

    path: Path
    name: str
    span: ZipSpan | None = None


@dataclass(frozen=True)
class SliceHeader:
    """Header of one slice, without pixels: geometry in LPS, lengths in millimetres.

    Attributes:
        file: the file that holds the slice.
        sop_uid, series_uid, study_uid: SOPInstanceUID, SeriesInstanceUID, StudyInstanceUID.
        patient_id: PatientID.
        position_mm: centre of the first pixel (ImagePositionPatient), in mm.
        row_dir: unit vector along a row, in which the column index grows.
        col_dir: unit vector along a column, in which the row index grows.
        pixel_spacing_mm: distance between rows, then between columns (PixelSpacing), in mm.
        rows, columns: size of the image in pixels.
        slope, intercept: HU = slope * stored value + intercept.
        bits_stored: BitsStored.
        signed: whether stored values are signed (PixelRepresentation).
        frame: number of the frame, from 1; None in a single-frame file.
        image_type, frame_type, kernel, acquisition_number, transfer_syntax, frame_of_reference,
            stack_id, series_number, series_time, acquisition_time, kvp, thickness, contrast_agent,
            series_description, protocol_name, study_description, manufacturer,
            manufacturer_model_name: text of ImageType, FrameType (with its
            VolumeBasedCalculationTechnique), ConvolutionKernel, AcquisitionNumber,
            TransferSyntaxUID, FrameOfReferenceUID, StackID, SeriesNumber, SeriesTime and
            AcquisitionTime (with their dates), KVP, SliceThickness, ContrastBolusAgent (with its
            phase), SeriesDescription, ProtocolName, StudyDescription, Manufacturer and
            ManufacturerModelName; empty where absent. Descriptions are free text that may name a
            patient: outputs show SeriesDescription alone, as `dicom.origin` masks it.
        patient_name, birth_date: PatientName and PatientBirthDate, for that mask: no output shows
            them.
        temporal_position: TemporalPositionIndex, TemporalPositionTimeOffset or
            TemporalPositionIdentifier, as text to compare.
        cardiac_phase: NominalPercentageOfCardiacPhase, as text to compare.
        rescale_type: RescaleType, the unit of rescaled values; empty where absent.
        left_out_frames: what was left out of the same multi-frame file because it is not in HU, as
            one sentence; empty where nothing was.
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
    acquisition_number: str = ""
    transfer_syntax: str = ""
    frame_of_reference: str = ""
    stack_id: str = ""
    series_number: str = ""
    series_time: str = ""
    acquisition_time: str = ""
    kvp: str = ""
    thickness: str = ""
    contrast_agent: str = ""
    series_description: str = ""
    protocol_name: str = ""
    study_description: str = ""
    manufacturer: str = ""
    manufacturer_model_name: str = ""
    patient_name: str = field(default="", repr=False)
    birth_date: str = field(default="", repr=False)
    temporal_position: str = ""
    cardiac_phase: str = ""
    rescale_type: str = ""
    left_out_frames: str = ""

    @property
    def name(self) -> str:
        """The slice in messages: name of its file, and the frame's number in a multi-frame file."""
        return self.file.name if self.frame is None else f"{self.file.name} frame {self.frame}"

    @property
    def key(self) -> SliceKey:
        """The key of the slice in prepared series and tables."""
        return SliceKey(self.sop_uid, self.frame, self.file.name)


@dataclass(frozen=True)
class DroppedSlice:
    """A slice that the lenient policy removed from its series because it cannot be used.

    Attributes:
        file: the file that holds the slice.
        frame: number of the frame, from 1; None in a single-frame file.
        sop_uid: SOPInstanceUID; empty where it cannot be read.
        position_mm: ImagePositionPatient, in mm; None where it cannot be read.
        code: why the slice cannot be used.
    """

    file: FileRef
    frame: int | None
    sop_uid: str
    position_mm: Vector3 | None
    code: IssueCode


@dataclass(frozen=True)
class Series:
    """Sorted headers of the Z slices of one volume. A DICOM series may hold several volumes.

    Attributes:
        volume_id: SeriesInstanceUID, with a number appended where the series holds several volumes.
        series_uid, study_uid: SeriesInstanceUID, StudyInstanceUID.
        patient_id: PatientID.
        headers: one for each slice, in order along the slice normal.
        z_mm: ImagePositionPatient projected on the slice normal `row_dir x col_dir` (Z,) float64,
            in mm, strictly increasing; where the normal points down, toward inferior.
        spacing_mm: median step between slices in mm, or the equal step of which positions are
            rounded; None for a single slice.
        tilt_deg: angle in degrees between the slice normal and the direction in which slices are
            stacked, which is the gantry tilt; None for a single slice.
        is_regular: whether all steps are equal within tolerance and no slice is shifted sideways;
            True for fewer than three slices.
        issues: warnings that headers alone give. `Volume.issues` repeats them and is complete.
        dropped: slices that were removed because they cannot be used.

    Raises:
        ValueError: `headers` and `z_mm` differ in length, or `z_mm` does not increase.
    """

    volume_id: str
    series_uid: str
    study_uid: str
    patient_id: str
    headers: tuple[SliceHeader, ...]
    z_mm: np.ndarray
    spacing_mm: float | None
    tilt_deg: float | None
    is_regular: bool
    issues: tuple[Issue, ...] = ()
    dropped: tuple[DroppedSlice, ...] = ()

    def __post_init__(self) -> None:
        if len(self.headers) != len(self.z_mm):
            raise ValueError(f"{len(self.headers)} headers but {len(self.z_mm)} positions")
        if np.any(np.diff(self.z_mm) <= 0):
            raise ValueError("z_mm must increase along the slice normal")

    def __len__(self) -> int:
        return len(self.headers)

    @property
    def paths(self) -> tuple[str, ...]:
        """`FileRef.name` of the files in slice order, each once: a file may hold many slices."""
        return tuple(dict.fromkeys(header.file.name for header in self.headers))

    @property
    def sop_uids(self) -> tuple[str, ...]:
        """SOPInstanceUID of each slice, in slice order, each once: frames of a file share it."""
        return tuple(dict.fromkeys(header.sop_uid for header in self.headers))

    def reject(self, issue: Issue) -> Rejected:
        """This series as rejected for `issue`, with all its files."""
        return Rejected(self.volume_id, issue.code, issue.detail, self.paths, self.sop_uids)


@dataclass(frozen=True)
class Volume:
    """The pixels of one series in Hounsfield units.

    Attributes:
        series: headers of the slices, in the order of `hu`.
        hu: (Z, Y, X) int16, Hounsfield units.
        affine_mm: (4, 4), from index (column, row, slice) to LPS millimetres; sheared where the
            gantry was tilted; None where steps between slices are irregular.
        issues: all warnings: those of `series.issues`, then those that only pixels show.

    Raises:
        ValueError: `hu` is not int16 (Z, Y, X), or has not one slice for each header.
    """

    series: Series
    hu: np.ndarray
    affine_mm: np.ndarray | None
    issues: tuple[Issue, ...] = ()

    def __post_init__(self) -> None:
        if self.hu.dtype != np.int16 or self.hu.ndim != 3:
            raise ValueError(f"hu must be int16 (Z, Y, X), got {self.hu.dtype} {self.hu.shape}")
        if len(self.hu) != len(self.series):
            raise ValueError(f"{len(self.hu)} slices of pixels for {len(self.series)} headers")

    @property
    def keys(self) -> tuple[SliceKey, ...]:
        """The key of each of the Z slices, in the order of `hu`."""
        return tuple(header.key for header in self.series.headers)


@dataclass(frozen=True)
class Acquisition:
    """Geometry and encoding of a series as acquired; compared with those of the training set.

    Attributes:
        n_slices: number of slices.
        spacing_mm: median distance between neighbouring slices; None for a single slice.
        largest_gap_mm: largest distance between neighbouring slices; None for a single slice.
        tilt_deg: gantry tilt in degrees; None where the headers do not tell it.
        is_regular: as in `Series`: equal steps and no sideways shift.
        rows: rows of the source image.
        columns: columns of the source image.
        pixel_mm: distance between the rows of the source image.
        transfer_syntaxes: TransferSyntaxUID of the files, each once, sorted.
    """

    n_slices: int
    spacing_mm: float | None
    largest_gap_mm: float | None
    tilt_deg: float | None
    is_regular: bool
    rows: int
    columns: int
    pixel_mm: float
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True)
class Cropping:
    """How the images of a prepared series were cut from the acquired ones.

    An acquired image is transposed, then flipped, then resampled to a square grid around the head.

    Attributes:
        rows, columns: size of the acquired image in pixels.
        pixel_spacing_mm: its distance between rows, then between columns, in mm.
        is_transposed: whether rows and columns are exchanged.
        is_flipped: whether the order of the rows, then that of the columns, is reversed.
        center_mm: centre (y, x) of the grid, in mm from the corner of the first pixel of the
            transposed and flipped image.
        pixel_mm: distance between the pixels of the grid.
    """

    rows: int
    columns: int
    pixel_spacing_mm: tuple[float, float]
    is_transposed: bool
    is_flipped: tuple[bool, bool]
    center_mm: tuple[float, float]
    pixel_mm: float


@dataclass(frozen=True)
class SeriesMetadata:
    """What is known of a prepared series besides its pixels. Slices run inferior to superior.

    Attributes:
        volume_id: names the volume; a SeriesInstanceUID may hold several.
        series_uid: SeriesInstanceUID.
        study_uid: StudyInstanceUID.
        patient_id: pseudonym of the patient, never the PatientID.
        z_mm: position of each slice along the superior normal in mm, float64 (Z,), increasing.
        keys: SOPInstanceUID, frame and path of each slice (Z,).
        slice_hashes: hash of each slice's HU (Z,); empty for a slice with too little brain.
        hu_features: what HU say of each slice without a network, float32 (Z, F), with the columns
            of `ich3d.prepare.hu_features`.
        issues: as `Volume.issues`: all warnings, from headers and from pixels.
        acquisition: geometry and encoding of the source images.
        preprocessing_sha256: hash of the grid and the store format it was prepared with.
        files_sha256: hash of names, sizes and modification times of its DICOM files.
    """

    volume_id: str
    series_uid: str
    study_uid: str
    patient_id: str
    z_mm: np.ndarray
    keys: tuple[SliceKey, ...]
    slice_hashes: tuple[str, ...]
    hu_features: np.ndarray
    issues: tuple[Issue, ...]
    acquisition: Acquisition
    preprocessing_sha256: str
    files_sha256: str

    def __post_init__(self) -> None:
        columns = (self.z_mm, self.keys, self.slice_hashes, self.hu_features)
        if len({len(column) for column in columns}) > 1:
            raise ValueError(
                "z_mm, keys, slice_hashes and hu_features must have the same number of slices"
            )
        if np.any(np.diff(self.z_mm) <= 0):
            raise ValueError("z_mm must increase from inferior to superior")

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class PreparedSeries(SeriesMetadata):
    """One series as every model reads it, in training and in inference.

    `hu` int16 (Z, H, W) holds Hounsfield units on the model's grid: slices inferior to superior,
    rows toward posterior, columns toward the patient's left. `cropping` leads back to the acquired
    images; None for a series that was read from a store, which does not keep it.
    """

    hu: np.ndarray
    cropping: Cropping | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hu.dtype != np.int16 or self.hu.ndim != 3:
            raise ValueError(f"hu must be int16 (Z, H, W), got {self.hu.dtype} {self.hu.shape}")
        if len(self.hu) != len(self):
            raise ValueError(f"{len(self.hu)} slices of pixels for {len(self)} keys")

    @property
    def metadata(self) -> SeriesMetadata:
        """The series without its pixels."""
        values = {each.name: getattr(self, each.name) for each in fields(SeriesMetadata)}
        return SeriesMetadata(**values)


@dataclass(frozen=True)
class TrainingGroups:
    """The patient groups that a model was trained on.

    Scores and embeddings carry it, so that a later stage can check that no model saw the patients
    it scores: `group_id in scores.training_groups`.
    """

    groups: frozenset[str]

    @classmethod
    def of(cls, groups: Iterable[str]) -> "TrainingGroups":
        """The set of the given group ids; repetitions do not matter."""
        return cls(frozenset(groups))

    @property
    def sha256(self) -> str:
        """Hash of the sorted group ids, as hexadecimal text."""
        return hashlib.sha256("\n".join(sorted(self.groups)).encode()).hexdigest()

    def __contains__(self, group_id: str) -> bool:
        return group_id in self.groups


@dataclass(frozen=True)
class SliceEmbeddings:
    """Output of a slice encoder for one series.

    Attributes:
        volume_id: as in `Series`.
        embeddings: (Z, D) float32; float16 is read as well.
        logits: (Z, K) float32.
        hu_features: as in `SeriesMetadata`, float32 (Z, F).
        encoder_id: names the encoder, e.g. in error messages.
        training_groups: patient groups that the encoder was trained on. There is no default: an
            empty set would pass every check for held-out patients.

    Raises:
        ValueError: `logits` is not (Z, K), or `hu_features` has not one row a slice.
    """

    volume_id: str
    embeddings: np.ndarray
    logits: np.ndarray
    hu_features: np.ndarray
    encoder_id: str
    training_groups: TrainingGroups

    def __post_init__(self) -> None:
        if self.logits.shape != (len(self.embeddings), len(LABELS)):
            raise ValueError(f"logits must be (Z, {len(LABELS)}), got {self.logits.shape}")
        if len(self.hu_features) != len(self.embeddings):
            raise ValueError(
                f"{len(self.hu_features)} rows of hu_features for {len(self.embeddings)} embeddings"
            )

    def __len__(self) -> int:
        return len(self.embeddings)

    def part(self, run: slice) -> "SliceEmbeddings":
        """A run of its slices, as a series of its own."""
        return replace(
            self,
            embeddings=self.embeddings[run],
            logits=self.logits[run],
            hu_features=self.hu_features[run],
        )


@dataclass(frozen=True)
class SliceScores:
    """Probabilities that one stage gives to the slices of one series.

    Attributes:
        volume_id: as in `Series`.
        stage: one of `ich3d.core.labels.STAGES`.
        prob: (Z, K) floating point, probabilities 0..1.
        training_groups: patient groups that the stage's models were trained on; no default, as in
            `SliceEmbeddings`.

    Raises:
        ValueError: the stage is unknown, or `prob` is not (Z, K) in 0..1.
    """

    volume_id: str
    stage: str
    prob: np.ndarray
    training_groups: TrainingGroups

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise ValueError(f"stage must be one of {STAGES}, got {self.stage!r}")
        if self.prob.ndim != 2 or self.prob.shape[1] != len(LABELS):
            raise ValueError(f"prob must be (Z, {len(LABELS)}), got {self.prob.shape}")
        if not np.all((self.prob >= 0) & (self.prob <= 1)):
            raise ValueError(f"{self.stage} scores of {self.volume_id} are outside 0..1")
