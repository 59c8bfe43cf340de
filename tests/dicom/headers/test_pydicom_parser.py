"""Enhanced CT: one file, a slice a frame, each with a place and a rescale of its own."""

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from ich3d.core.issues import IssueCode
from ich3d.core.types import Rejected, Volume
from ich3d.dicom.assembly.grouping import Policy
from ich3d.dicom.index import index
from ich3d.dicom.inspection import as_json
from ich3d.dicom.validate import check_pixels, leave_out_undecodable
from ich3d.dicom.volume import load_volume

LENIENT = Policy(lenient=True)
Z = (10.0, 0.0, 15.0, 5.0)  # of frames 1 to 4


def item(**values):
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def macro(keyword, **values):
    return {keyword: Sequence([item(**values)])}


@pytest.fixture
def write_enhanced(write_stack, make_stack):
    """An Enhanced CT file whose frame k lies at Z[k] and holds slice k of the plain stack. `shared` and
    `own(k)` add functional groups."""

    def write(shared=None, own=lambda k: {}, n=4, name="a", frames=None):
        (path,) = write_stack(n=1, name=name, file_names=[f"{name}.dcm"])
        ds = pydicom.dcmread(path)
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
            del ds[keyword]
        del ds.RescaleSlope, ds.RescaleIntercept, ds.AcquisitionNumber
        ds.NumberOfFrames = n
        groups = {
            **macro("PixelMeasuresSequence", PixelSpacing=[0.5, 0.4]),
            **macro("PlaneOrientationSequence", ImageOrientationPatient=[1, 0, 0, 0, 1, 0]),
            **macro("PixelValueTransformationSequence", RescaleSlope="1", RescaleIntercept="0"),
        }
        ds.SharedFunctionalGroupsSequence = [item(**{**groups, **(shared or {})})]
        place = [
            macro("PlanePositionSequence", ImagePositionPatient=[-100, -120, Z[k % len(Z)]])
            for k in range(n)
        ]
        ds.PerFrameFunctionalGroupsSequence = [item(**{**place[k], **own(k)}) for k in range(n)]
        pixels = make_stack(n=n).hu if frames is None else frames
        ds.PixelData = pixels.astype("<i2").tobytes()
        ds["PixelData"].VR = "OW"
        ds.save_as(path)
        return path

    return write


def load(path):
    found = index(path)
    assert not found.rejected, found.rejected
    volume = load_volume(found.series[0])
    assert isinstance(volume, Volume), volume
    return volume


def test_frames_are_slices_in_the_order_of_their_positions(write_enhanced, make_stack):
    volume = load(write_enhanced())
    assert [header.frame for header in volume.series.headers] == [2, 4, 1, 3]
    assert np.array_equal(volume.hu, make_stack().hu[[1, 3, 0, 2]])
    assert volume.series.z_mm.tolist() == [0, 5, 10, 15]
    assert volume.affine_mm @ (0, 0, 1, 1) == pytest.approx((-100, -120, 5, 1))
    assert not volume.reasons


def test_json_repeats_the_file_and_numbers_its_frames(write_enhanced):
    path = write_enhanced()
    told = as_json(index(path))
    (series,) = told["series"]
    assert told["files"] == 1
    assert series["frames"] == [2, 4, 1, 3]
    assert len(set(series["sop_uids"])) == 1
    assert series["paths"] == [path.name] * 4


def test_a_slice_is_named_by_its_file_and_frame(write_enhanced, write_stack):
    path = write_enhanced()
    sop = pydicom.dcmread(path).SOPInstanceUID
    assert load(path).keys == tuple((sop, frame, "a.dcm") for frame in (2, 4, 1, 3))
    (single,) = write_stack(n=1, name="b")
    assert load(single).keys == ((pydicom.dcmread(single).SOPInstanceUID, None, single.name),)


