"""Files that claim or unpack to more than a slice can hold are refused before memory is taken."""

import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from ich3d.core.issues import IssueCode
from ich3d.core.types import Rejected, Volume
from ich3d.dicom.index import index
from ich3d.dicom.limits import (
    MAX_HEADER_COST,
    MAX_PIXELS,
    MAX_UNPACKED_BYTES,
    WHOLE_FILE_BYTES,
    HeaderStream,
    HeaderTooLarge,
    unpacking_problem,
)
from ich3d.dicom.volume import load_volume
from tests.helpers.enhanced import functional_group, write_enhanced
from tests.helpers.mutations import encode
from tests.helpers.pixels import WriteStack, load, store_values
from tests.helpers.series import edit
from tests.helpers.zips import pack_zip

MIB = 1 << 20
BOMB_MIB = 400
"""What the bombs of these tests unpack to."""

MAX_PEAK_MIB = 300
"""What a process that refuses them may take in all; imports take a third of it."""


def element(tag: bytes, length: int) -> bytes:
    """The header of an OB element in explicit VR little endian."""
    return tag + b"OB\0\0" + length.to_bytes(4, "little")


PRIVATE = b"\x43\x00\x10\x10"
TRAILING_PADDING = b"\xfc\xff\xfc\xff"
ITEM = b"\xfe\xff\x00\xe0" + bytes(4)


def deflated(path: Path, before: bytes = b"", zeros_mib: int = 0, behind: bytes = b"") -> None:
    """Deflate a file; `before`, or `behind` and zeros, are put around its pixels' element."""
    seed = encode(path, DeflatedExplicitVRLittleEndian)
    assert seed.plain is not None
    opened = seed.open()
    packer = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    packed = [opened[: seed.plain]]
    packed.append(packer.compress(opened[seed.plain : seed.pixels_at] + before))
    if before:
        packed += [packer.compress(bytes(MIB)) for _ in range(zeros_mib)]
    packed.append(packer.compress(opened[seed.pixels_at :] + behind))
    if behind:
        packed += [packer.compress(bytes(MIB)) for _ in range(zeros_mib)]
    path.write_bytes(b"".join([*packed, packer.flush()]))


def deflated_before(path: Path) -> Path:
    deflated(path, before=element(PRIVATE, BOMB_MIB * MIB), zeros_mib=BOMB_MIB)
    return path


def deflated_behind(path: Path) -> Path:
    deflated(path, behind=element(TRAILING_PADDING, BOMB_MIB * MIB), zeros_mib=BOMB_MIB)
    return path


def zipped(path: Path) -> Path:
    """The slice with zeros behind its pixels, as the member of a zip."""
    content = path.read_bytes() + element(TRAILING_PADDING, BOMB_MIB * MIB)
    path.unlink()
    with (
        zipfile.ZipFile(path.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a", "w") as member,
    ):
        member.write(content)
        for _ in range(BOMB_MIB):
            member.write(bytes(MIB))
    return path.with_suffix(".zip")


def deflated_and_zipped(path: Path) -> Path:
    deflated_before(path)
    pack_zip(path.parent, path.parent.with_suffix(".zip"))
    return path.parent.with_suffix(".zip")


def of_items(path: Path) -> Path:
    """A sequence of millions of empty items, in a file of some kilobytes."""
    sequence = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + ITEM * 4_000_000
    seed = encode(path, DeflatedExplicitVRLittleEndian)
    opened = seed.open()
    assert seed.plain is not None
    path.write_bytes(seed.close(opened[: seed.plain] + sequence))
    return path


def of_groups(path: Path) -> Path:
    """Functional groups of millions of frames, in a file of some kilobytes."""
    items = ITEM * 4_000_000
    deflated(path, before=b"\x00\x52\x30\x92SQ\0\0" + len(items).to_bytes(4, "little") + items)
    return path


def of_many_pixels(path: Path) -> Path:
    """RLE pixels of 65535 x 65535, which would take 8 GiB."""
    ds = pydicom.dcmread(path)
    ds.compress(RLELossless, generate_instance_uid=False)
    ds.Rows = ds.Columns = 65535
    ds.save_as(path)
    return path


BOMBS = (
    deflated_before, deflated_behind, zipped, deflated_and_zipped, of_items, of_groups,
    of_many_pixels,
)  # fmt: skip

READ = r"""
import re, sys
from pathlib import Path
from ich3d.dicom.index import index
from ich3d.dicom.validate import check_pixels
checked = check_pixels(index(Path(sys.argv[1])))
(rejected,) = checked.rejected
status = Path("/proc/self/status")
peak_kib = re.search(r"VmHWM:\s*(\d+)", status.read_text())[1] if status.exists() else 0
peak_mib = int(peak_kib) // 1024
print(len(checked.series), rejected.code, rejected.paths, peak_mib, sep=";")
"""


@pytest.mark.parametrize("make", BOMBS, ids=lambda make: make.__name__)
def test_a_bomb_is_refused_by_name_in_little_memory_and_good_series_are_read(
    tmp_path: Path, write_stack: WriteStack, make: Callable[[Path], Path]
) -> None:
    write_stack("good", name="good")
    (path,) = write_stack("bomb", n=1, name="bomb")
    bomb = make(path)
    assert bomb.stat().st_size < 4 * MIB
    done = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path)], capture_output=True, text=True, check=True
    )
    n_series, code, paths, peak_mib = done.stdout.strip().split(";")
    assert (n_series, code) == ("1", IssueCode.TOO_LARGE)
    assert bomb.relative_to(tmp_path).as_posix() in paths
    assert int(peak_mib) < MAX_PEAK_MIB


