"""RLE frames are unpacked as pydicom unpacks them, or refused where a length is wrong."""

import struct
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.data import get_testdata_file
from pydicom.encaps import get_frame
from pydicom.uid import RLELossless

from ich3d.core.issues import IssueCode
from ich3d.core.types import Rejected
from ich3d.dicom.index import index
from ich3d.dicom.pixels import rle
from ich3d.dicom.volume import load_volume
from tests.helpers.pixels import WriteStack, issue_codes, load, store_frame

BUNDLED = Path(str(get_testdata_file("CT_small.dcm", download=False))).parent
SIZE = 16 * 16


def test_the_files_in_pydicom_unpack_as_pydicom_unpacks_them() -> None:
    names = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns about values that are not read here
        for path in sorted(path for path in BUNDLED.rglob("*") if path.is_file()):
            ds = pydicom.dcmread(path, force=True)
            if (
                ds.get("file_meta", {}).get("TransferSyntaxUID") != RLELossless
                or ds.SamplesPerPixel != 1
            ):
                continue
            frames = int(ds.get("NumberOfFrames", 1))
            expected = ds.pixel_array.reshape(frames, ds.Rows, ds.Columns)
            for number in range(frames):
                frame = get_frame(ds.PixelData, number, number_of_frames=frames)
                cells, deviation = rle.decode(frame, ds.Rows, ds.Columns, ds.BitsAllocated // 8)
                assert not deviation
                assert np.array_equal(cells.view(expected.dtype), expected[number]), path
            names.append(path.name)
    assert {"MR_small_RLE.dcm", "rtdose_rle.dcm"} <= set(names)


@pytest.mark.parametrize("bits", [8, 16])
def test_hu_of_every_width_are_exact(write_stack: WriteStack, bits: int) -> None:
    (path,) = write_stack(n=1)
    hu = np.arange(SIZE).reshape(16, 16) - 128
    hu[4:9] = 7  # runs to repeat
    ds = pydicom.dcmread(path)
    ds.BitsAllocated = ds.BitsStored = bits
    ds.HighBit = bits - 1
    ds.PixelData = hu.astype(f"<i{bits // 8}").tobytes()
    ds.compress(RLELossless, generate_instance_uid=False)
    ds.save_as(path)
    assert np.array_equal(load(path).hu[0], hu)
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[0], hu)


def frame_of(
    *segments: bytes, count: int | None = None, offsets: tuple[int, ...] | None = None
) -> bytes:
    """An RLE frame (PS3.5 G.5); `count` and `offsets` may be false."""
    starts = offsets or tuple(64 + len(b"".join(segments[:k])) for k in range(len(segments)))
    header = (len(segments) if count is None else count, *starts)
    return struct.pack("<16L", *header, *[0] * (16 - len(header))) + b"".join(segments)


LITERAL = bytes([127, *range(128)])
RUNS = b"\x81\x05\x81\x06"  # 128 fives and 128 sixes
NO_OPERATION = b"\x80"


@pytest.mark.parametrize(
    ("low", "tail"),
    [
        (RUNS, b""),
        (LITERAL * 2, b""),
        (LITERAL + RUNS[:2], b"\0"),
        (RUNS[:2] + NO_OPERATION + RUNS[2:], b"\0"),
    ],
    ids=["repeated", "literal", "padded", "no operation"],
)
def test_sound_segments_unpack(write_stack: WriteStack, low: bytes, tail: bytes) -> None:
    (path,) = write_stack(n=1)
    store_frame(path, RLELossless, frame_of(b"\x81\0\x81\0", low + tail))
    values = load(path).hu.ravel()
    assert len(set(values[:128])) == (128 if low.startswith(LITERAL) else 1)
    assert values[127] == (127 if low.startswith(LITERAL) else 5)


ROWS = [bytes([15, *range(k, k + 16)]) for k in range(16)]
"""Rows of 16 pixels, each a run of its own, as PS3.5 G.3.1 demands."""