def test_each_frame_has_its_own_rescale_before_the_shared_one(write_enhanced, make_stack):
    def own(k):
        if k == 1:
            return macro(
                "PixelValueTransformationSequence", RescaleSlope="2", RescaleIntercept="-7"
            )
        return {}

    hu = make_stack().hu
    hu[1] = 50
    assert np.all(load(write_enhanced(own=own, frames=hu)).hu[0] == 93)


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
    ],
)
def test_frames_of_every_native_syntax(write_enhanced, make_stack, syntax):
    path = write_enhanced()
    ds = pydicom.dcmread(path)
    if syntax == ExplicitVRBigEndian:
        ds.PixelData = np.frombuffer(ds.PixelData, "<i2").astype(">i2").tobytes()
    ds.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(path, ds, implicit_vr=syntax == ImplicitVRLittleEndian,
                     little_endian=syntax != ExplicitVRBigEndian, force_encoding=True)  # fmt: skip
    assert np.array_equal(load(path).hu, make_stack().hu[[1, 3, 0, 2]])


def test_compressed_frames(write_enhanced, make_stack):
    path = write_enhanced()
    ds = pydicom.dcmread(path)
    ds.compress(RLELossless, generate_instance_uid=False)
    ds.save_as(path)
    assert np.array_equal(load(path).hu, make_stack().hu[[1, 3, 0, 2]])


def test_an_enhanced_file_of_one_frame_has_no_frame_number(write_enhanced, make_stack):
    volume = load(write_enhanced(n=1))
    assert volume.series.headers[0].frame is None
    assert np.array_equal(volume.hu, make_stack(n=1).hu)


def test_frame_types_are_a_volume_each(write_enhanced):
    """Frames 5 to 8 lie where 1 to 4 do, and are an average of something else."""

    def own(k):
        kind = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE" if k < 4 else "AVERAGE"]
        return macro("CTImageFrameTypeSequence", FrameType=kind)

    found = index(write_enhanced(own=own, n=8))
    first, second = found.series
    assert {header.frame for header in first.headers} | {
        header.frame for header in second.headers
    } == set(range(1, 9))
    assert {header.frame_type for header in second.headers} != {
        header.frame_type for header in first.headers
    }
    (reason,) = first.reasons
    assert "FrameType (0008,9007)" in reason.detail


