"""Written files are read back by others as what was meant, and written again to the byte."""

import numpy as np
import pytest
import SimpleITK as sitk

from ich3d.dicom.uids import uid
from ich3d.dicom.write import write_series


def test_itk_reads_the_hu_and_the_geometry_that_were_written(tmp_path, make_stack):
    series = make_stack()
    image = sitk.ReadImage([str(path) for path in write_series(series, tmp_path)])
    assert np.array_equal(sitk.GetArrayFromImage(image), series.hu)
    assert image.GetSpacing() == pytest.approx((0.4, 0.5, 5.0))
    assert image.GetOrigin() == pytest.approx((-100, -120, 0))


def test_equal_input_gives_equal_bytes(tmp_path, make_stack):
    first, second = (write_series(make_stack(), tmp_path / name) for name in ("x", "y"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_a_uid_depends_on_its_names_and_their_borders():
    assert uid("a", "b") == uid("a", "b")
    assert len({uid("a", "b"), uid("ab"), uid("b", "a"), uid("a", "b", 1)}) == 4
    assert all(len(uid("a", i)) <= 64 for i in range(100))


def test_lengths_that_disagree_are_refused(make_stack):
    with pytest.raises(ValueError, match="4 slices of pixels"):
        make_stack(file_names=["only-one"])
