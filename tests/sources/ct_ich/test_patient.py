"""One CT-ICH patient as a DICOM series."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from ich3d.core.errors import DataError
from ich3d.sources.ct_ich.diagnosis import slice_uid
from ich3d.sources.ct_ich.patient import import_patient, read_record, write_record
from tests.helpers.ct_ich import SIZE, disc_hu, save_slice, save_window, write_shifted_patient


def patient_folder(src: Path, bone_center: float = 700) -> Path:
    """A patient with slices 1, 2 and 4."""
    for number in (1, 2, 4):
        save_slice(src, "049", number, bone_center)
    return src / "Patients_CT/049"


def test_slices_become_a_series_with_a_gap_where_one_is_missing(tmp_path: Path) -> None:
    record = import_patient(patient_folder(tmp_path), tmp_path)
    assert record.written == [1, 2, 4]
    slices = [pydicom.dcmread(tmp_path / "049" / f"{n}.dcm") for n in (1, 2, 4)]
    assert [ds.ImagePositionPatient[2] for ds in slices] == [5, 10, 20]
    assert {tuple(ds.ImageOrientationPatient) for ds in slices} == {(1, 0, 0, 0, 1, 0)}
    assert len({ds.SeriesInstanceUID for ds in slices}) == 1
    assert [ds.SOPInstanceUID for ds in slices] == [slice_uid("049", n) for n in (1, 2, 4)]
    assert {ds.PatientID for ds in slices} == {"CT-ICH-049"}
    middle = SIZE // 2 - 0.5
    for ds in slices:
        centre = np.array(ds.ImagePositionPatient[:2]) + middle * np.array(ds.PixelSpacing)
        assert centre == pytest.approx([0, 0], abs=1e-6)


@pytest.mark.parametrize("bone_center", [700, 800])
def test_hu_are_rebuilt_for_either_bone_centre(tmp_path: Path, bone_center: float) -> None:
    record = import_patient(patient_folder(tmp_path, bone_center), tmp_path)
    assert record.bone_center == bone_center
    assert record.agreement is not None
    assert record.agreement > 0.93
    row = pydicom.dcmread(tmp_path / "049/1.dcm").pixel_array[SIZE // 2]
    assert row[SIZE // 2] == pytest.approx(35, abs=2)
    assert row[SIZE // 2 + 18] == pytest.approx(1000, abs=100)
    assert row[-1] == -1000


def test_headers_say_how_the_pixels_were_derived(tmp_path: Path) -> None:
    import_patient(patient_folder(tmp_path, 800), tmp_path)
    ds = pydicom.dcmread(tmp_path / "049/1.dcm")
    assert "centre 800" in ds.DerivationDescription
    assert "assumed" in ds.DerivationDescription
    assert ds.ImageType[0] == "DERIVED"
    assert ds.LossyImageCompression == "01"
    assert ds.LossyImageCompressionRatio > 1
    assert ds.LossyImageCompressionMethod == "ISO_10918_1"


def test_bone_images_numbered_two_higher_are_paired_by_content(tmp_path: Path) -> None:
    record = import_patient(write_shifted_patient(tmp_path), tmp_path)
    assert record.bone_shift == 2
    assert record.written == [1, 2, 3, 4]
    assert [slice_.slice_number for slice_ in record.lacking] == [5, 6]
    ds = pydicom.dcmread(tmp_path / "081/4.dcm")
    assert "picture +2" in ds.DerivationDescription
    skull = np.flatnonzero(ds.pixel_array[SIZE // 2] > 500)
    assert skull.max() - SIZE // 2 == pytest.approx(23, abs=1)


def test_a_bone_image_of_another_slice_is_not_used(tmp_path: Path) -> None:
    folder = patient_folder(tmp_path)
    path = folder / "bone/2.jpg"
    with Image.open(path) as image:
        moved = image.transform((SIZE, SIZE), Image.Transform.AFFINE, (1, 0, 9, 0, 1, 9))
    moved.save(path, quality=97)
    record = import_patient(folder, tmp_path)
    assert record.written == [1, 4]
    ((number, lacks, detail),) = record.lacking
    assert (number, lacks) == (2, "bone")
    assert detail.startswith("Patients_CT/049/bone/2.jpg agrees with its brain window on ")
    assert sorted(path.name for path in (tmp_path / "049").iterdir()) == ["1.dcm", "4.dcm"]


def test_a_bone_window_of_an_unknown_centre_is_not_used(tmp_path: Path) -> None:
    record = import_patient(patient_folder(tmp_path, 900), tmp_path)
    assert record.written == []
    assert [lacks for _, lacks, _ in record.lacking] == ["bone", "bone", "bone"]
    assert not (tmp_path / "049").exists()


def test_a_patient_without_images_has_an_empty_record(tmp_path: Path) -> None:
    (tmp_path / "Patients_CT/049/brain").mkdir(parents=True)
    record = import_patient(tmp_path / "Patients_CT/049", tmp_path)
    assert (record.bone_center, record.agreement, record.written) == (None, None, [])


def test_images_of_several_sizes_are_rejected(tmp_path: Path) -> None:
    folder = patient_folder(tmp_path)
    save_window(folder / "brain/2.jpg", disc_hu(2)[:-1], 40, 120)
    with pytest.raises(DataError, match="several sizes"):
        import_patient(folder, tmp_path)


def test_a_record_survives_its_file(tmp_path: Path) -> None:
    record = import_patient(write_shifted_patient(tmp_path), tmp_path)
    write_record(tmp_path / "081.json", record)
    assert read_record(tmp_path / "081.json") == record
