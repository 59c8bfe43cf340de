"""What the header says of contrast agent, derived images and kernels."""

from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from ich3d.core.issues import IssueCode
from ich3d.dicom.assembly.series_kind import has_sharp_kernel
from ich3d.dicom.index import index
from tests.helpers.enhanced import functional_group, write_enhanced
from tests.helpers.pixels import EditFile, WriteStack

AXIAL = ["ORIGINAL", "PRIMARY", "AXIAL"]


def codes(path: Path) -> list[IssueCode]:
    """The codes of the only series at `path`; no detail of it repeats a description."""
    (series,) = index(path).series
    assert not any("Secret" in issue.detail for issue in series.issues)
    return [issue.code for issue in series.issues]


@pytest.mark.parametrize(
    ("keyword", "extra"),
    [
        ("ContrastBolusAgent", {"ContrastBolusAgent": "Omnipaque 350"}),
        ("ContrastBolusAgent", {"ContrastBolusAgent": "APPLIED"}),
        ("ContrastBolusAgent", {"ContrastBolusAgent": "NON IONIC"}),
        ("ContrastBolusVolume", {"ContrastBolusVolume": "80"}),
        ("ContrastBolusIngredient", {"ContrastBolusIngredient": "IODINE"}),
        ("ImageType", {"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "CTA"]}),
        ("ImageType", {"ImageType": ["DERIVED", "SECONDARY", "PERFUSION"]}),
        ("SeriesDescription", {"SeriesDescription": "Secret CTA head 1.0"}),
        ("SeriesDescription", {"SeriesDescription": "head_angio_0.6"}),
        ("SeriesDescription", {"SeriesDescription": "Brain Perfusion 5.0"}),
        ("SeriesDescription", {"SeriesDescription": "Head post contrast"}),
        ("SeriesDescription", {"SeriesDescription": "HEAD C+ 5mm"}),
        ("SeriesDescription", {"SeriesDescription": "Head with and without contrast"}),
        ("SeriesDescription", {"SeriesDescription": "Schädel mit KM"}),
        ("SeriesDescription", {"SeriesDescription": "Head wo and w contrast"}),
        ("SeriesDescription", {"SeriesDescription": "HEAD W IV"}),
        ("SeriesDescription", {"SeriesDescription": "Karotiden 0.6"}),
        ("ProtocolName", {"ProtocolName": "CTA Head"}),
        ("StudyDescription", {"StudyDescription": "CT head w contrast"}),
    ],
)
def test_contrast_is_flagged_with_the_attribute_that_tells_of_it(
    tmp_path: Path, write_stack: WriteStack, keyword: str, extra: dict[str, object]
) -> None:
    write_stack(extra={"SpecificCharacterSet": "ISO_IR 100", **extra})
    (series,) = index(tmp_path).series
    assert codes(tmp_path) == [IssueCode.CONTRAST]
    assert f"{keyword} (" in series.issues[0].detail


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"ContrastBolusAgent": ""},
        {"ContrastBolusAgent": "NONE"},
        {"ContrastBolusAgent": "No contrast"},
        {"ContrastBolusAgent": "-"},
        {"ContrastBolusAgent": "N/A"},
        {"ContrastBolusVolume": "0.0"},
        {"SeriesDescription": "Head without contrast"},
        {"SeriesDescription": "HEAD W/O CONTRAST"},
        {"SeriesDescription": "Non-contrast head"},
        {"SeriesDescription": "noncontrast 5.0"},
        {"SeriesDescription": "Precontrast"},
        {"SeriesDescription": "Schädel nativ"},
        {"SeriesDescription": "Kopf ohne KM"},
        {"SeriesDescription": "Posterior fossa post trauma"},
        {"SeriesDescription": "Plain head", "ProtocolName": "CTA", "StudyDescription": "CTA head"},
    ],
)
def test_plain_series_are_not_flagged(
    tmp_path: Path, write_stack: WriteStack, extra: dict[str, object]
) -> None:
    write_stack(extra={"SpecificCharacterSet": "ISO_IR 100", **extra})
    assert codes(tmp_path) == []


