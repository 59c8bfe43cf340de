"""What tells series apart is read from their files, and the patient is masked in it."""

from pathlib import Path
from typing import Any

import pytest

from ich3d.dicom.index import index
from ich3d.dicom.origin import SeriesOrigin, series_origin
from ich3d.dicom.write import write_series
from tests.helpers.enhanced import write_enhanced
from tests.helpers.series import edit, head_series


def origin(folder: Path, inside: str = "in", patient_id: str = "4711", **attributes: Any) -> Any:
    """The origin of a series in `folder`/`inside` whose files have the attributes."""
    series = head_series(n=2, patient_id=patient_id, extra=attributes)
    write_series(series, folder / inside)
    (found,) = index(folder).series
    return series_origin(found)


def test_the_header_tells_description_kernel_thickness_and_scanner(tmp_path: Path) -> None:
    found = origin(
        tmp_path,
        "study/thin",
        SeriesDescription="Head 1.0 H60s",
        ConvolutionKernel="H60s",
        Manufacturer="SIEMENS",
        ManufacturerModelName="Sensation 16",
    )
    assert found == SeriesOrigin(
        "Head 1.0 H60s", "H60s", "5.0", "SIEMENS", "Sensation 16", "study/thin"
    )
    assert found.sentence == "Head 1.0 H60s, kernel H60s, 5.0 mm thick, SIEMENS Sensation 16"
    assert (
        SeriesOrigin(manufacturer="GE", manufacturer_model_name="GE Optima").scanner == "GE Optima"
    )
    assert SeriesOrigin().sentence == ""


def test_a_series_of_several_folders_has_the_one_that_holds_them(tmp_path: Path) -> None:
    first, _ = write_series(head_series(n=2), tmp_path / "study" / "a")
    (tmp_path / "study" / "b").mkdir()
    first.rename(tmp_path / "study" / "b" / first.name)
    (series,) = index(tmp_path).series
    assert series_origin(series).folder == "study"
    (series,) = index(tmp_path / "study" / "b" / first.name).series
    assert series_origin(series).folder == "."


def test_names_and_ids_are_masked_wherever_they_stand(tmp_path: Path) -> None:
    found = origin(
        tmp_path,
        "DOE JANE_4711/19630412",
        PatientName="Doe^Jane^H",
        PatientBirthDate="19630412",
        SeriesDescription="head of jane, 4711, H30",
        ConvolutionKernel="H30",
    )
    assert found.folder == "*** ***_***/***"
    assert found.series_description == "head of ***, ***, H30"
    assert found.convolution_kernel == "H30"


def test_parts_of_other_words_are_no_names(tmp_path: Path) -> None:
    found = origin(tmp_path, PatientName="Ax^Head", SeriesDescription="Axial headrest 1.47112")
    assert found.series_description == "Axial headrest 1.47112"


@pytest.mark.parametrize(
    ("charset", "name", "description"),
    [("ISO_IR 192", "Müller^Zoë", "Schädel Müller"), ("ISO_IR 100", "Müller^Zoë", "Kopf Müller")],
)
def test_names_in_other_alphabets_are_masked(
    tmp_path: Path, charset: str, name: str, description: str
) -> None:
    for path in write_series(head_series(n=2), tmp_path):
        edit(path, SpecificCharacterSet=charset, PatientName=name, SeriesDescription=description)
    (series,) = index(tmp_path).series
    assert series_origin(series).series_description == description.replace("Müller", "***")


def test_a_multi_frame_file_tells_the_same(tmp_path: Path) -> None:
    edit(
        write_enhanced(tmp_path),
        Manufacturer="Philips",
        SeriesDescription="Smith, head",
        PatientName="Smith",
    )
    (series,) = index(tmp_path).series
    found = series_origin(series)
    assert (found.series_description, found.scanner) == ("***, head", "Philips")
