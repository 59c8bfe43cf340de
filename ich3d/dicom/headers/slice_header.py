"""Turn the elements of one slice into a `SliceHeader`, checked by the rules of PS3.3."""

import math
from typing import Final, NamedTuple

from ich3d.core.issues import IssueCode
from ich3d.core.types import FileRef, SliceHeader, Vector3
from ich3d.dicom.headers.elements import Elements, InvalidHeader, tag_text
from ich3d.dicom.limits import MAX_PIXELS

UNIT_TOLERANCE: Final = 1e-2
"""How far ImageOrientationPatient may be from two perpendicular unit vectors: many files round it
to two decimals (0.98, -0.19)."""

SMALLEST_PIXEL_MM: Final = 1e-3
"""No CT resolves a thousandth of a millimetre: a smaller PixelSpacing is damage."""


class PixelFormat(NamedTuple):
    """Size in pixels and bits per pixel of the monochrome frames of a file."""

    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    signed: bool

    @property
    def frame_bytes(self) -> int:
        """Length of one uncompressed frame in bytes."""
        return self.rows * self.columns * self.bits_allocated // 8


def slice_header(elements: Elements, file: FileRef, pixel_format: PixelFormat) -> SliceHeader:
    """Return the header of one slice: positions in mm (LPS), directions as unit vectors.

    Nothing is guessed: a missing rescale or spacing has no default.

    Args:
        elements: the elements of a single-frame file, or of one frame of a multi-frame file.
        file: the file that holds the slice.
        pixel_format: from `read_pixel_format`; all frames of a file share it.

    Raises:
        InvalidHeader: a value is missing or not allowed; the message names the tag.
    """
    x, y, z = elements.numbers("ImagePositionPatient", 3, IssueCode.NO_POSITION)
    row_dir, col_dir = _directions(elements)
    pixel_spacing_mm = _pixel_spacing_mm(elements)
    slope, intercept = _rescale(elements)

    return SliceHeader(
        file=file,
        sop_uid=elements.text("SOPInstanceUID"),
        series_uid=elements.text("SeriesInstanceUID"),
        study_uid=elements.text("StudyInstanceUID"),
        patient_id=elements.patient_id,
        position_mm=(x, y, z),
        row_dir=row_dir,
        col_dir=col_dir,
        pixel_spacing_mm=pixel_spacing_mm,
        rows=pixel_format.rows,
        columns=pixel_format.columns,
        slope=slope,
        intercept=intercept,
        bits_stored=pixel_format.bits_stored,
        signed=pixel_format.signed,
        image_type=elements.text("ImageType"),
        frame_type=_frame_type(elements),
        kernel=elements.text("ConvolutionKernel"),
        acquisition_number=_acquisition_number(elements),
        transfer_syntax=elements.transfer_syntax,
        frame_of_reference=elements.text("FrameOfReferenceUID"),
        series_number=elements.text("SeriesNumber"),
        stack_id=elements.text("StackID"),
        series_time=elements.text("SeriesDate") + elements.text("SeriesTime"),
        acquisition_time=_acquisition_time(elements),
        kvp=elements.text("KVP"),
        thickness=elements.text("SliceThickness"),
        contrast_agent=_contrast_agent(elements),
        series_description=elements.text("SeriesDescription"),
        protocol_name=elements.text("ProtocolName"),
        study_description=elements.text("StudyDescription"),
        temporal_position=_temporal_position(elements),
        cardiac_phase=elements.values.get("NominalPercentageOfCardiacPhase", b"").hex(),
        rescale_type=elements.text("RescaleType"),
    )


def read_pixel_format(elements: Elements) -> PixelFormat:
    """Return the size and the bits of each frame, by the Image Pixel module (PS3.3 C.7.6.3.1).

    Raises InvalidHeader with UNREADABLE where the frame is not monochrome or its values are not
    allowed, and with TOO_LARGE where it has more than `MAX_PIXELS`.
    """
    if not elements.text("PhotometricInterpretation"):
        raise _unreadable(f"{tag_text('PhotometricInterpretation')} is missing")
    if elements.unsigned_short("SamplesPerPixel") != 1:
        raise _unreadable(f"{tag_text('SamplesPerPixel')} is not 1")

    rows, columns = elements.unsigned_short("Rows"), elements.unsigned_short("Columns")
    if min(rows, columns) == 0:
        raise _unreadable(f"{tag_text('Rows')} or {tag_text('Columns')} is 0")
    if rows * columns > MAX_PIXELS:
        size = f"{tag_text('Rows')} {rows} x {tag_text('Columns')} {columns}"
        raise InvalidHeader(
            IssueCode.TOO_LARGE, f"{size} is more than {MAX_PIXELS:,} pixels, the limit of a slice"
        )

    allocated = elements.unsigned_short("BitsAllocated")
    stored = elements.unsigned_short("BitsStored")
    if allocated not in (8, 16, 32):
        raise _unreadable(f"{tag_text('BitsAllocated')} is {allocated} and not 8, 16 or 32")
    if not 1 <= stored <= allocated:
        raise _unreadable(f"{tag_text('BitsStored')} is {stored}, of {allocated} allocated bits")

    representation = elements.unsigned_short("PixelRepresentation")
    if representation not in (0, 1):
        raise _unreadable(f"{tag_text('PixelRepresentation')} is neither 0 nor 1")
    return PixelFormat(rows, columns, allocated, stored, signed=representation == 1)