def test_frame_acquisitions_that_overlap_are_a_volume_each(write_enhanced):
    path = write_enhanced(
        own=lambda k: macro("FrameContentSequence", FrameAcquisitionNumber=1 + k // 4), n=8
    )
    assert [len(series) for series in index(path).series] == [4, 4]


def test_a_frame_without_a_position_rejects_the_file(write_enhanced):
    path = write_enhanced(own=lambda k: {"PlanePositionSequence": Sequence([])} if k == 2 else {})
    (rejected,) = index(path).rejected
    assert rejected.code is IssueCode.NO_POSITION
    assert rejected.detail == "a.dcm: frame 3: ImagePositionPatient (0020,0032) is missing"
    assert rejected.paths == ("a.dcm",)


FAULTS = [
    ("PlanePositionSequence", IssueCode.NO_POSITION, "ImagePositionPatient (0020,0032) is missing"),
    (
        "PlaneOrientationSequence",
        IssueCode.NO_ORIENTATION,
        "ImageOrientationPatient (0020,0037) is empty",
    ),
    ("PixelMeasuresSequence", IssueCode.NO_PIXEL_SPACING, "PixelSpacing (0028,0030) is empty"),
    ("PixelValueTransformationSequence", IssueCode.NO_RESCALE, "RescaleSlope (0028,1053) is empty"),
]


def faulty(sequence, *frames):
    """Functional groups that spoil the frames numbered so: no position, or an empty value of their own."""
    spoilt = {
        "PlanePositionSequence": {"PlanePositionSequence": Sequence([])},
        "PlaneOrientationSequence": macro("PlaneOrientationSequence", ImageOrientationPatient=None),
        "PixelMeasuresSequence": macro("PixelMeasuresSequence", PixelSpacing=None),
        "PixelValueTransformationSequence": macro(
            "PixelValueTransformationSequence", RescaleSlope=None
        ),
    }[sequence]
    return lambda k: spoilt if k + 1 in frames else {}


@pytest.mark.parametrize(("sequence", "code", "sentence"), FAULTS)
def test_lenient_leaves_a_faulty_frame_out_and_nothing_else(
    write_enhanced, make_stack, sequence, code, sentence
):
    """Frame 4 lies at 5 mm, between frame 2 at 0 mm and frame 1 at 10 mm."""
    path = write_enhanced(own=faulty(sequence, 4))
    (rejected,) = index(path).rejected
    assert (rejected.code, rejected.detail) == (code, f"a.dcm: frame 4: {sentence}")
    found = index(path, policy=LENIENT)
    assert not found.rejected
    assert not found.left_out  # the file is in the volume
    (series,) = found.series
    assert [header.frame for header in series.headers] == [2, 1, 3]
    gap, incomplete = series.reasons
    assert gap.code is IssueCode.IRREGULAR_SPACING
    assert "a.dcm frame 2 and a.dcm frame 1 lie 10.00 mm apart" in gap.detail
    assert (incomplete.code, incomplete.detail) == (
        IssueCode.INCOMPLETE,
        f"left out: {rejected.detail}",
    )
    volume = load_volume(series)
    assert isinstance(volume, Volume)
    assert np.array_equal(volume.hu, make_stack().hu[[1, 0, 2]])


def test_further_faulty_frames_are_counted(write_enhanced):
    path = write_enhanced(own=faulty("PlanePositionSequence", 1, 3, 4))
    assert index(path).rejected[0].detail.endswith("; 2 more frames with flaws")
    (series,) = index(path, policy=LENIENT).series
    assert [header.frame for header in series.headers] == [2]
    assert series.reasons[-1].detail.startswith("left out: a.dcm: frame 1: ")


def test_lenient_rejects_a_file_without_a_sound_frame(write_enhanced):
    path = write_enhanced(own=faulty("PlanePositionSequence", 1, 2, 3, 4))
    (rejected,) = index(path, policy=LENIENT).rejected
    assert (rejected.code, rejected.paths) == (IssueCode.NO_POSITION, ("a.dcm",))


def test_lenient_leaves_a_file_without_a_sound_frame_out_once(tmp_path, write_enhanced):
    """Two files of one series: of one no frame has a position."""
    write_enhanced()
    path = write_enhanced(name="b", own=faulty("PlanePositionSequence", 1, 2, 3, 4))
    ds = pydicom.dcmread(path)
    ds.SeriesInstanceUID = pydicom.dcmread(tmp_path / "a.dcm").SeriesInstanceUID
    ds.save_as(path)
    (rejected,) = index(tmp_path).rejected
    assert rejected.paths == ("a.dcm", "b.dcm")
    found = index(tmp_path, policy=LENIENT)
    assert [len(series) for series in found.series] == [4]
    (item,) = found.left_out
    assert (item.code, item.paths) == (IssueCode.NO_POSITION, ("b.dcm",))
    assert "frame 1" in item.detail


def test_a_position_in_another_sequence_is_none_of_a_frame(write_enhanced):
    """Frames refer to other images by sequences that may hold any attribute of those."""
    own = {
        "PlanePositionSequence": Sequence([]),
        **macro("SourceImageSequence", ImagePositionPatient=[0, 0, 0]),
    }
    path = write_enhanced(own=lambda k: own if k == 1 else {})
    (rejected,) = index(path).rejected
    assert rejected.detail == "a.dcm: frame 2: ImagePositionPatient (0020,0032) is missing"


def test_a_position_of_the_whole_file_is_none_of_a_frame(write_enhanced, edit_file):
    path = write_enhanced(own=lambda k: {"PlanePositionSequence": Sequence([])})
    edit_file(path, ImagePositionPatient=[0, 0, 0])
    assert index(path).rejected[0].code is IssueCode.NO_POSITION


def test_equal_frames_are_told_and_the_file_counts_once(write_enhanced, make_stack):
    hu = make_stack(n=5).hu
    hu[4] = hu[0]
    found = index(write_enhanced(n=5, frames=hu))
    (series,) = found.series
    assert len(series) == 4
    (reason,) = series.reasons
    assert reason.code is IssueCode.DUPLICATE
    assert reason.detail == "a.dcm frame 5: a copy of a.dcm frame 1"
    assert not found.left_out


def test_a_copy_of_a_multi_frame_file_is_left_out_once(tmp_path, write_enhanced):
    path = write_enhanced()
    (tmp_path / "b.dcm").write_bytes(path.read_bytes())
    found = index(tmp_path)
    assert [len(series) for series in found.series] == [4]
    (copy,) = found.left_out
    assert (copy.code, copy.paths) == (IssueCode.DUPLICATE, ("b.dcm",))


def test_frames_that_differ_at_one_position_reject_the_file(write_enhanced):
    (rejected,) = index(write_enhanced(n=5)).rejected
    assert rejected.code is IssueCode.SAME_POSITION
    assert "a.dcm frame 1 and a.dcm frame 5" in rejected.detail
    assert rejected.paths == ("a.dcm",)


def test_pixels_that_lack_a_frame_reject_the_file(write_enhanced, edit_file):
    path = write_enhanced()
    edit_file(path, PixelData=bytes(3 * 512))
    (rejected,) = index(path).rejected
    assert rejected.code is IssueCode.TRUNCATED_PIXELS
    assert "holds 1536 of 2048 bytes" in rejected.detail


@pytest.mark.parametrize("n", ["3", "5", "0", "x"])
def test_a_count_of_frames_that_is_not_theirs_rejects_the_file(write_enhanced, edit_file, n):
    path = write_enhanced()
    edit_file(path, NumberOfFrames=n.encode())
    (rejected,) = index(path).rejected
    assert rejected.code is IssueCode.UNREADABLE
    assert "NumberOfFrames (0028,0008)" in rejected.detail


@pytest.fixture
def write_damaged(write_enhanced):
    """`write_enhanced`, compressed, with a last frame that no decoder reads."""

    def write(**changes):
        path = write_enhanced(**changes)
        _damage_last_frame(path)
        return path

    return write


def _damage_last_frame(path):
    ds = pydicom.dcmread(path)
    ds.compress(RLELossless, generate_instance_uid=False)
    ds.save_as(path)
    content = bytearray(path.read_bytes())
    last = content.rindex(b"\xfe\xff\x00\xe0")
    content[last + 8 : last + 40] = b"\xff" * 32
    path.write_bytes(content)


def test_a_frame_that_does_not_decode_is_named(write_damaged):
    rejected = load_volume(index(write_damaged()).series[0])
    assert isinstance(rejected, Rejected)
    assert rejected.code is IssueCode.UNDECODABLE
    assert "a.dcm frame 4: PixelData (7FE0,0010)" in rejected.detail


def test_a_file_of_two_volumes_with_a_damaged_frame_counts_once(write_damaged):
    """The file goes wholly where its damaged frame goes, and stays used where that is left out."""
    acquisitions = {
        "own": lambda k: macro("FrameContentSequence", FrameAcquisitionNumber=1 + k // 4), "n": 8
    }  # fmt: skip
    found = index(write_damaged(**acquisitions))
    assert len(found.series) == 2
    checked = check_pixels(found)
    assert [item.paths for item in checked.rejected] == [("a.dcm",)]
    assert not checked.series
    lenient = check_pixels(leave_out_undecodable(found))
    assert [len(series) for series in lenient.series] == [4, 3]
    assert not lenient.rejected
    assert not lenient.left_out
