"""Damaged files crash and block nothing, and every file is accounted for.

What is accepted nevertheless must equal what a plain reading of the same bytes gives.
"""

import json
import resource
import signal
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from ich3d.core.issues import IssueCode
from ich3d.core.types import Rejected, SliceHeader, Volume
from ich3d.dicom.index import Index, index
from ich3d.dicom.inspection import as_json, as_table
from ich3d.dicom.volume import load_volume
from ich3d.dicom.write import SeriesToWrite, write_series
from tests.helpers.mutations import (
    SYNTAXES,
    Seed,
    damaged,
    encode,
    encode_together,
    mislabel,
    mutate,
    with_excess,
    without_delimiter,
)
from tests.helpers.pixels import EditFile, WriteStack
from tests.helpers.plain_reading import Plain, read_plainly

SIZE = 64
TIMEOUT_S = 120
MAX_BYTES = 400 << 20
"""How much the cases of a test may add to the peak of the process."""
DAMAGED_ZIPS = 0.3
"""The share of cases in a zip in which the zip itself is damaged as well."""


@dataclass(frozen=True)
class UndamagedSeries:
    """The files of an undamaged series, which lie in a folder or in one zip."""

    name: str
    seeds: list[Seed]
    zipped: bool = False

    def lay_out(self, folder: Path, contents: list[bytes]) -> Path | None:
        """Write files of these `contents` to `folder`, which is emptied first; the zip, if any."""
        for path in folder.iterdir():
            path.unlink()
        if not self.zipped:
            for k, content in enumerate(contents):
                (folder / f"{k}").write_bytes(content)
            return None
        with zipfile.ZipFile(folder / "zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for k, content in enumerate(contents):
                archive.writestr(f"inner/{k}", content)
        return folder / "zip"


@pytest.fixture(scope="module")
def undamaged(
    make_stack: Callable[..., SeriesToWrite], tmp_path_factory: pytest.TempPathFactory
) -> list[UndamagedSeries]:
    """A tilted series of four slices in each transfer syntax, in a zip, and in a multi-frame file.

    Every other one declares a padding value.
    """
    series = []
    for number, syntax in enumerate(SYNTAXES):
        hu = np.random.default_rng(number).integers(-1100, 2000, (4, SIZE, SIZE)).astype(np.int16)
        hu[:, SIZE // 2 :] = 40  # equal pixels, which RLE encodes as runs
        stack = make_stack(
            name=f"s{number}",
            hu=hu,
            col_dir=(0.0, 0.98, -0.199),
            position_mm=np.array([(-100.0, -120.0, 5.1 * i) for i in range(4)]),
            extra={"PixelPaddingValue": -1050} if number % 2 else {},
        )
        paths = write_series(stack, tmp_path_factory.mktemp("seed"))
        series.append(UndamagedSeries(syntax.name, [encode(path, syntax) for path in paths]))
    by_name = {one.name: one.seeds for one in series}
    return [
        *series,
        UndamagedSeries("zip", series[0].seeds, zipped=True),
        UndamagedSeries("multi-frame", [encode_together(paths)]),
        UndamagedSeries("RLE, a byte too many", [with_excess(path) for path in paths]),
        UndamagedSeries(
            "implicit under explicit",
            [
                mislabel(seed, ExplicitVRLittleEndian)
                for seed in by_name[ImplicitVRLittleEndian.name]
            ],
        ),
        UndamagedSeries(
            "explicit under implicit",
            [
                mislabel(seed, ImplicitVRLittleEndian)
                for seed in by_name[ExplicitVRLittleEndian.name]
            ],
        ),
        UndamagedSeries(
            "no delimiter", [without_delimiter(seed) for seed in by_name[RLELossless.name]]
        ),
    ]


@contextmanager
def no_hang() -> Iterator[None]:
    """Raises TimeoutError in the body when it takes longer than `TIMEOUT_S`."""

    def stop(*_: object) -> None:
        raise TimeoutError("a case takes too long")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(TIMEOUT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def fuzz(undamaged: list[UndamagedSeries], folder: Path, cases: range) -> tuple[int, int]:
    """Check every case; how many volumes were accepted, and how many files were damaged.

    No case, whatever size it declares, may take much memory.
    """
    n_accepted = n_damaged = 0
    peak_before = peak_bytes()
    for case in cases:
        rng = np.random.default_rng(case)
        series = undamaged[case % len(undamaged)]
        n = len(series.seeds)
        n_slices = min(n, int(rng.choice((1, 1, 2))))
        damaged_slices = set(rng.choice(n, size=n_slices, replace=False).tolist())
        contents = [
            mutate(seed, rng) if k in damaged_slices else seed.content
            for k, seed in enumerate(series.seeds)
        ]
        packed = series.lay_out(folder, contents)
        if packed is not None and rng.random() < DAMAGED_ZIPS:
            packed.write_bytes(damaged(packed.read_bytes(), rng))
        n_damaged += len(damaged_slices)
        try:
            with no_hang():
                n_accepted += check(index(folder))
        except Exception as error:
            raise AssertionError(f"case {case} ({series.name}): {error!r}") from error
        assert peak_bytes() - peak_before < MAX_BYTES, f"case {case} ({series.name})"
    return n_accepted, n_damaged


def peak_bytes() -> int:
    """The largest resident size of this process so far."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def check(indexed: Index) -> int:
    """How many volumes can be loaded; each must be what its files say."""
    check_accounted(indexed)
    assert json.loads(json.dumps(as_json(indexed)))["files"] == indexed.n_files
    assert all(line.isprintable() for line in as_table(indexed).split("\n"))
    n_accepted = 0
    for series in indexed.series:
        volume = load_volume(series)
        if isinstance(volume, Rejected):
            assert volume.detail
            continue
        check_volume(volume)
        n_accepted += 1
    return n_accepted


def check_accounted(indexed: Index) -> None:
    """Each file is in exactly one place of the index."""
    in_series = {header.file.name for series in indexed.series for header in series.headers}
    left_out = [path for item in indexed.left_out for path in item.paths]
    rejected = [path for item in indexed.rejected for path in item.paths]
    named = [*in_series, *left_out, *rejected]
    assert len(named) == indexed.n_files
    assert len(set(named)) == len(named)
    assert {name.split("/")[0] for name in named} == {path.name for path in indexed.root.iterdir()}


def check_volume(volume: Volume) -> None:
    series = volume.series
    plain = [read_plainly(content_of(header), header.frame) for header in series.headers]
    assert len({item.series_uid.strip() for item in plain}) == 1
    assert len({item.patient_id.strip() for item in plain}) == 1
    mended = any(issue.code is IssueCode.WRAP_MENDED for issue in volume.issues)
    for header, plain_slice, hu in zip(series.headers, plain, volume.hu, strict=True):
        check_slice(header, plain_slice, hu, mended)
    normal = np.median([np.cross(*item.directions) for item in plain], axis=0)
    heights = np.array([item.position_mm for item in plain]) @ (normal / np.linalg.norm(normal))
    assert np.all(np.diff(heights) > 0)
    assert series.z_mm == pytest.approx(heights, rel=1e-6, abs=1e-3)
    if volume.affine_mm is not None:
        assert series.is_regular
        check_affine(volume.affine_mm, plain)


def content_of(header: SliceHeader) -> bytes:
    span = header.file.span
    if span is None:
        return header.file.path.read_bytes()
    # Not by `zipfile`: it refuses a member whose name is damaged in one of its two places.
    archive = header.file.path.read_bytes()
    name_bytes, extra_bytes = struct.unpack_from("<HH", archive, span.offset + 26)
    start = span.offset + 30 + name_bytes + extra_bytes
    packed = archive[start : start + span.packed_bytes]
    return packed if span.method == zipfile.ZIP_STORED else zlib.decompress(packed, wbits=-15)


def check_slice(header: SliceHeader, plain: Plain, hu: np.ndarray, mended: bool) -> None:
    assert header.position_mm == pytest.approx(plain.position_mm, rel=1e-12)
    assert header.row_dir == pytest.approx(plain.directions[0])
    assert header.col_dir == pytest.approx(plain.directions[1])
    assert header.pixel_spacing_mm == pytest.approx(plain.pixel_spacing_mm)
    if np.array_equal(hu, plain.hu):
        return
    assert mended
    assert plain.wrapped_hu is not None
    assert np.array_equal(hu, plain.wrapped_hu)


def check_affine(affine: np.ndarray, plain: list[Plain]) -> None:
    """The affine puts the corners of each slice where its own file does, within the tolerance."""
    rows, columns = plain[0].hu.shape
    for k, plain_slice in enumerate(plain):
        for column, row in ((0, 0), (columns - 1, 0), (0, rows - 1)):
            along, down = plain_slice.directions
            between_rows, between_columns = plain_slice.pixel_spacing_mm
            offset = between_columns * column * along + between_rows * row * down
            error = (affine @ (column, row, k, 1))[:3] - plain_slice.position_mm - offset
            assert np.linalg.norm(error) < 0.25


def rejection(path: Path) -> str:
    """Why the only file at `path` is rejected, by its header or by its pixels."""
    indexed = index(path)
    if indexed.rejected:
        return indexed.rejected[0].detail
    volume = load_volume(indexed.series[0])
    assert isinstance(volume, Rejected)
    return volume.detail


def test_a_pixel_representation_that_is_no_boolean_is_rejection(
    write_stack: WriteStack, edit_file: EditFile
) -> None:
    (path,) = write_stack(n=1)
    # The text "1 ", from an element whose tag was swapped.
    edit_file(path, PixelRepresentation=0x2031)
    assert "PixelRepresentation (0028,0103)" in rejection(path)


def test_a_nul_in_the_place_of_a_digit_is_no_padding(
    write_stack: WriteStack, edit_file: EditFile
) -> None:
    (path,) = write_stack(n=1)
    edit_file(path, PixelSpacing=b"\x000.5\\0.4 ")
    assert "PixelSpacing (0028,0030)" in rejection(path)


@pytest.mark.parametrize(
    ("runs", "whole"), [(b"\x81\x00\x81\x00", True), (b"\x81\x00\x82\x00", False)]
)
def test_run_lengths_that_fall_short_are_not_filled(
    write_stack: WriteStack, runs: bytes, whole: bool
) -> None:
    """Two runs of 128 are the high bytes of 16 x 16 pixels (PS3.5 G.3); with 127 one is missing."""
    (path,) = write_stack(n=1)
    ds = pydicom.dcmread(BytesIO(encode(path, RLELossless).content))
    ds.PixelData = encapsulate(
        [struct.pack("<16L", 2, 64, 68, *[0] * 13) + runs + b"\x81\x05\x81\x05"]
    )
    ds.save_as(path)
    if whole:
        assert check(index(path)) == 1
    else:
        assert "cannot be decoded" in rejection(path)


@pytest.mark.parametrize(
    ("original", "replacement"),
    [(b"1.2.840.10008.1.2.5", b"1.2.840.10008.1.2.1"), (b"\2\0\x10\0UI", b"\2\0\x11\0UI")],
    ids=["called native", "not named"],
)
def test_compressed_pixels_are_not_read_as_native_ones(
    write_stack: WriteStack, original: bytes, replacement: bytes
) -> None:
    (path,) = write_stack(n=1)
    path.write_bytes(encode(path, RLELossless).content.replace(original, replacement, 1))
    assert "PixelData (7FE0,0010)" in rejection(path)


def test_signed_values_in_an_unsigned_file_are_rejection(
    write_stack: WriteStack, edit_file: EditFile
) -> None:
    """Decoders disagree about the values of such a file."""
    (path,) = write_stack(n=1)
    path.write_bytes(encode(path, JPEG2000Lossless).content)
    assert check(index(path)) == 1
    edit_file(path, PixelRepresentation=0)
    assert "PixelRepresentation (0028,0103)" in rejection(path)


def test_undamaged_files_are_accepted_in_every_encoding(
    undamaged: list[UndamagedSeries], tmp_path: Path
) -> None:
    for series in undamaged:
        series.lay_out(tmp_path, [seed.close(seed.open()) for seed in series.seeds])
        assert check(index(tmp_path)) == 1, series.name


def test_damaged_files_are_read_right_or_not_at_all(
    undamaged: list[UndamagedSeries], tmp_path: Path
) -> None:
    n_accepted, n_damaged = fuzz(undamaged, tmp_path, range(300))
    assert n_damaged >= 300
    assert n_accepted >= 30


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(10))
def test_many_damaged_files_are_read_right_or_not_at_all(
    undamaged: list[UndamagedSeries], tmp_path: Path, batch: int
) -> None:
    n_accepted, n_damaged = fuzz(
        undamaged, tmp_path, range(1000 + 1600 * batch, 1000 + 1600 * (batch + 1))
    )
    assert n_damaged >= 2000
    assert n_accepted >= 200
