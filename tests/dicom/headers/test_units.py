"""Files whose header says that they hold no HU are left out; an unspecified unit is a warning."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import (
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

from ich3d.core.issues import IssueCode
from ich3d.core.types import FileRef, SliceHeader
from ich3d.dicom.headers.read import FileContent, NonCTFile, read_file
from ich3d.dicom.index import index
from tests.helpers.enhanced import Groups, functional_group, write_enhanced
from tests.helpers.lifelike import lifelike_head
from tests.helpers.pixels import WriteStack, store_values
from tests.helpers.series import edit

AXIAL = ["DERIVED", "PRIMARY", "AXIAL"]


def read(path: Path) -> FileContent:
    return read_file(FileRef(path, path.name))


def rescale(unit: str) -> Groups:
    """The functional group of the rescale, with a RescaleType."""
    return functional_group(
        "PixelValueTransformationSequence",
        RescaleSlope="1",
        RescaleIntercept="0",
        RescaleType=unit,
    )


@pytest.mark.parametrize("unit", ["MGML", "Z_EFF", "ED", "HU_MOD", "OD", "PCT", "mg/cm3"])
def test_a_unit_that_is_not_hu_is_left_out(write_stack: WriteStack, unit: str) -> None:
    (path,) = write_stack(n=1)
    edit(path, RescaleType=unit)
    content = read(path)
    assert isinstance(content, NonCTFile)
    assert content.code is IssueCode.NOT_HU
    assert content.problem == f"RescaleType (0028,1054) is {unit}: the values are not HU"


@pytest.mark.parametrize(
    "unit", ["HU", "hu", " HU ", "Hounsfield Units", "HOUNSFIELD_UNITS", "", None]
)
def test_hu_in_any_spelling_and_no_unit_are_read(write_stack: WriteStack, unit: str | None) -> None:
    for path in write_stack():
        edit(path, RescaleType=unit)
    (series,) = index(path.parent).series
    assert not series.issues


@pytest.mark.parametrize(
    "image_type",
    [
        [*AXIAL, "CBF"],
        ["DERIVED", "PRIMARY", "TTP"],
        [*AXIAL, "MAT_SPECIFIC", "IODINE"],
        [*AXIAL, "eff_atomic_num "],
        [*AXIAL, "CT_SOM5 SPI", "DE_IODINE"],
        [*AXIAL, "CBF_RGB"],
        [*AXIAL, "RHO_Z"],
    ],
)
@pytest.mark.parametrize("unit", ["HU", "US", None])
def test_a_map_is_left_out_whatever_its_unit(
    write_stack: WriteStack, image_type: Sequence[str], unit: str | None
) -> None:
    (path,) = write_stack(n=1)
    edit(path, ImageType=image_type, RescaleType=unit)
    content = read(path)
    assert isinstance(content, NonCTFile)
    assert content.code is IssueCode.NOT_HU
    assert content.problem.startswith("ImageType (0008,0008) names a map, ")


@pytest.mark.parametrize(
    "image_type",
    [
        AXIAL,
        [*AXIAL, "VMI"],
        [*AXIAL, "MAT_REMOVED"],
        [*AXIAL, "MAT_REMOVED", "IODINE"],
        [*AXIAL, "VNC_IODINE"],
        [*AXIAL, "PERFUSION"],
        ["CBF", "CBV", "AXIAL"],
    ],
)
def test_images_in_hu_are_no_maps(write_stack: WriteStack, image_type: Sequence[str]) -> None:
    (path,) = write_stack(n=1)
    edit(path, ImageType=image_type)
    (header,) = read(path)  # type: ignore[misc]
    assert isinstance(header, SliceHeader)


@pytest.mark.parametrize(
    "sop_class",
    [SecondaryCaptureImageStorage, MultiFrameGrayscaleByteSecondaryCaptureImageStorage],
)
def test_a_picture_of_a_screen_is_left_out(write_stack: WriteStack, sop_class: str) -> None:
    """Also without a rescale, which such files may lack."""
    (path,) = write_stack(n=1)
    store_values(path, np.zeros((16, 16), "u1"))
    edit(path, SOPClassUID=sop_class, RescaleType=None, RescaleSlope=None, RescaleIntercept=None)
    content = read(path)
    assert isinstance(content, NonCTFile)
    assert content.code is IssueCode.NOT_HU
    assert "Secondary Capture with 8 bits a pixel or less" in content.problem


def test_an_unspecified_unit_is_read_with_a_note(tmp_path: Path, write_stack: WriteStack) -> None:
    """As SimpleITK writes over true HU."""
    for path, hu in zip(write_stack(n=6), lifelike_head(6), strict=True):
        store_values(path, hu, RescaleType="US")
    (series,) = index(tmp_path).series
    (issue,) = series.issues
    assert issue.code is IssueCode.UNSPECIFIED_UNIT
    assert issue.detail == (
        "a000.dcm: RescaleType (0028,1054) is US, which leaves the unit open; read as HU"
    )


def test_a_slice_that_lost_its_unit_is_told_of_by_its_series(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    """The last slice leaves no gap that would tell of it."""
    *_, last = write_stack()
    edit(last, RescaleType="HT")
    indexed = index(tmp_path)
    assert [left_out.paths for left_out in indexed.left_out] == [(last.name,)]
    (issue,) = indexed.series[0].issues
    assert issue.code is IssueCode.NOT_HU
    assert issue.detail.startswith(f"1 file of the series left out: {last.name}: RescaleType")


def test_an_enhanced_file_of_a_map_is_left_out(tmp_path: Path) -> None:
    write_enhanced(tmp_path, frame_groups=lambda frame: rescale("MGML"))
    indexed = index(tmp_path)
    assert not indexed.series
    (left_out,) = indexed.left_out
    assert left_out.code is IssueCode.NOT_HU
    assert left_out.detail == "a.dcm: RescaleType (0028,1054) is MGML: the values are not HU"


def test_an_enhanced_file_of_one_frame_type_is_left_out(tmp_path: Path) -> None:
    frame_type = functional_group(
        "CTImageFrameTypeSequence", FrameType=["DERIVED", "PRIMARY", "VOLUME", "ELECTRON_DENSITY"]
    )
    write_enhanced(tmp_path, frame_groups=lambda frame: frame_type)
    (left_out,) = index(tmp_path).left_out
    assert "FrameType (0008,9007) names a map, ELECTRON_DENSITY" in left_out.detail


@pytest.mark.parametrize("n", [1, 8])
def test_frames_of_a_map_beside_frames_in_hu_are_left_out_with_a_warning(
    tmp_path: Path, n: int
) -> None:
    """Frames 5 to 8 lie where frames 1 to 4 do; of a file of one frame all is left out."""

    def groups(frame: int) -> Groups:
        return rescale("MGML" if frame > 4 or n == 1 else "HU")

    write_enhanced(tmp_path, n=n, frame_groups=groups)
    indexed = index(tmp_path)
    if n == 1:
        assert [left_out.code for left_out in indexed.left_out] == [IssueCode.NOT_HU]
        return

    (series,) = indexed.series
    assert not indexed.left_out
    assert [header.frame for header in series.headers] == [2, 4, 1, 3]
    (issue,) = series.issues
    assert issue.code is IssueCode.NOT_HU
    assert issue.detail == (
        "a.dcm: 4 frames left out, frame 5: RescaleType (0028,1054) is MGML: the values are not HU"
    )