@pytest.mark.parametrize(
    ("excess", "by_itk"),
    [
        (b"\0\0", True),
        (b"\0\x2a", True),
        (b"\0\0\0", True),
        (b"\xff\0", True),
        (b"\x80\x80", True),
        (None, False),
    ],
    ids=["a zero", "another byte", "padded", "a run", "no operation", "within the last run"],
)
def test_a_byte_too_many_is_cut_off_and_the_pixels_are_those_of_other_readers(
    write_stack: WriteStack, excess: bytes | None, by_itk: bool
) -> None:
    (path,) = write_stack(n=1)
    rows = (
        b"".join(ROWS) + excess if excess else b"".join(ROWS[:15]) + b"\x10" + ROWS[15][1:] + b"\1"
    )
    store_frame(path, RLELossless, frame_of(b"\xf1\0" * 16 + (excess or b""), rows))
    volume = load(path)
    assert issue_codes(volume) == {IssueCode.ENCODING_MENDED}
    (detail,) = (i.detail for i in volume.issues if i.code is IssueCode.ENCODING_MENDED)
    assert detail.startswith("a000.dcm: its RLE segments hold more bytes than there are pixels")
    assert np.array_equal(volume.hu[0], [range(k, k + 16) for k in range(16)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of the byte
        assert np.array_equal(pydicom.dcmread(path).pixel_array, volume.hu[0])
    if by_itk:
        assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[0], volume.hu[0])


HIGH = b"\x81\0\x81\0"
DAMAGED = {
    "a segment too many": (frame_of(HIGH, RUNS, RUNS), "counts 3 segments where the pixels have 2"),
    "a segment too few": (frame_of(RUNS), "counts 1 segment where the pixels have 2"),
    "an untrue count": (frame_of(HIGH, RUNS, count=0x10002), "counts 65538 segments"),
    "a gap after the header": (frame_of(HIGH, RUNS, offsets=(66, 68)), "do not ascend"),
    "offsets that descend": (frame_of(HIGH, RUNS, offsets=(64, 64)), "do not ascend"),
    "an offset beyond the frame": (frame_of(HIGH, RUNS, offsets=(64, 900)), "do not ascend"),
    "an offset too low": (
        frame_of(HIGH, RUNS, offsets=(64, 66)),
        "segment 1 unpacks to 128 bytes and not",
    ),
    "an offset too high": (
        frame_of(HIGH, RUNS, offsets=(64, 70)),
        "segment 1 has 2 bytes beyond its 256",
    ),
    "a run one byte short": (
        frame_of(HIGH, b"\x81\x05\x82\x06"),
        "segment 2 unpacks to 255 bytes and not",
    ),
    "a run too long": (
        frame_of(HIGH, RUNS[:2] + RUNS + RUNS),
        "segment 2 has 6 bytes beyond its 256",
    ),
    "a run across the end": (
        frame_of(HIGH, b"\x82\x05" * 3),
        "segment 2 unpacks to 381 bytes and not",
    ),
    "a literal run cut off": (
        frame_of(HIGH, LITERAL + LITERAL[:-8]),
        "segment 2 unpacks to 248 bytes",
    ),
    "bytes left over": (frame_of(HIGH, RUNS + b"\3" * 6), "segment 2 has 6 bytes beyond its 256"),
    "a byte too many somewhere": (
        frame_of(HIGH, bytes([0, 1]) + b"\x81\5\x81\6"),
        "segment 2 unpacks to 257 bytes and not to 256",
    ),
    "a last byte that may be a pixel": (
        frame_of(HIGH, b"\x81\5\x82\6\0\7\0\7"),
        "segment 2 has 2 bytes beyond its 256",
    ),
    "a cut header": (frame_of(HIGH, RUNS)[:40], "ends within the RLE header"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_length_that_is_wrong_refuses_the_frame(
    tmp_path: Path, write_stack: WriteStack, name: str
) -> None:
    frame, sentence = DAMAGED[name]
    paths = write_stack("deep")
    store_frame(paths[2], RLELossless, frame)
    (series,) = index(tmp_path).series
    rejected = load_volume(series)
    assert isinstance(rejected, Rejected)
    assert rejected.code is IssueCode.UNDECODABLE
    assert rejected.detail.startswith("deep/a002.dcm: PixelData (7FE0,0010) cannot be decoded: ")
    assert sentence in rejected.detail
    assert len(rejected.paths) == 4