def test_the_contrast_of_an_enhanced_file_is_a_sequence(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path)
    assert codes(tmp_path) == []
    dataset = pydicom.dcmread(path)
    agent = Dataset()
    agent.ContrastBolusIngredient = "IODINE"
    dataset.ContrastBolusAgentSequence = Sequence([agent])
    dataset.save_as(path)
    assert codes(tmp_path) == [IssueCode.CONTRAST]


@pytest.mark.parametrize(
    ("extra", "word"),
    [
        ({"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "MIP"]}, "MIP"),
        ({"ImageType": ["DERIVED", "SECONDARY", "MPR"]}, "MPR"),
        ({"ImageType": ["DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"]}, "REFORMATTED"),
        ({"ImageType": ["DERIVED", "SECONDARY", "PROJECTION IMAGE"]}, "PROJECTION"),
        ({"ImageType": ["DERIVED", "PRIMARY", "VOLUME", "MAXIMUM"]}, "MAXIMUM"),
        ({"SeriesDescription": "Secret_MIP_axial"}, "MIP"),
    ],
)
def test_projections_and_reformats_are_named(
    tmp_path: Path, write_stack: WriteStack, extra: dict[str, object], word: str
) -> None:
    write_stack(extra=extra)
    (series,) = index(tmp_path).series
    assert codes(tmp_path) == [IssueCode.DERIVED]
    assert f"({word})" in series.issues[0].detail


def test_the_projection_of_an_enhanced_file_is_in_its_frames(tmp_path: Path) -> None:
    technique = functional_group("CTImageFrameTypeSequence", VolumeBasedCalculationTechnique="MPR")
    write_enhanced(tmp_path, frame_groups=lambda frame: technique)
    assert codes(tmp_path) == [IssueCode.DERIVED]


@pytest.mark.parametrize(
    "image_type", [AXIAL, ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"], ["DERIVED", "PRIMARY"]]
)
def test_slices_of_a_scan_are_not_derived(
    tmp_path: Path, write_stack: WriteStack, image_type: list[str]
) -> None:
    write_stack(extra={"ImageType": image_type, "SeriesDescription": "Head compressed 3D"})
    assert codes(tmp_path) == []


@pytest.mark.parametrize(
    ("kernel", "description", "is_sharp"),
    [
        ("H31s", "", False),
        ("J40s\\3", "", False),
        ("Hr40h", "", False),
        ("H60s", "", True),
        ("Br64d", "", True),
        ("STANDARD", "", False),
        ("SOFT", "", False),
        ("BONEPLUS", "", True),
        ("EDGE", "", True),
        ("FC21", "", False),
        ("FC30", "", True),
        ("FC64", "", False),
        ("UB", "", False),
        ("D", "", True),
        ("", "Head 5.0", False),
        ("", "Bone 1.0", True),
    ],
)
def test_kernels_of_five_vendors(
    write_stack: WriteStack,
    tmp_path: Path,
    edit_file: EditFile,
    kernel: str,
    description: str,
    is_sharp: bool,
) -> None:
    (path,) = write_stack(n=1)
    edit_file(path, ConvolutionKernel=kernel.split("\\"), SeriesDescription=description)
    (series,) = index(tmp_path).series
    assert has_sharp_kernel(series.headers[0]) is is_sharp


@pytest.mark.parametrize(
    "changes",
    [
        {"ImageType": ["DERIVED", "SECONDARY", "REF_SURVIEW"]},
        {"ImageType": ["ORIGINAL", "PRIMARY", "SCOUT"]},
        {
            "SeriesDescription": "Topogram 0.6",
            "ImageOrientationPatient": [1, 0, 0, 0, 0, -1],
        },
    ],
)
def test_a_scout_in_other_words_is_left_out(
    tmp_path: Path, write_stack: WriteStack, edit_file: EditFile, changes: dict[str, object]
) -> None:
    (path,) = write_stack(n=1)
    edit_file(path, **changes)
    (left_out,) = index(tmp_path).left_out
    assert left_out.code is IssueCode.LOCALIZER


def test_an_axial_series_after_a_scout_is_no_scout(tmp_path: Path, write_stack: WriteStack) -> None:
    write_stack(extra={"SeriesDescription": "Scout and head"})
    assert codes(tmp_path) == []
