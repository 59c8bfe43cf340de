"""CT-ICH 1.0.0 (M. D. Hssayeni et al., PhysioNet, CC BY 4.0) made into real DICOM series.

Source layout: `Patients_CT/<nnn>/{brain,bone}/<n>.jpg` and `hemorrhage_diagnosis.csv`. What the
pictures lack is assumed and said so in every header: the pixel size, and that columns run to the
patient's left (the usual radiological view; rows run to posterior, as the pictures show).
Slice 1 is the most inferior.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from ich3d.core.errors import DataError
from ich3d.core.labels import ANY
from ich3d.core.text import pluralize
from ich3d.dicom.uids import uid
from ich3d.dicom.write import SeriesToWrite, write_series
from ich3d.sources.ct_ich_diagnosis import label_rows, read_diagnosis, row_names, slice_uid
from ich3d.sources.ct_ich_hu import (
    MIN_AGREEMENT,
    Greys,
    agreement,
    bone_shift,
    measured_center,
    nearest_center,
    rebuilt_hu,
)
from ich3d.sources.folder import Source

log = logging.getLogger(__name__)

IMAGES: Final = "Patients_CT"
STEP_MM: Final = 5.0
# CT-ICH does not publish its pixel size. The largest head section of 40 of its patients measures
# 449 x 548 pixels (medians of breadth and length over the scalp), at 0.34 mm 153 x 186 mm. British
# adults of 19 to 65 years: breadth 155 (men) and 145 mm (women), length 195 and 180 mm, on average
# 150 x 188 mm (medians; City University of Hong Kong, Online Anthropometry, chapter 2, items 26, 27).
PIXEL_MM: Final = 0.34
UNMATCHED: Final = ("sop_uid", "lacks", "detail")


class Lack(NamedTuple):
    """A slice of a patient that is not whole: what it lacks, and the file or row that shows it."""

    slice_number: int
    lacks: str
    detail: str


@dataclass(frozen=True)
class Patient:
    """How one patient was imported; its JSON file is also the mark that the patient is complete.

    pictures: a digest of the picture files' names, sizes and times of change.
    bone_center_found: median over slices of the centre at which both windows agree, HU; None without slices.
    bone_center: the known centre that was used, HU.
    bone_shift: what is added to a brain picture's number to find the bone picture of the same section.
    agreement: median over slices of the share of pixels on which both windows agree.
    written: numbers of the slices that became DICOM.
    lacking: slices that could not.
    """

    patient: str
    pictures: str
    bone_center_found: float | None
    bone_center: float | None
    bone_shift: int
    agreement: float | None
    written: list[int]
    lacking: list[Lack]


@dataclass(frozen=True)
class _Pictures:
    """The two windows of one slice, uint8 (Y, X), and the bytes their JPEGs take."""

    number: int
    brain: np.ndarray
    bone: np.ndarray
    jpeg_bytes: int


def import_ct_ich(
    src: Path, out: Path, progress: Callable[[Iterable[Path]], Iterable[Path]] | None = None
) -> Source:
    """Write the patients of `src` as DICOM series under `out`, with labels and what found no partner.

    Makes `dicom/<nnn>/<n>.dcm`, `patients/<nnn>.json`, `labels.csv`, `unmatched.csv` and, last,
    `import.json`. A patient whose JSON file is there is complete and is not written again
    unless its pictures changed.
    Raises DataError where `src` is not in CT-ICH's layout or a patient's pictures differ in size.
    """
    diagnosis = read_diagnosis(src)
    if not (src / IMAGES).is_dir():
        raise DataError(f"{src} holds no folder {IMAGES}")
    folders = sorted(folder for folder in (src / IMAGES).iterdir() if folder.is_dir())
    (out / "patients").mkdir(parents=True, exist_ok=True)
    (out / "dicom").mkdir(exist_ok=True)
    for folder in folders if progress is None else progress(folders):
        record = out / "patients" / f"{folder.name}.json"
        if not record.exists() or _read_patient(record).pictures != _pictures_digest(folder):
            patient = _import_patient(folder, out / "dicom")
            _write_text(record, json.dumps(asdict(patient), indent=1))
    patients = [_read_patient(out / "patients" / f"{folder.name}.json") for folder in folders]

    label_rows(diagnosis).to_csv(out / "labels.csv", index=False)
    unmatched = _unmatched_rows(diagnosis, patients)
    unmatched.to_csv(out / "unmatched.csv", index=False)
    _write_text(out / "import.json", json.dumps(_summary(diagnosis, patients, unmatched), indent=1))
    return ct_ich_imported(out)


def ct_ich_imported(out: Path) -> Source:
    """What `import_ct_ich` wrote to `out`; DataError where it is not there or not complete."""
    if not (out / "import.json").is_file():
        raise DataError(
            f"{out} holds no complete CT-ICH import; run `ich3d import ct-ich SRC {out}`"
        )
    return Source(images=out / "dicom", labels=out / "labels.csv", unmatched=out / "unmatched.csv")


def _import_patient(folder: Path, dicom: Path) -> Patient:
    """Write one patient's series to `dicom/<nnn>`; what was found on the way."""
    brain, bone = _read_window(folder, "brain"), _read_window(folder, "bone")
    if len({grey.shape for grey in (*brain.values(), *bone.values())}) > 1:
        raise DataError(f"{folder} holds pictures of several sizes")
    shift = bone_shift(brain, bone)
    slices, lacking = _pair(folder, brain, bone, shift)
    centers = [measured_center(s.brain, s.bone) for s in slices]
    measured = float(np.nanmedian(centers)) if np.isfinite(centers).any() else None
    if measured is None:
        return Patient(folder.name, _pictures_digest(folder), None, None, shift, None, [], lacking)
    center = nearest_center(measured)
    shares = {s.number: agreement(s.brain, s.bone, center) for s in slices}
    whole = [s for s in slices if shares[s.number] >= MIN_AGREEMENT]
    for s in slices:
        if shares[s.number] < MIN_AGREEMENT:
            share = f"agrees with its brain window on {shares[s.number]:.0%} of pixels"
            lacking.append(
                Lack(s.number, "bone", f"{_name(folder, 'bone', s.number + shift)} {share}")
            )
    if whole:
        _write_patient(folder.name, whole, center, shift, dicom)
    log.info("patient %s: %s, bone centre %g", folder.name, pluralize(len(whole), "slice"), center)
    return Patient(
        patient=folder.name,
        pictures=_pictures_digest(folder),
        bone_center_found=round(measured, 1),
        bone_center=center,
        bone_shift=shift,
        agreement=round(float(np.median(list(shares.values()))), 3),
        written=[s.number for s in whole],
        lacking=sorted(lacking),
    )