def _directions(elements: Elements) -> tuple[Vector3, Vector3]:
    """Row and column direction as unit vectors (PS3.3 C.7.6.2.1.1)."""
    cosines = elements.numbers("ImageOrientationPatient", 6, IssueCode.NO_ORIENTATION)
    a, b, c, d, e, f = cosines
    row_length, col_length = math.hypot(a, b, c), math.hypot(d, e, f)

    dot_product = a * d + b * e + c * f
    deviation = max(abs(row_length - 1), abs(col_length - 1), abs(dot_product))
    if not deviation <= UNIT_TOLERANCE:
        raise InvalidHeader(
            IssueCode.NO_ORIENTATION,
            f"{tag_text('ImageOrientationPatient')} does not hold two perpendicular unit vectors",
        )

    row_dir = (a / row_length, b / row_length, c / row_length)
    col_dir = (d / col_length, e / col_length, f / col_length)
    return row_dir, col_dir


def _pixel_spacing_mm(elements: Elements) -> tuple[float, float]:
    """Distance between rows and between columns in mm (PS3.3 C.7.6.2, 10.7.1.3)."""
    code = IssueCode.NO_PIXEL_SPACING
    between_rows, between_columns = elements.numbers("PixelSpacing", 2, code)
    if min(between_rows, between_columns) <= 0:
        raise InvalidHeader(code, f"{tag_text('PixelSpacing')} is not positive")
    if min(between_rows, between_columns) < SMALLEST_PIXEL_MM:
        raise InvalidHeader(code, f"{tag_text('PixelSpacing')} is below {SMALLEST_PIXEL_MM} mm")
    return between_rows, between_columns


def _rescale(elements: Elements) -> tuple[float, float]:
    """RescaleSlope and RescaleIntercept: HU = slope * stored value + intercept."""
    (slope,) = elements.numbers("RescaleSlope", 1, IssueCode.NO_RESCALE)
    if slope == 0:
        raise InvalidHeader(IssueCode.NO_RESCALE, f"{tag_text('RescaleSlope')} is 0")
    (intercept,) = elements.numbers("RescaleIntercept", 1, IssueCode.NO_RESCALE)
    return slope, intercept


def _acquisition_number(elements: Elements) -> str:
    """AcquisitionNumber, or that of the frame in a multi-frame file (PS3.3 C.7.6.16.2.2, VR US)."""
    if "FrameAcquisitionNumber" in elements.values:
        return str(elements.unsigned_short("FrameAcquisitionNumber"))
    return elements.text("AcquisitionNumber")


def _acquisition_time(elements: Elements) -> str:
    """Date and time of the acquisition, the date only where it is there (VR DT, or DA and TM)."""
    date_time = (
        elements.text("FrameAcquisitionDateTime")
        or elements.text("FrameReferenceDateTime")
        or elements.text("AcquisitionDateTime")
    )
    time = elements.text("AcquisitionTime")
    return date_time or (elements.text("AcquisitionDate") + time if time else "")


def _frame_type(elements: Elements) -> str:
    """FrameType and, where the frame is computed from a volume, how (PS3.3 C.8.16.2.1.3)."""
    technique = elements.text("VolumeBasedCalculationTechnique")
    is_computed = technique not in ("", "NONE")
    return elements.text("FrameType") + (f"\\{technique}" if is_computed else "")


def _contrast_agent(elements: Elements) -> str:
    """ContrastBolusAgent and, in a multi-frame file, the frame's phase (PS3.3 C.7.6.16.2.12).

    Where another attribute tells of contrast agent: `in`, and its keyword. Empty for a frame to
    which none was given.
    """
    is_given = elements.text("ContrastBolusAgentAdministered")
    if is_given == "NO":
        return ""
    texts = (elements.text("ContrastBolusAgent"), elements.text("ContrastBolusAgentPhase"))
    if any(texts):
        return " ".join(filter(None, texts))
    if is_given == "YES":
        return "in ContrastBolusAgentAdministered"
    if elements.text("ContrastBolusIngredient"):
        return "in ContrastBolusIngredient"
    return "in ContrastBolusVolume" if elements.text("ContrastBolusVolume").strip("0.") else ""


def _temporal_position(elements: Elements) -> str:
    """TemporalPositionIndex or TemporalPositionTimeOffset of a frame (VR UL and FD).

    In other files TemporalPositionIdentifier. They serve only to tell phases apart.
    """
    keywords = ("TemporalPositionIndex", "TemporalPositionTimeOffset")
    of_frame = [elements.values.get(keyword, b"").hex() for keyword in keywords]
    return next(filter(None, of_frame), elements.text("TemporalPositionIdentifier"))


def _unreadable(problem: str) -> InvalidHeader:
    return InvalidHeader(IssueCode.UNREADABLE, problem)
