"""The elements of one slice to its header, each checked by what the standard says of it (PS3.3)."""

import math
from typing import Final

from ich3d.core.issues import IssueCode
from ich3d.core.types import FileRef, SliceHeader, Vector3
from ich3d.dicom.headers.elements import Elements, InvalidHeader, tag_text

UNIT_TOLERANCE: Final = 1e-2
"""How far ImageOrientationPatient may be from two perpendicular unit vectors before it is refused: files
that round to two decimals (0.98, -0.19) are common."""

SMALLEST_PIXEL_MM: Final = 1e-3
"""No CT resolves a thousandth of a millimetre; a smaller PixelSpacing is damage."""


def slice_header(elements: Elements, file: FileRef) -> SliceHeader:
    """The header of the one slice that `elements` speak of, or a refusal that names the tag."""
    rows, columns, bits_stored = grey_image(elements)
    x, y, z = elements.numbers("ImagePositionPatient", 3, IssueCode.NO_POSITION)
    row_dir, col_dir = _directions(elements)
    return SliceHeader(
        file=file,
        sop_uid=elements.text("SOPInstanceUID"),
        series_uid=elements.text("SeriesInstanceUID"),
        study_uid=elements.text("StudyInstanceUID"),
        patient_id=elements.patient_id,
        position_mm=(x, y, z),
        row_dir=row_dir,
        col_dir=col_dir,
        pixel_spacing_mm=_pixel_spacing(elements),
        rows=rows,
        columns=columns,
        slope=_slope(elements),
        intercept=elements.numbers("RescaleIntercept", 1, IssueCode.NO_RESCALE)[0],
        bits_stored=bits_stored,
        signed=elements.whole("PixelRepresentation") == 1,
        image_type=elements.text("ImageType"),
        frame_type=elements.text("FrameType"),
        kernel=elements.text("ConvolutionKernel"),
        acquisition=_acquisition(elements),
        transfer_syntax=elements.transfer_syntax,
    )


def _acquisition(elements: Elements) -> str:
    """AcquisitionNumber, in a multi-frame file that of the frame (PS3.3 C.7.6.16.2.2, VR US)."""
    if "FrameAcquisitionNumber" in elements.values:
        return str(elements.whole("FrameAcquisitionNumber"))
    return elements.text("AcquisitionNumber")


def grey_image(elements: Elements) -> tuple[int, int, int]:
    """Rows, columns and bits stored of one grey frame (PS3.3 C.7.6.3.1)."""
    if not elements.text("PhotometricInterpretation"):
        raise InvalidHeader(
            IssueCode.UNREADABLE, f"{tag_text('PhotometricInterpretation')} is missing"
        )
    if elements.whole("SamplesPerPixel") != 1:
        raise InvalidHeader(IssueCode.UNREADABLE, f"{tag_text('SamplesPerPixel')} is not 1")
    rows, columns = elements.whole("Rows"), elements.whole("Columns")
    if min(rows, columns) == 0:
        raise InvalidHeader(
            IssueCode.UNREADABLE, f"{tag_text('Rows')} or {tag_text('Columns')} is 0"
        )
    allocated, stored = elements.whole("BitsAllocated"), elements.whole("BitsStored")
    if allocated not in (8, 16, 32):
        raise InvalidHeader(
            IssueCode.UNREADABLE, f"{tag_text('BitsAllocated')} is {allocated}, which is not read"
        )
    if not 1 <= stored <= allocated:
        raise InvalidHeader(
            IssueCode.UNREADABLE, f"{tag_text('BitsStored')} is {stored}, of {allocated} bits"
        )
    if elements.whole("PixelRepresentation") not in (0, 1):
        raise InvalidHeader(
            IssueCode.UNREADABLE, f"{tag_text('PixelRepresentation')} is neither 0 nor 1"
        )
    return rows, columns, stored


def _directions(elements: Elements) -> tuple[Vector3, Vector3]:
    """Row and column direction as unit vectors (PS3.3 C.7.6.2.1.1)."""
    a, b, c, d, e, f = elements.numbers("ImageOrientationPatient", 6, IssueCode.NO_ORIENTATION)
    across, down = math.hypot(a, b, c), math.hypot(d, e, f)
    worst = max(abs(across - 1), abs(down - 1), abs(a * d + b * e + c * f))
    if not worst <= UNIT_TOLERANCE:
        raise InvalidHeader(
            IssueCode.NO_ORIENTATION,
            f"{tag_text('ImageOrientationPatient')} is no pair of perpendicular unit vectors",
        )
    return (a / across, b / across, c / across), (d / down, e / down, f / down)


def _pixel_spacing(elements: Elements) -> tuple[float, float]:
    between_rows, between_columns = elements.numbers("PixelSpacing", 2, IssueCode.NO_PIXEL_SPACING)
    if min(between_rows, between_columns) <= 0:
        raise InvalidHeader(
            IssueCode.NO_PIXEL_SPACING, f"{tag_text('PixelSpacing')} is not positive"
        )
    if min(between_rows, between_columns) < SMALLEST_PIXEL_MM:
        raise InvalidHeader(
            IssueCode.NO_PIXEL_SPACING,
            f"{tag_text('PixelSpacing')} is below {SMALLEST_PIXEL_MM} mm",
        )
    return between_rows, between_columns


def _slope(elements: Elements) -> float:
    (slope,) = elements.numbers("RescaleSlope", 1, IssueCode.NO_RESCALE)
    if slope == 0:
        raise InvalidHeader(IssueCode.NO_RESCALE, f"{tag_text('RescaleSlope')} is 0")
    return slope