def _read_window(folder: Path, window: str) -> Greys:
    """Every picture of one window that can be decoded, by slice number."""
    # The brain folders also hold the bleeds' outlines, `<n>_HGE_Seg.jpg`.
    paths = [path for path in (folder / window).glob("*.jpg") if path.stem.isdecimal()]
    read = {int(path.stem): _read_grey(path) for path in paths}
    return {number: grey for number, grey in sorted(read.items()) if grey is not None}


def _pair(
    folder: Path, brain: Greys, bone: Greys, shift: int
) -> tuple[list[_Pictures], list[Lack]]:
    """The slices of one patient with both windows, inferior to superior, and those without."""
    files = {"brain": brain, "bone": {number - shift: grey for number, grey in bone.items()}}
    numbers = {
        int(path.stem) - (shift if window == "bone" else 0)
        for window in files
        for path in (folder / window).glob("*.jpg")
        if path.stem.isdecimal()
    }
    slices, lacking = [], []
    for number in sorted(number for number in numbers if number > 0):  # below: bone of no slice
        names = {
            "brain": _name(folder, "brain", number),
            "bone": _name(folder, "bone", number + shift),
        }
        paths = {window: folder.parent.parent / name for window, name in names.items()}
        missing = [window for window in files if number not in files[window]]
        for window in missing:
            state = "cannot be decoded" if paths[window].exists() else "is missing"
            lacking.append(Lack(number, window, f"{names[window]} {state}"))
        if not missing:
            size = sum(path.stat().st_size for path in paths.values())
            slices.append(_Pictures(number, brain[number], files["bone"][number], size))
    return slices, lacking


