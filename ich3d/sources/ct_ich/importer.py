"""Import of the whole CT-ICH data set: series, labels, and a table of what does not match.

Layout of the data set: `Patients_CT/<nnn>/{brain,bone}/<n>.jpg` and `hemorrhage_diagnosis.csv`.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Final

import pandas as pd

from ich3d.core.errors import DataError
from ich3d.core.labels import ANY
from ich3d.core.workspace import replacing, write_csv
from ich3d.sources.ct_ich.diagnosis import label_rows, read_diagnosis, row_names, slice_uid
from ich3d.sources.ct_ich.patient import (
    PIXEL_MM,
    STEP_MM,
    PatientRecord,
    import_patient,
    read_record,
    write_record,
)
from ich3d.sources.ct_ich.pictures import IMAGES, picture_name, pictures_digest
from ich3d.sources.folder import Source

UNMATCHED_COLUMNS: Final = ("sop_uid", "lacks", "detail")


def import_ct_ich(
    src: Path, out: Path, progress: Callable[[Iterable[Path]], Iterable[Path]] | None = None
) -> Source:
    """Write the patients of the data set in `src` as DICOM series below `out`, with their labels.

    Writes `dicom/<nnn>/<n>.dcm`, `patients/<nnn>.json`, `labels.csv`, `unmatched.csv` and, last,
    `import.json`. A patient with a JSON file is complete; it is written again only if its images
    have changed.

    Args:
        src: folder of CT-ICH 1.0.0.
        out: folder to write to.
        progress: wraps the patients' folders to show progress.

    Raises:
        DataError: `src` does not have CT-ICH's layout, or a patient's images differ in size.
    """
    diagnosis = read_diagnosis(src)
    if not (src / IMAGES).is_dir():
        raise DataError(f"{src} holds no folder {IMAGES}; it must be the folder of CT-ICH 1.0.0")
    folders = sorted(folder for folder in (src / IMAGES).iterdir() if folder.is_dir())

    (out / "dicom").mkdir(parents=True, exist_ok=True)
    for folder in folders if progress is None else progress(folders):
        path = _record_path(out, folder)
        if not path.exists() or read_record(path).pictures != pictures_digest(folder):
            write_record(path, import_patient(folder, out / "dicom"))
    records = [read_record(_record_path(out, folder)) for folder in folders]

    write_csv(out / "labels.csv", label_rows(diagnosis))
    unmatched = _unmatched_rows(diagnosis, records)
    write_csv(out / "unmatched.csv", unmatched)
    with replacing(out / "import.json") as partial:
        partial.write_text(json.dumps(_summary(diagnosis, records, unmatched), indent=1) + "\n")
    return ct_ich_imported(out)


def ct_ich_imported(out: Path) -> Source:
    """What `import_ct_ich` wrote to `out`.

    Raises:
        DataError: the import is missing or not complete.
    """
    if not (out / "import.json").is_file():
        raise DataError(
            f"{out} holds no complete CT-ICH import; run `ich3d import ct-ich SRC {out}`"
        )
    return Source(images=out / "dicom", labels=out / "labels.csv", unmatched=out / "unmatched.csv")


def _record_path(out: Path, folder: Path) -> Path:
    return out / "patients" / f"{folder.name}.json"


def _unmatched_rows(diagnosis: pd.DataFrame, records: list[PatientRecord]) -> pd.DataFrame:
    """Slices without a window or a label, and labels without a slice; `UNMATCHED_COLUMNS`."""
    rows: list[tuple[str, str, str]] = []
    name_of_label = row_names(diagnosis)
    with_image: set[str] = set()
    for record in records:
        for number, lacks, detail in record.lacking:
            sop_uid = slice_uid(record.patient, number)
            with_image.add(sop_uid)
            rows.append((sop_uid, lacks, detail))

        for number in record.written:
            sop_uid = slice_uid(record.patient, number)
            with_image.add(sop_uid)
            if sop_uid not in name_of_label:
                rows.append((sop_uid, "label", picture_name(record.patient, "brain", number)))

    for sop_uid, name in name_of_label.items():
        if sop_uid not in with_image:
            rows.append((sop_uid, "image", name))
    return pd.DataFrame(rows, columns=list(UNMATCHED_COLUMNS))


def _summary(
    diagnosis: pd.DataFrame, records: list[PatientRecord], unmatched: pd.DataFrame
) -> dict[str, object]:
    """Content of `import.json`: assumptions, counts, and how each patient was imported."""
    contradictory = diagnosis[diagnosis[ANY] == diagnosis["negative"]]
    counts = unmatched["lacks"].value_counts()
    return {
        "data": "CT-ICH 1.0.0, M. D. Hssayeni et al., PhysioNet, CC BY 4.0",
        "pixel_mm_assumed": PIXEL_MM,
        "step_mm": STEP_MM,
        "slices_written": sum(len(record.written) for record in records),
        "slices_labelled": len(diagnosis),
        "unmatched": {str(lacks): int(count) for lacks, count in counts.items()},
        "contradictory_rows": list(row_names(contradictory).values()),
        "patients": [asdict(record) for record in records],
    }