def test_what_may_be_unpacked() -> None:
    small = WHOLE_FILE_BYTES
    assert not unpacking_problem(small, 1)
    assert "100 times its size" in unpacking_problem(small + 1, 1)
    assert not unpacking_problem(small + 1, small // 90)
    assert not unpacking_problem(MAX_UNPACKED_BYTES, MAX_UNPACKED_BYTES)
    assert "more than 5 GiB" in unpacking_problem(MAX_UNPACKED_BYTES + 1, MAX_UNPACKED_BYTES)


def test_a_header_stream_counts_reads_and_bytes() -> None:
    stream = HeaderStream(cast(BinaryIO, BytesIO(bytes(20 * MAX_HEADER_COST))))
    for _ in range(1000):
        assert stream.read(8) == bytes(8)
    stream.seek(0)
    with pytest.raises(HeaderTooLarge):
        stream.read()


@pytest.mark.parametrize(("rows", "fits"), [(4096, True), (4097, False)])
def test_the_limit_of_a_slice_is_beyond_every_scanner(
    write_stack: WriteStack, rows: int, fits: bool
) -> None:
    (path,) = write_stack(n=1)
    store_values(path, np.full((rows, MAX_PIXELS // 4096), 7, "<i2"))
    indexed = index(path)
    if fits:
        assert np.all(load(path).hu == 7)
    else:
        (rejected,) = indexed.rejected
        assert rejected.code is IssueCode.TOO_LARGE
        assert "Rows (0028,0010) 4097 x Columns (0028,0011) 4096" in rejected.detail


@pytest.mark.parametrize("form", ["file", "zip", "deflated"])
def test_an_enhanced_file_of_two_thousand_frames_is_read(tmp_path: Path, form: str) -> None:
    n = 2000
    hu = np.arange(n * 64, dtype=np.int64).reshape(n, 8, 8).astype(np.int16)

    def at(frame: int) -> dict[str, pydicom.Sequence]:
        z_mm = 0.5 * (7 * frame % n)
        return functional_group("PlanePositionSequence", ImagePositionPatient=[0, 0, z_mm])

    path = write_enhanced(tmp_path / "in", n=n, frame_groups=at, hu=hu)
    edit(path, Rows=8, Columns=8)
    if form == "zip":
        pack_zip(path.parent, tmp_path / "a.zip")
    if form == "deflated":
        ds = pydicom.dcmread(path)
        ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        ds.save_as(path)
    (series,) = index(tmp_path).series
    volume = load_volume(series)
    assert isinstance(volume, Volume), volume
    order = np.argsort([7 * frame % n for frame in range(1, n + 1)])
    assert np.array_equal(volume.hu, np.maximum(hu[order], -1024))


def test_a_sparse_file_of_many_gigabytes_is_read_as_far_as_its_pixels(
    write_stack: WriteStack,
) -> None:
    (path,) = write_stack(n=1)
    before = load(path).hu
    with path.open("r+b") as stream:
        stream.truncate(20 << 30)
    assert np.array_equal(load(path).hu, before)


def test_a_frame_that_claims_another_size_is_refused_before_it_is_decoded(
    write_stack: WriteStack,
) -> None:
    (path,) = write_stack(n=1)
    path.write_bytes(encode(path, JPEG2000Lossless).content)
    content = path.read_bytes()
    at = content.index(b"\xff\x4f\xff\x51") + 8
    path.write_bytes(content[:at] + (65535).to_bytes(4, "big") * 2 + content[at + 8 :])
    rejected = load_volume(index(path).series[0])
    assert isinstance(rejected, Rejected)
    assert "it is compressed as 65535 x 65535 pixels and not as 16 x 16" in rejected.detail
