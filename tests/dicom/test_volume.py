"""A series is decoded to its volume, or it is said which file cannot be decoded."""

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from ich3d.core.issues import IssueCode
from ich3d.core.types import Issue, Rejected, SliceHeader, Volume
from ich3d.dicom.index import index
from ich3d.dicom.pixels.stored import StoredValues, read_slices
from ich3d.dicom.uids import uid
from ich3d.dicom.volume import load_volume
from tests.helpers.enhanced import (
    ASCENDING,
    damage_last_frame,
    for_frames,
    functional_group,
    write_enhanced,
)
from tests.helpers.mutations import compressed, encoded
from tests.helpers.pixels import WriteStack, store_frame, store_values
from tests.helpers.series import stack
from tests.helpers.zips import damage_member, pack_zip


def load(path: Path) -> Volume:
    """The volume of the only series at `path`."""
    (series,) = index(path).series
    volume = load_volume(series)
    assert isinstance(volume, Volume), volume
    return volume


def load_rejected(path: Path) -> Rejected:
    """What `load_volume` says of the only series at `path`, which cannot be decoded."""
    (series,) = index(path).series
    rejected = load_volume(series)
    assert isinstance(rejected, Rejected)
    return rejected


def test_slices_ascend_and_the_affine_leads_to_millimetres(tmp_path: Path) -> None:
    volume = load(write_enhanced(tmp_path))
    assert np.array_equal(volume.hu, stack().hu[list(ASCENDING)])
    assert volume.affine_mm is not None
    assert volume.affine_mm @ (0, 0, 1, 1) == pytest.approx((-100, -120, 5, 1))
    assert not volume.issues


def test_a_slice_is_identified_by_its_uid_frame_and_path(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    enhanced = write_enhanced(tmp_path)
    sop_uid = pydicom.dcmread(enhanced).SOPInstanceUID
    assert load(enhanced).keys == tuple((sop_uid, frame, "a.dcm") for frame in (2, 4, 1, 3))

    (single,) = write_stack(n=1, name="b")
    sop_uid = pydicom.dcmread(single).SOPInstanceUID
    assert load(single).keys == ((sop_uid, None, single.name),)


def test_each_frame_has_its_own_rescale_before_the_shared_one(tmp_path: Path) -> None:
    """Stored values of 50 in frame 2, the lowest."""
    rescale = functional_group(
        "PixelValueTransformationSequence", RescaleSlope="2", RescaleIntercept="-7"
    )
    hu = stack().hu
    hu[1] = 50
    volume = load(write_enhanced(tmp_path, hu=hu, frame_groups=for_frames((2,), rescale)))
    assert np.all(volume.hu[0] == 93)
    assert np.array_equal(volume.hu[1:], hu[[3, 0, 2]])


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
    ],
)
def test_frames_are_decoded_in_every_uncompressed_syntax(tmp_path: Path, syntax: UID) -> None:
    path = write_enhanced(tmp_path)
    path.write_bytes(encoded(pydicom.dcmread(path), syntax))
    assert np.array_equal(load(path).hu, stack().hu[list(ASCENDING)])


def test_compressed_frames_are_decoded(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path)
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.save_as(path)
    assert np.array_equal(load(path).hu, stack().hu[list(ASCENDING)])


def test_a_frame_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path)
    damage_last_frame(path)
    rejected = load_rejected(path)
    assert rejected.code is IssueCode.UNDECODABLE
    assert "a.dcm frame 4: PixelData (7FE0,0010)" in rejected.detail


def test_pixels_with_a_wrong_checksum_in_a_zip_reject_the_volume(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    write_stack("x", hu=np.zeros((4, 64, 64), np.int16))
    pack_zip(tmp_path / "x", tmp_path / "a.zip", zipfile.ZIP_STORED)
    damage_member(tmp_path / "a.zip", "inner/a001.dcm")
    rejected = load_rejected(tmp_path)
    assert rejected.code is IssueCode.UNDECODABLE
    assert "a.zip/inner/a001.dcm: PixelData (7FE0,0010)" in rejected.detail
    assert "the zip is damaged" in rejected.detail
    assert rejected.paths == tuple(f"a.zip/inner/a{i:03d}.dcm" for i in range(4))


def test_hu_beyond_16_bits_are_clipped_with_an_issue(write_stack: WriteStack) -> None:
    (path,) = write_stack(n=1)
    values = np.full((16, 16), 100, "<u2")
    values[0, :3] = 60000
    store_values(path, values, RescaleIntercept="-1024")
    volume = load(path)
    assert volume.hu[0, 0, 0] == 32767
    (issue,) = (issue for issue in volume.issues if issue.code is IssueCode.HU_CLIPPED)
    assert f"{path.name} in 3 pixels" in issue.detail


@pytest.mark.parametrize("keep", [0, 30, 200])
def test_a_damaged_frame_rejects_the_volume(
    tmp_path: Path, write_stack: WriteStack, keep: int
) -> None:
    paths = write_stack()
    syntax, frame = compressed(paths[2], "JPEG")
    store_frame(paths[2], syntax, frame[:keep] + b"\xff" * 10)
    rejected = load_rejected(tmp_path)
    assert rejected.code is IssueCode.UNDECODABLE
    assert rejected.subject == uid("series", "a")
    assert "PixelData (7FE0,0010)" in rejected.detail
    assert paths[2].name in rejected.detail
    assert len(rejected.paths) == 4


def test_a_file_that_is_gone_rejects_the_volume(tmp_path: Path, write_stack: WriteStack) -> None:
    """It is unreadable and not undecodable: the next time it may be there."""
    paths = write_stack()
    (series,) = index(tmp_path).series
    paths[0].unlink()
    rejected = load_volume(series)
    assert isinstance(rejected, Rejected)
    assert rejected.code is IssueCode.UNREADABLE
    assert len(rejected.paths) == 4


@pytest.mark.parametrize("air", [-1000, 0], ids=["wrapped", "honest"])
def test_each_slice_is_decoded_once(
    tmp_path: Path, write_stack: WriteStack, monkeypatch: pytest.MonkeyPatch, air: int
) -> None:
    """Also where a header of the kind with wrapped values asks for a look at all pixels first."""
    hu = np.full((4, 16, 16), 35, np.int16)
    hu[:, :8] = air
    for path, pixels in zip(write_stack(hu=hu), hu, strict=True):
        store_values(path, (pixels & 0xFFF).astype("<u2"), BitsStored=12, RescaleIntercept="0")
    (series,) = index(tmp_path).series
    decoded = []

    def read_and_count(headers: Sequence[SliceHeader]) -> Iterator[StoredValues | Issue]:
        for header, stored in zip(headers, read_slices(headers), strict=True):
            decoded.append(header.name)
            yield stored

    monkeypatch.setattr("ich3d.dicom.volume.read_slices", read_and_count)
    volume = load_volume(series)
    assert isinstance(volume, Volume)
    assert np.array_equal(volume.hu, hu)
    assert decoded == [header.name for header in series.headers]
