"""Damaged files: nothing crashes or hangs, every file is accounted for, and what is accepted is what a
plain reading of the same bytes finds."""

import json
import signal
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, RLELossless

from ich3d.core.issues import IssueCode
from ich3d.core.types import Rejected, SliceHeader, Volume
from ich3d.dicom.index import Index, index
from ich3d.dicom.inspection import as_json, as_table
from ich3d.dicom.volume import load_volume
from ich3d.dicom.write import SeriesToWrite, write_series
from tests.helpers.mutations import SYNTAXES, Seed, damaged, encode, encode_together, mutate
from tests.helpers.plain_reading import Plain, read_plainly

SIZE = 64
PATIENCE_S = 120
DAMAGED_ZIPS = 0.3
"""The share of zips that are damaged beside their members."""


@dataclass(frozen=True)
class Sound:
    """A sound series, in loose files or in one zip."""

    name: str
    seeds: list[Seed]
    zipped: bool = False

    def lay_out(self, folder: Path, contents: list[bytes]) -> Path | None:
        """Put files of `contents` into the empty `folder`; the zip, if they are in one."""
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
def sound(
    make_stack: Callable[..., SeriesToWrite], tmp_path_factory: pytest.TempPathFactory
) -> list[Sound]:
    """A tilted series of four slices in each transfer syntax, every other one with padding; one in a zip, and
    one in a multi-frame file."""
    made = []
    for number, syntax in enumerate(SYNTAXES):
        hu = np.random.default_rng(number).integers(-1100, 2000, (4, SIZE, SIZE)).astype(np.int16)
        hu[:, SIZE // 2 :] = 40  # runs, for the encoder that counts them
        stack = make_stack(
            name=f"s{number}",
            hu=hu,
            col_dir=(0.0, 0.98, -0.199),
            position_mm=np.array([(-100.0, -120.0, 5.1 * i) for i in range(4)]),
            extra={"PixelPaddingValue": -1050} if number % 2 else {},
        )
        paths = write_series(stack, tmp_path_factory.mktemp("seed"))
        made.append(Sound(syntax.name, [encode(path, syntax) for path in paths]))
    return [
        *made,
        Sound("zip", made[0].seeds, zipped=True),
        Sound("multi-frame", [encode_together(paths)]),
    ]


@contextmanager
def no_hang() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError("a case takes too long")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(PATIENCE_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def fuzz(sound: list[Sound], folder: Path, cases: range) -> tuple[int, int]:
    """Judge every case; how many volumes were accepted of how many mutated files."""
    accepted = mutated = 0
    for case in cases:
        rng = np.random.default_rng(case)
        series = sound[case % len(sound)]
        n = len(series.seeds)
        spoilt = set(rng.choice(n, size=min(n, int(rng.choice((1, 1, 2)))), replace=False).tolist())
        contents = [
            mutate(one, rng) if k in spoilt else one.content for k, one in enumerate(series.seeds)
        ]
        packed = series.lay_out(folder, contents)
        if packed is not None and rng.random() < DAMAGED_ZIPS:
            packed.write_bytes(damaged(packed.read_bytes(), rng))
        mutated += len(spoilt)
        try:
            with no_hang():
                accepted += judge(index(folder))
        except Exception as error:
            raise AssertionError(f"case {case} ({series.name}): {error!r}") from error
    return accepted, mutated


def judge(found: Index) -> int:
    """How many volumes of `found` load; each must be what its files say."""
    account(found)
    assert json.loads(json.dumps(as_json(found)))["files"] == found.n_files
    assert all(line.isprintable() for line in as_table(found).split("\n"))
    accepted = 0
    for series in found.series:
        volume = load_volume(series)
        if isinstance(volume, Rejected):
            assert volume.detail
            continue
        judge_volume(volume)
        accepted += 1
    return accepted


def account(found: Index) -> None:
    """Each file is in one place."""
    in_series = {header.file.name for series in found.series for header in series.headers}
    others = [path for item in (*found.left_out, *found.rejected) for path in item.paths]
    named = sorted([*in_series, *others])
    assert len(named) == found.n_files
    assert len(set(named)) == len(named)
    assert {name.split("/")[0] for name in named} == {path.name for path in found.root.iterdir()}


def judge_volume(volume: Volume) -> None:
    series = volume.series
    plain = [read_plainly(content_of(header), header.frame) for header in series.headers]
    assert len({one.series_uid.strip() for one in plain}) == 1
    assert len({one.patient_id.strip() for one in plain}) == 1
    for header, one, hu in zip(series.headers, plain, volume.hu, strict=True):
        judge_slice(header, one, hu, any(r.code is IssueCode.WRAP_MENDED for r in volume.issues))
    normal = np.median([np.cross(*one.directions) for one in plain], axis=0)
    heights = np.array([one.position_mm for one in plain]) @ (normal / np.linalg.norm(normal))
    assert np.all(np.diff(heights) > 0)
    assert series.z_mm == pytest.approx(heights, rel=1e-6, abs=1e-3)
    if volume.affine_mm is not None:
        assert series.is_regular
        judge_affine(volume.affine_mm, plain)


def content_of(header: SliceHeader) -> bytes:
    if not header.file.member:
        return header.file.path.read_bytes()
    with zipfile.ZipFile(header.file.path) as archive:
        return archive.read(header.file.member)


def judge_slice(header: SliceHeader, plain: Plain, hu: np.ndarray, mended: bool) -> None:
    assert header.position_mm == pytest.approx(plain.position_mm, rel=1e-12)
    assert (header.row_dir, header.col_dir) == (
        pytest.approx(plain.directions[0]),
        pytest.approx(plain.directions[1]),
    )
    assert header.pixel_spacing_mm == pytest.approx(plain.pixel_spacing_mm)
    assert np.array_equal(hu, plain.hu) or (mended and np.array_equal(hu, plain.wrapped_hu))


def judge_affine(affine: np.ndarray, plain: list[Plain]) -> None:
    """Corners of each slice where its own file puts them, within what a regular series may err."""
    rows, columns = plain[0].hu.shape
    for k, one in enumerate(plain):
        for column, row in ((0, 0), (columns - 1, 0), (0, rows - 1)):
            along, down = one.directions
            offset = one.pixel_spacing_mm[1] * column * along + one.pixel_spacing_mm[0] * row * down
            error = (affine @ (column, row, k, 1))[:3] - one.position_mm - offset
            assert np.linalg.norm(error) < 0.25


def refused(path: Path) -> str:
    """The sentence that refuses the one file at `path`, found or loaded."""
    found = index(path)
    if found.rejected:
        return found.rejected[0].detail
    volume = load_volume(found.series[0])
    assert isinstance(volume, Rejected)
    return volume.detail


def test_a_pixel_representation_that_is_no_boolean_is_refused(write_stack, edit_file):
    (path,) = write_stack(n=1)
    edit_file(
        path, PixelRepresentation=0x2031
    )  # the text "1 ", from an element whose tag was swapped
    assert "PixelRepresentation (0028,0103)" in refused(path)


def test_a_nul_in_the_place_of_a_digit_is_no_padding(write_stack, edit_file):
    (path,) = write_stack(n=1)
    edit_file(path, PixelSpacing=b"\x000.5\\0.4 ")
    assert "PixelSpacing (0028,0030)" in refused(path)


@pytest.mark.parametrize(
    ("runs", "whole"), [(b"\x81\x00\x81\x00", True), (b"\x81\x00\x82\x00", False)]
)
def test_run_lengths_that_fall_short_are_not_filled(write_stack, runs, whole):
    """Two runs of 128 zeros are the high bytes of 16 x 16 pixels (PS3.5 G.3); one of 127 lacks a byte."""
    (path,) = write_stack(n=1)
    ds = pydicom.dcmread(BytesIO(encode(path, RLELossless).content))
    ds.PixelData = encapsulate(
        [struct.pack("<16L", 2, 64, 68, *[0] * 13) + runs + b"\x81\x05\x81\x05"]
    )
    ds.save_as(path)
    if whole:
        assert judge(index(path)) == 1
    else:
        assert "cannot be decoded" in refused(path)


@pytest.mark.parametrize(
    ("said", "instead"),
    [(b"1.2.840.10008.1.2.5", b"1.2.840.10008.1.2.1"), (b"\2\0\x10\0UI", b"\2\0\x11\0UI")],
    ids=["called native", "not named"],
)
def test_compressed_pixels_are_not_read_as_native_ones(write_stack, said, instead):
    (path,) = write_stack(n=1)
    path.write_bytes(encode(path, RLELossless).content.replace(said, instead, 1))
    assert "PixelData (7FE0,0010)" in refused(path)


def test_signed_values_in_an_unsigned_file_are_refused(write_stack, edit_file):
    """Of such a file each decoder makes its own values."""
    (path,) = write_stack(n=1)
    path.write_bytes(encode(path, JPEG2000Lossless).content)
    assert judge(index(path)) == 1
    edit_file(path, PixelRepresentation=0)
    assert "PixelRepresentation (0028,0103)" in refused(path)


def test_sound_files_are_accepted_in_every_encoding(sound, tmp_path):
    for series in sound:
        series.lay_out(tmp_path, [seed.close(seed.open()) for seed in series.seeds])
        assert judge(index(tmp_path)) == 1, series.name


def test_damaged_files_are_read_right_or_not_at_all(sound, tmp_path):
    accepted, mutated = fuzz(sound, tmp_path, range(300))
    assert mutated >= 300
    assert accepted >= 30


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(10))
def test_many_damaged_files_are_read_right_or_not_at_all(sound, tmp_path, batch):
    accepted, mutated = fuzz(sound, tmp_path, range(1000 + 1600 * batch, 1000 + 1600 * (batch + 1)))
    assert mutated >= 2000
    assert accepted >= 200