def _read_grey(path: Path) -> np.ndarray | None:
    """Grey levels uint8 (Y, X) of a JPEG, or None where there is none that can be decoded."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("L"))
    except OSError:  # Pillow's errors on missing, foreign and truncated files are all of this kind
        return None


def _write_patient(
    patient: str, slices: list[_Pictures], center: float, shift: int, dicom: Path
) -> None:
    """One series, whole or not at all: written beside its place and moved there."""
    hu = np.stack([rebuilt_hu(s.brain, s.bone, center) for s in slices])
    _, rows, columns = hu.shape
    numbers = [s.number for s in slices]
    corner = (-(columns - 1) / 2 * PIXEL_MM, -(rows - 1) / 2 * PIXEL_MM)
    series = SeriesToWrite(
        hu=hu,
        position_mm=np.array([(*corner, STEP_MM * number) for number in numbers]),
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
        extra=_derivation(center, shift, 2 * hu.size / sum(s.jpeg_bytes for s in slices)),
    )
    partial, final = dicom.parent / f"partial-{patient}", dicom / patient
    for leftover in (partial, final):
        shutil.rmtree(leftover, ignore_errors=True)
    write_series(series, partial)
    partial.rename(final)


def _derivation(center: float, shift: int, ratio: float) -> dict[str, object]:
    """Header attributes that tell how the pixels came about (PS3.3 C.7.6.1)."""
    return {
        "DerivationDescription": (
            "HU rebuilt from 8-bit JPEG pictures of CT-ICH 1.0.0: brain window (centre 40, width 120) where "
            f"it is not saturated, else bone window (centre {center:g}, width 3200, picture {shift:+d}); the "
            f"floor of the bone window is written as -1000. PixelSpacing {PIXEL_MM} mm is assumed, and so is "
            f"laterality; z is {STEP_MM:g} mm times the slice number."
        ),
        "BurnedInAnnotation": "NO",
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": f"{ratio:.1f}",
        "LossyImageCompressionMethod": "ISO_10918_1",
    }


def _unmatched_rows(diagnosis: pd.DataFrame, patients: list[Patient]) -> pd.DataFrame:
    """`sop_uid,lacks,detail` of slices without a window, images without label and labels without image."""
    rows: list[tuple[str, str, str]] = []
    labelled = row_names(diagnosis)
    found: set[str] = set()
    for patient in patients:
        for number, lacks, detail in patient.lacking:
            rows.append((slice_uid(patient.patient, number), lacks, detail))
        for number in patient.written:
            if slice_uid(patient.patient, number) not in labelled:
                picture = f"{IMAGES}/{patient.patient}/brain/{number}.jpg"
                rows.append((slice_uid(patient.patient, number), "label", picture))
        numbers = [*patient.written, *(lack.slice_number for lack in patient.lacking)]
        found.update(slice_uid(patient.patient, number) for number in numbers)
    rows += [(sop_uid, "image", name) for sop_uid, name in labelled.items() if sop_uid not in found]
    return pd.DataFrame(rows, columns=list(UNMATCHED))


def _summary(
    diagnosis: pd.DataFrame, patients: list[Patient], unmatched: pd.DataFrame
) -> dict[str, object]:
    """What `import.json` holds: assumptions, counts and every patient's derivation."""
    contradictory = diagnosis[diagnosis[ANY] == diagnosis["negative"]]
    return {
        "data": "CT-ICH 1.0.0, M. D. Hssayeni et al., PhysioNet, CC BY 4.0",
        "pixel_mm_assumed": PIXEL_MM,
        "step_mm": STEP_MM,
        "slices_written": sum(len(patient.written) for patient in patients),
        "slices_labelled": len(diagnosis),
        "unmatched": {
            str(lacks): int(count) for lacks, count in unmatched["lacks"].value_counts().items()
        },
        "contradictory_rows": list(row_names(contradictory).values()),
        "patients": [asdict(patient) for patient in patients],
    }


def _pictures_digest(folder: Path) -> str:
    files = [
        (path.relative_to(folder).as_posix(), path.stat()) for path in sorted(folder.rglob("*.jpg"))
    ]
    facts = [(name, status.st_size, status.st_mtime_ns) for name, status in files]
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _name(folder: Path, window: str, number: int) -> str:
    return f"{IMAGES}/{folder.name}/{window}/{number}.jpg"


def _read_patient(path: Path) -> Patient:
    fields = json.loads(path.read_text())
    return Patient(**{**fields, "lacking": [Lack(*lack) for lack in fields["lacking"]]})


def _write_text(path: Path, text: str) -> None:
    """Write a whole file or none."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text + "\n")
    os.replace(partial, path)
