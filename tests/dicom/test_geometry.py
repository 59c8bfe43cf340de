"""Normals, order and affines follow from positions and orientations."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from ich3d.dicom.geometry import affine_mm, slice_normal
from ich3d.dicom.index import index
from tests.helpers.pixels import WriteStack

TILT = np.radians(20)
TILTED = (0.0, float(np.cos(TILT)), float(-np.sin(TILT)))


def test_a_sagittal_stack_is_ordered_along_its_normal(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    write_stack(
        row_dir=(0.0, 1.0, 0.0),
        col_dir=(0.0, 0.0, -1.0),
        position_mm=np.array([(x, -120.0, 40.0) for x in (9.0, 6.0, 3.0, 0.0)]),
    )
    (series,) = index(tmp_path).series
    assert slice_normal(series.headers).tolist() == [-1, 0, 0]
    assert [header.position_mm[0] for header in series.headers] == [9, 6, 3, 0]
    assert series.spacing_mm == pytest.approx(3)


def test_the_affine_places_every_voxel_where_itk_does(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    write_stack()
    (series,) = index(tmp_path).series
    image = sitk.ReadImage([str(header.file.path) for header in series.headers])
    affine = affine_mm(series)
    assert affine is not None
    for voxel in ((0, 0, 0), (15, 0, 0), (0, 9, 0), (3, 4, 3)):
        assert (affine @ (*voxel, 1))[:3] == pytest.approx(
            image.TransformIndexToPhysicalPoint(voxel)
        )


def test_the_affine_maps_each_slice_to_its_position(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    write_stack(col_dir=TILTED, position_mm=np.outer(np.arange(4), (0.3, -0.2, 4.0)))
    (series,) = index(tmp_path).series
    affine = affine_mm(series)
    assert affine is not None
    for k, header in enumerate(series.headers):
        assert (affine @ (0, 0, k, 1))[:3] == pytest.approx(header.position_mm)


@pytest.mark.parametrize("n_removed", [0, 1])
def test_only_a_regular_stack_has_an_affine(
    tmp_path: Path, write_stack: WriteStack, n_removed: int
) -> None:
    paths = write_stack(n=6)
    for path in paths[2 : 2 + n_removed]:
        path.unlink()
    (series,) = index(tmp_path).series
    assert (affine_mm(series) is None) == bool(n_removed)
