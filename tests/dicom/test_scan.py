"""Scans of headers: their parts say what an index says, and nothing is read twice."""

import sqlite3
import zipfile
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import pytest

from ich3d.core.errors import DataError
from ich3d.core.types import LeftOut, Rejected, Series
from ich3d.dicom.index import STRICT, Index, index, index_contents
from ich3d.dicom.scan import HeaderScan, finished_scan, scan_headers
from ich3d.dicom.write import write_series
from tests.helpers.series import edit, head_series

T = TypeVar("T")


def by_parts(scan: HeaderScan) -> Index:
    """The index of all parts of a scan, taken together."""
    parts = [index_contents(scan.root, scan.contents(part.number), STRICT) for part in scan.parts()]
    loose = index_contents(scan.root, scan.without_series(), STRICT, scan.unread())
    together = [*parts, loose]

    def all_of(field: Callable[[Index], tuple[T, ...]]) -> list[T]:
        return [item for part in together for item in field(part)]

    def by_subject(rejected: Rejected) -> tuple[str, tuple[str, ...]]:
        return rejected.subject, rejected.paths

    return Index(
        scan.root,
        sum(part.n_files for part in together),
        tuple(sorted(all_of(lambda part: part.series), key=lambda series: series.volume_id)),
        tuple(sorted(all_of(lambda part: part.left_out), key=lambda files: files.paths)),
        tuple(sorted(all_of(lambda part: part.rejected), key=by_subject)),
    )


def described(series: Series) -> tuple[object, ...]:
    files = [(header.file, header.frame, header.position_mm) for header in series.headers]
    return series.volume_id, series.issues, series.z_mm.tolist(), files


def write_mixture(folder: Path) -> None:
    """Series with all that may link them: studies, shared UIDs, orphans, copies and damage."""
    for name in "abc":
        write_series(head_series(name=name, n=4), folder / name)
    shared = write_series(head_series(name="d", n=4), folder / "d")
    sop_uid = head_series(name="a", n=4).sop_uids
    assert sop_uid is not None
    edit(shared[0], SOPInstanceUID=sop_uid[0])
    orphan = write_series(head_series(name="e", n=6), folder / "e")
    edit(orphan[3], SeriesInstanceUID=None)
    damaged = write_series(head_series(name="f", n=4), folder / "f")
    damaged[1].write_bytes(damaged[1].read_bytes()[:3000])
    damaged[2].write_bytes(b"")
    edit(write_series(head_series(name="g", n=3), folder / "g")[1], ImagePositionPatient=None)
    for path in write_series(head_series(name="h", n=4), folder / "h"):
        (folder / "i").mkdir(exist_ok=True)
        (folder / "i" / path.name).write_bytes(path.read_bytes())
    (folder / "notes.txt").write_text("no DICOM")
    write_series(head_series(name="z", n=4), folder / "z")
    with zipfile.ZipFile(folder / "z.zip", "w") as archive:
        for path in sorted((folder / "z").iterdir()):
            archive.write(path, f"inner/{path.name}")
            path.unlink()


def test_all_parts_together_are_the_index(tmp_path: Path) -> None:
    write_mixture(tmp_path / "in")
    whole = index(tmp_path / "in")
    scan = scan_headers(tmp_path / "in", tmp_path / "scan")
    parts = by_parts(scan)
    assert list(map(described, parts.series)) == list(map(described, whole.series))
    assert parts.rejected == whole.rejected
    assert sorted(parts.left_out, key=paths_of) == sorted(whole.left_out, key=paths_of)
    assert parts.n_files == whole.n_files
    assert len(scan.parts()) > 5


def paths_of(files: LeftOut) -> tuple[str, ...]:
    return files.paths


def test_nothing_that_names_a_patient_is_kept(tmp_path: Path) -> None:
    extra = {
        "PatientName": "Doe^Jane",
        "PatientBirthDate": "19010203",
        "SeriesDescription": "Head of Jane 19010203",
        "StudyDescription": "JANE-DOE-1 stroke",
    }
    series = head_series(name="a", n=2, patient_id="JANE-DOE-1", extra=extra)
    write_series(series, tmp_path / "in")
    content = scan_headers(tmp_path / "in", tmp_path / "scan").database.read_bytes().lower()
    assert b"jane" not in content
    assert b"19010203" not in content
    assert b"stroke" in content


class Counter:
    """A progress that counts what is shown under each label."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def __call__(self, items: Iterable[T], label: str, total: int | None = None) -> Iterable[T]:
        for item in items:
            self.counts[label] = self.counts.get(label, 0) + 1
            yield item


def test_only_what_is_new_or_changed_is_read_again(tmp_path: Path) -> None:
    paths = write_series(head_series(name="a", n=4), tmp_path / "in" / "a")
    gone = write_series(head_series(name="b", n=4), tmp_path / "in" / "b")
    scan_headers(tmp_path / "in", tmp_path / "scan")
    write_series(head_series(name="c", n=3), tmp_path / "in" / "c")
    edit(paths[0], KVP="80")
    for path in gone:
        path.unlink()

    progress = Counter()
    scan = scan_headers(tmp_path / "in", tmp_path / "scan", progress=progress)
    assert progress.counts == {"headers": 4}
    assert sorted(part.n_slices for part in scan.parts()) == [3, 4]
    again = Counter()
    scan_headers(tmp_path / "in", tmp_path / "scan", progress=again)
    assert again.counts == {}


def test_a_zip_that_changed_is_listed_again(tmp_path: Path) -> None:
    paths = write_series(head_series(name="a", n=4), tmp_path / "a")
    for n in (2, 4):
        with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
            for path in paths[:n]:
                archive.write(path, f"set/images/{path.name}")
            archive.writestr("set/other/x.dcm", b"x")
        scan = scan_headers(tmp_path / "in.zip", tmp_path / "scan", within="images")
        assert [part.n_slices for part in scan.parts()] == [n]
        assert not scan.without_series()


@pytest.mark.parametrize("n_bytes", [0, 100, 5000])
def test_a_damaged_scan_is_made_anew(tmp_path: Path, n_bytes: int) -> None:
    write_series(head_series(name="a", n=4), tmp_path / "in")
    scan = scan_headers(tmp_path / "in", tmp_path / "scan")
    assert finished_scan(tmp_path / "in", scan.database) is not None
    scan.database.write_bytes(scan.database.read_bytes()[:n_bytes])
    assert finished_scan(tmp_path / "in", scan.database) is None
    assert len(scan_headers(tmp_path / "in", tmp_path / "scan").parts()) == 1


def test_a_scan_of_another_folder_is_made_anew(tmp_path: Path) -> None:
    for name in "ab":
        write_series(head_series(name=name, n=4), tmp_path / name)
    first = scan_headers(tmp_path / "a", tmp_path / "scan").parts()
    assert scan_headers(tmp_path / "b", tmp_path / "scan").parts() != first


def test_workers_read_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ich3d.dicom.scan.FILES_PER_TASK", 2)
    write_mixture(tmp_path / "in")
    contents = []
    for workers in (1, 2):
        database = scan_headers(tmp_path / "in", tmp_path / str(workers), workers=workers).database
        with closing(sqlite3.connect(database)) as connection:
            query = "SELECT name, content, study, series, sop FROM files ORDER BY name"
            contents.append(connection.execute(query).fetchall())
    assert contents[0] == contents[1]


def test_a_path_that_does_not_exist_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file or folder"):
        scan_headers(tmp_path / "nothing", tmp_path / "scan")
