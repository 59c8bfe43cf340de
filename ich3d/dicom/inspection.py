"""What an index holds, for people and for programs. Neither form names a patient unless asked to."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ich3d.core.issues import join
from ich3d.core.text import pluralize, printable
from ich3d.core.types import LeftOut, Rejected, Series
from ich3d.dicom.geometry import affine_mm
from ich3d.dicom.index import Index

_COLUMNS = ("volume", "slices", "size", "spacing mm", "tilt deg", "remarks")


def as_table(index: Index) -> str:
    """A row a series, then what was left out and rejected, counted and listed."""
    lines = [pluralize(index.n_files, "file"), ""]
    if index.series:
        lines += [*_aligned([_COLUMNS, *(_row(series) for series in index.series)]), ""]
        lines += [f"{s.volume_id}: {reason.detail}" for s in index.series for reason in s.reasons]
    lines += _listed("left out", index.left_out)
    lines += _listed("rejected", index.rejected)
    return "\n".join(map(printable, lines)).rstrip() + "\n"


def as_json(index: Index) -> dict[str, Any]:
    """The index as plain JSON-ready data: slices ascend along the normal, paths are relative to the root."""
    return {
        "files": index.n_files,
        "series": [_series(series) for series in index.series],
        "left_out": [
            {"paths": list(item.paths), "code": item.code.value, "detail": item.detail}
            for item in index.left_out
        ],
        "rejected": [
            {
                "subject": item.subject,
                "paths": list(item.paths),
                "code": item.code.value,
                "detail": item.detail,
            }
            for item in index.rejected
        ],
    }


def with_identifiers(told: dict[str, Any], index: Index) -> dict[str, Any]:
    """`as_json(index)` with the PatientID of each series."""
    named = [
        {**one, "patient_id": series.patient_id}
        for one, series in zip(told["series"], index.series, strict=True)
    ]
    return {**told, "series": named}


def _series(series: Series) -> dict[str, Any]:
    first = series.headers[0]
    affine = affine_mm(series)
    return {
        "volume_id": series.volume_id,
        "series_uid": series.series_uid,
        "study_uid": series.study_uid,
        "patient_id": None,  # identity stays out of what nobody asked for it
        "modality": "CT",
        "n_slices": len(series),
        "sop_uids": [header.sop_uid for header in series.headers],
        "frames": [header.frame for header in series.headers],
        "paths": [header.file.name for header in series.headers],
        "z_mm": series.z_mm.tolist(),
        "spacing_mm": series.spacing_mm,
        "is_regular": series.is_regular,
        "tilt_deg": series.tilt_deg,
        "rows": first.rows,
        "columns": first.columns,
        "pixel_spacing_mm": list(first.pixel_spacing_mm),
        "affine_mm": None if affine is None else affine.tolist(),
        "status": "warn" if series.reasons else "ok",
        "reasons": [
            {"code": reason.code.value, "detail": reason.detail} for reason in series.reasons
        ],
    }


def _row(series: Series) -> tuple[str, ...]:
    first = series.headers[0]
    return (
        printable(series.volume_id),
        str(len(series)),
        f"{first.rows}x{first.columns}",
        "-" if series.spacing_mm is None else f"{series.spacing_mm:.2f}",
        "-" if series.tilt_deg is None else f"{series.tilt_deg:.1f}",
        join([reason.code for reason in series.reasons]) or "ok",
    )


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _listed(title: str, items: Sequence[LeftOut | Rejected]) -> list[str]:
    counts: Counter[str] = Counter()
    for item in items:
        counts[item.code.value] += len(item.paths)
    total = f"{title}: {pluralize(counts.total(), 'file')}"
    by_code = ", ".join(f"{code} {n}" for code, n in sorted(counts.items()))
    head = f"{total} ({by_code})" if items else total
    return [head, *(f"  {item.code.value}: {item.detail}" for item in items)]
