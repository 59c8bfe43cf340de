"""One CT-ICH patient, imported as a DICOM series.

What the JPEG images do not tell is assumed, and every header says so: the pixel size, and that
    columns
run to the patient's left (the usual radiological view; rows run to posterior, as the images show).
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from ich3d.core.errors import DataError
from ich3d.core.text import pluralize
from ich3d.core.workspace import replacing
from ich3d.dicom.uids import uid
from ich3d.dicom.write import SeriesToWrite, write_series
from ich3d.sources.ct_ich.diagnosis import slice_uid
from ich3d.sources.ct_ich.hu import (
    MIN_AGREEMENT,
    agreement,
    estimate_center,
    estimate_shift,
    nearest_center,
    rebuild_hu,
)
from ich3d.sources.ct_ich.pictures import (
    IncompleteSlice,
    WindowPair,
    pair_windows,
    picture_name,
    pictures_digest,
    read_window,
)

log = logging.getLogger(__name__)

STEP_MM: Final = 5.0
# CT-ICH does not publish its pixel size. The largest head section of 40 of its patients measures
# 449 x 548 pixels (medians of breadth and length over the scalp), at 0.34 mm 153 x 186 mm.
# British adults of 19 to 65 years: breadth 155 (men) and 145 mm (women), length 195 and 180 mm,
# on average 150 x 188 mm (medians; City University of Hong Kong, Online Anthropometry, chapter
# 2, items 26, 27).
PIXEL_MM: Final = 0.34


@dataclass(frozen=True)
class PatientRecord:
    """How one patient was imported. The fields are the keys of `patients/<nnn>.json`.

    patient: number of the patient, three digits.
    pictures: digest of the JPEG files' names, sizes and modification times.
    bone_center_found: median over slices of the bone window's estimated centre in HU; None where it
        cannot be estimated.
    bone_center: the known centre in HU that was used; None likewise.
    bone_shift: what is added to the number of a brain image to get the bone image of the same
        slice.
    agreement: median over slices of the fraction of pixels on which both windows agree; None
        likewise.
    written: numbers of the slices that were written as DICOM files.
    lacking: slices that were not.
    """

    patient: str
    pictures: str
    bone_center_found: float | None
    bone_center: float | None
    bone_shift: int
    agreement: float | None
    written: list[int]
    lacking: list[IncompleteSlice]


def import_patient(folder: Path, dicom: Path) -> PatientRecord:
    """Write the series of the patient in `folder` to `dicom/<nnn>`, and tell how it was done.

    Raises:
        DataError: the patient's images differ in size.
    """
    brain, bone = read_window(folder, "brain"), read_window(folder, "bone")
    if len({image.shape for image in (*brain.values(), *bone.values())}) > 1:
        raise DataError(f"{folder} holds images of several sizes; all must have one size")
    shift = estimate_shift(brain, bone)
    pairs, incomplete = pair_windows(folder, brain, bone, shift)

    patient, digest = folder.name, pictures_digest(folder)
    estimated = _estimate_center(pairs)
    if estimated is None:
        return PatientRecord(patient, digest, None, None, shift, None, [], incomplete)

    center = nearest_center(estimated)
    agreements = [agreement(pair.brain, pair.bone, center) for pair in pairs]
    usable, mismatched = _split_by_agreement(patient, pairs, agreements, shift)
    if usable:
        with replacing(dicom / patient) as partial:
            write_series(_series_to_write(patient, usable, center, shift), partial)
    log.info("patient %s: %s, bone centre %g", patient, pluralize(len(usable), "slice"), center)
    return PatientRecord(
        patient=patient,
        pictures=digest,
        bone_center_found=round(estimated, 1),
        bone_center=center,
        bone_shift=shift,
        agreement=round(float(np.median(agreements)), 3),
        written=[pair.number for pair in usable],
        lacking=sorted([*incomplete, *mismatched]),
    )


def write_record(path: Path, record: PatientRecord) -> None:
    """Write a record as JSON, atomically: the file marks its patient as complete."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(asdict(record), indent=1) + "\n")


def read_record(path: Path) -> PatientRecord:
    """The record in a file of `write_record`."""
    fields = json.loads(path.read_text())
    fields["lacking"] = [IncompleteSlice(*values) for values in fields["lacking"]]
    return PatientRecord(**fields)


def _estimate_center(pairs: Sequence[WindowPair]) -> float | None:
    """Median of the slices' estimated bone centres in HU; None where no slice has one."""
    centers = [estimate_center(pair.brain, pair.bone) for pair in pairs]
    return float(np.nanmedian(centers)) if np.isfinite(centers).any() else None


def _split_by_agreement(
    patient: str, pairs: list[WindowPair], agreements: list[float], shift: int
) -> tuple[list[WindowPair], list[IncompleteSlice]]:
    """The pairs whose images agree, and the slices whose bone image shows something else."""
    usable: list[WindowPair] = []
    mismatched: list[IncompleteSlice] = []
    for pair, fraction in zip(pairs, agreements, strict=True):
        if fraction >= MIN_AGREEMENT:
            usable.append(pair)
            continue
        name = picture_name(patient, "bone", pair.number + shift)
        detail = f"{name} agrees with its brain window on {fraction:.0%} of pixels"
        mismatched.append(IncompleteSlice(pair.number, "bone", detail))
    return usable, mismatched


def _series_to_write(
    patient: str, pairs: list[WindowPair], center: float, shift: int
) -> SeriesToWrite:
    """The series of `pairs`, inferior to superior; `center` is that of the bone window in HU."""
    hu = np.stack([rebuild_hu(pair.brain, pair.bone, center) for pair in pairs])  # (Z, Y, X)
    _, rows, columns = hu.shape
    numbers = [pair.number for pair in pairs]

    # The image's centre lies at x = y = 0; a missing slice leaves a gap in z.
    x, y = -(columns - 1) / 2 * PIXEL_MM, -(rows - 1) / 2 * PIXEL_MM
    position_mm = np.array([(x, y, STEP_MM * number) for number in numbers])
    compression = 2 * hu.size / sum(pair.jpeg_bytes for pair in pairs)
    return SeriesToWrite(
        hu=hu,
        position_mm=position_mm,
        row_dir=(1.0, 0.0, 0.0),
        col_dir=(0.0, 1.0, 0.0),
        pixel_spacing_mm=(PIXEL_MM, PIXEL_MM),
        slice_thickness_mm=STEP_MM,
        patient_id=f"CT-ICH-{patient}",
        study_uid=uid("ct-ich", patient, "study"),
        series_uid=uid("ct-ich", patient, "series"),
        sop_uids=[slice_uid(patient, number) for number in numbers],
        file_names=[f"{number}.dcm" for number in numbers],
        instance_numbers=numbers,
        extra=_derivation(center, shift, compression),
    )


def _derivation(center: float, shift: int, compression: float) -> dict[str, object]:
    """DICOM attributes, by keyword, that tell how the pixels were derived (PS3.3 C.7.6.1)."""
    return {
        "DerivationDescription": (
            "HU rebuilt from 8-bit JPEG pictures of CT-ICH 1.0.0: brain window (centre 40, width "
            "120) where it is not saturated, else bone window "
            f"(centre {center:g}, width 3200, picture {shift:+d}); the floor of the bone window is "
            f"written as -1000. PixelSpacing {PIXEL_MM} mm is assumed, and so is laterality; z is "
            f"{STEP_MM:g} mm times the slice number."
        ),
        "BurnedInAnnotation": "NO",
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": f"{compression:.1f}",
        "LossyImageCompressionMethod": "ISO_10918_1",
    }
