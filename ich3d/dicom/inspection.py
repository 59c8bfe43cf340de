"""Show an index: as a table for people and as JSON for programs (`ich3d inspect`).

Neither names a patient, unless PatientID is asked for with `with_identifiers`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from ich3d.core.issues import IssueCode, join
from ich3d.core.text import pluralize, printable
from ich3d.core.types import LeftOut, Rejected, Series
from ich3d.dicom.geometry import affine_mm
from ich3d.dicom.index import Index
from ich3d.dicom.origin import series_origin

_TABLE_HEADER = (
    "volume", "slices", "size", "spacing mm", "tilt deg", "issues", "description", "kernel",
    "thickness mm", "scanner", "folder",
)  # fmt: skip


def as_table(index: Index) -> str:
    """Return a text table with one row for each series.

    Below it stand the issues of each series in words, then the files that were left out and
    rejected, counted by code and listed.
    """
    lines = [pluralize(index.n_files, "file"), ""]

    if index.series:
        rows = [_table_row(series) for series in index.series]
        lines += [*_align_columns([_TABLE_HEADER, *rows]), ""]
        lines += _issue_lines(index.series)

    lines += _count_and_list("left out", index.left_out)
    lines += _count_and_list("rejected", index.rejected)
    return "\n".join(map(printable, lines)).rstrip() + "\n"


def as_json(index: Index) -> dict[str, Any]:
    """Return the index as data that `json.dumps` accepts.

    Slices ascend along the slice normal, lengths are millimetres (LPS), angles are degrees, and
    paths are relative to the root of the index. `patient_id` is always null.
    """
    return {
        "files": index.n_files,
        "series": [_series_json(series) for series in index.series],
        "left_out": [
            {
                "paths": list(left_out.paths),
                "code": left_out.code.value,
                "detail": left_out.detail,
            }
            for left_out in index.left_out
        ],
        "rejected": [
            {
                "subject": rejected.subject,
                "paths": list(rejected.paths),
                "code": rejected.code.value,
                "detail": rejected.detail,
            }
            for rejected in index.rejected
        ],
    }


def not_hu_summary(left_out: Iterable[LeftOut]) -> str:
    """One sentence about the files that are left out because they are not in HU; empty if none."""
    not_hu = [files for files in left_out if files.code is IssueCode.NOT_HU]
    if not not_hu:
        return ""
    n_files = pluralize(sum(len(files.paths) for files in not_hu), "file")
    return f"{n_files} left out that hold no HU; the first is {not_hu[0].detail}"


def with_identifiers(index_json: dict[str, Any], index: Index) -> dict[str, Any]:
    """Return a copy of `as_json(index)` in which `patient_id` is the PatientID of each series."""
    series_with_ids = [
        {**series_json, "patient_id": series.patient_id}
        for series_json, series in zip(index_json["series"], index.series, strict=True)
    ]
    return {**index_json, "series": series_with_ids}


def _series_json(series: Series) -> dict[str, Any]:
    first = series.headers[0]
    affine = affine_mm(series)
    return {
        "volume_id": series.volume_id,
        "series_uid": series.series_uid,
        "study_uid": series.study_uid,
        "patient_id": None,  # only with_identifiers shows it
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
        "status": "warn" if series.issues else "ok",
        "reasons": [{"code": issue.code.value, "detail": issue.detail} for issue in series.issues],
        **asdict(series_origin(series)),
    }


def _table_row(series: Series) -> tuple[str, ...]:
    first, origin = series.headers[0], series_origin(series)
    return (
        printable(series.volume_id),
        str(len(series)),
        f"{first.rows}x{first.columns}",
        "-" if series.spacing_mm is None else f"{series.spacing_mm:.2f}",
        "-" if series.tilt_deg is None else f"{series.tilt_deg:.1f}",
        join([issue.code for issue in series.issues]) or "ok",
        printable(origin.series_description) or "-",
        printable(origin.convolution_kernel) or "-",
        printable(origin.slice_thickness_mm) or "-",
        printable(origin.scanner) or "-",
        printable(origin.folder),
    )


def _issue_lines(all_series: Sequence[Series]) -> list[str]:
    """One line for each issue; an issue that several series share, in the same words, has one."""
    volumes: dict[str, list[str]] = defaultdict(list)
    for series in all_series:
        for issue in series.issues:
            volumes[issue.detail].append(series.volume_id)
    return [
        f"{first}{f' and {len(more)} more' if more else ''}: {detail}"
        for detail, (first, *more) in volumes.items()
    ]


def _align_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Pad the cells so that each column is as wide as its widest cell; one line for each row."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _count_and_list(title: str, entries: Sequence[LeftOut | Rejected]) -> list[str]:
    """A line that counts files in all and by code, then one line for each reason."""
    counts: Counter[str] = Counter()
    for entry in entries:
        counts[entry.code.value] += len(entry.paths)

    summary = f"{title}: {pluralize(counts.total(), 'file')}"
    if counts:
        by_code = ", ".join(f"{code} {count}" for code, count in sorted(counts.items()))
        summary += f" ({by_code})"
    first_of_reason: dict[tuple[str, str], str] = {}
    n_files: Counter[tuple[str, str]] = Counter()
    for entry in entries:
        reason = (entry.code.value, _without_name(entry))
        first_of_reason.setdefault(reason, entry.detail)
        n_files[reason] += len(entry.paths)
    return [
        summary,
        *(
            f"  {code}: {detail}{_more(n_files[code, text], text != detail)}"
            for (code, text), detail in first_of_reason.items()
        ),
    ]


def _without_name(entry: LeftOut | Rejected) -> str:
    """The detail of an entry of one file without the file's name, by which it is told apart."""
    if len(entry.paths) != 1:
        return entry.detail
    return entry.detail.removeprefix(f"{entry.paths[0]}: ")


def _more(n_files: int, is_of_one_file: bool) -> str:
    """How many more files have the reason that a line names for one."""
    if n_files == 1 or not is_of_one_file:
        return ""
    return f"; and {pluralize(n_files - 1, 'more file')}"
