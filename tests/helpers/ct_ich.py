"""A small data set in CT-ICH's layout: JPEG images in two windows, and a label table."""

from pathlib import Path

import numpy as np
from PIL import Image

COLUMNS = (
    "PatientNumber,SliceNumber,Intraventricular,Intraparenchymal,Subarachnoid,"
    "Epidural,Subdural,No_Hemorrhage,Fracture_Yes_No"
)
SIZE = 64


def disc_hu(number: int) -> np.ndarray:
    """HU (Y, X) of a disc of brain in a ring of skull; it widens with the slice number."""
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    radius = np.hypot(x, y)
    outer = 20 + number
    return np.select([radius < outer - 5, radius < outer], [35.0, 1000.0], -1000.0)


def windowed(hu: np.ndarray, center: float, width: float) -> np.ndarray:
    """Grey levels uint8 of `hu` in a display window."""
    return np.rint(np.clip((hu - center + width / 2) / width, 0, 1) * 255).astype(np.uint8)


def save_window(path: Path, hu: np.ndarray, center: float, width: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(windowed(hu, center, width)).save(path, quality=97)


def save_slice(src: Path, patient: str, number: int, bone_center: float = 700) -> None:
    """Both images of one slice."""
    folder = src / "Patients_CT" / patient
    save_window(folder / "brain" / f"{number}.jpg", disc_hu(number), 40, 120)
    save_window(folder / "bone" / f"{number}.jpg", disc_hu(number), bone_center, 3200)


def write_diagnosis(src: Path, *rows: str) -> None:
    src.mkdir(parents=True, exist_ok=True)
    (src / "hemorrhage_diagnosis.csv").write_text("\n".join([COLUMNS, *rows]) + "\n")


def write_ct_ich(src: Path) -> Path:
    """Write two patients, and return `src`.

    Patient 49 has slices 1, 2 and 4; slice 3 is labelled but has no image. Patient 50 has slices 1
    to 3 with a bone window of centre 800; slice 2 has no bone image, slice 3 no label, and the
    label row of slice 1 contradicts itself.
    """
    for number in (1, 2, 4):
        save_slice(src, "049", number)
    for number in (1, 2, 3):
        save_slice(src, "050", number, bone_center=800)
    (src / "Patients_CT/050/bone/2.jpg").unlink()
    write_diagnosis(
        src,
        "49,1,0,0,0,0,0,1,0",
        "49,2,0,0,0,1,0,0,1",
        "49,3,0,1,0,0,1,0,0",
        "49,4,0,0,0,0,0,1,0",
        "50,1,1,0,0,0,0,1,0",
        "50,2,0,0,0,0,0,1,0",
    )
    return src


def write_shifted_patient(src: Path) -> Path:
    """Write patient 81, whose bone images are numbered two higher than its brain images."""
    folder = src / "Patients_CT/081"
    for number in range(1, 7):
        save_window(folder / "brain" / f"{number}.jpg", disc_hu(number), 40, 120)
        save_window(folder / "bone" / f"{number}.jpg", disc_hu(number - 2), 700, 3200)
    write_diagnosis(src, "81,1,0,0,0,0,0,1,0")
    return folder
