"""A NIfTI file holds the HU of each voxel, and the place of the voxel in the patient."""

import gzip
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from ich3d.cli.parser import main
from ich3d.core.issues import IssueCode
from ich3d.core.types import Rejected, Series, Volume
from ich3d.dicom.index import index
from ich3d.dicom.uids import uid
from ich3d.dicom.volume import load_volume
from ich3d.dicom.write import SeriesToWrite
from ich3d.export.nifti import Converted, Grid, as_acquired, convert, deskewed
from tests.helpers.pixels import EditFile, WriteStack
from tests.helpers.undecodable import garble

RunConvert = Callable[..., tuple[int, str, str]]
Place = Callable[[Volume], Grid | Rejected]

PROBES = ((0, 0, 0), (15, 0, 0), (0, 9, 1), (3, 4, 3), (15, 15, 3))
"""Voxels as (column, row, slice)."""


def tilted(angle_deg: float, n: int, step_mm: float) -> dict[str, Any]:
    """`n` slices of a gantry that is tilted about the patient's left-right axis.

    The table moves along z alone, so the stack is sheared.
    """
    angle = np.radians(angle_deg)
    position_mm = np.array([(-100.0, -120.0, step_mm * i) for i in range(n)])
    return {
        "n": n,
        "col_dir": (0.0, float(np.cos(angle)), float(-np.sin(angle))),
        "position_mm": position_mm,
    }


def load(series: Series) -> Volume:
    """The pixels of a series that can be decoded."""
    volume = load_volume(series)
    assert isinstance(volume, Volume)
    return volume


def one_series(folder: Path) -> Series:
    """The only series in `folder`."""
    (series,) = index(folder).series
    return series


def converted(folder: Path, out: Path, place: Place = as_acquired) -> Converted | Rejected:
    """The result of converting the only series in `folder`."""
    return convert(load(one_series(folder)), out, place)


def written(folder: Path, out: Path, place: Place = as_acquired) -> nibabel.Nifti1Image:
    done = converted(folder, out, place)
    assert isinstance(done, Converted), done
    return nibabel.load(done.path)


def world_lps(image: nibabel.Nifti1Image, voxel: Sequence[float]) -> np.ndarray:
    lps: np.ndarray = (image.affine @ (*voxel, 1))[:3] * (-1, -1, 1)
    return lps


def from_dicom(series: Series, voxel: tuple[int, int, int]) -> np.ndarray:
    """PS3.3 C.7.6.2.1.1 by hand: where the slice's own header puts a pixel."""
    column, row, k = voxel
    header = series.headers[k]
    between_rows, between_columns = header.pixel_spacing_mm
    across = np.array(header.row_dir) * between_columns * column
    return np.array(header.position_mm) + across + np.array(header.col_dir) * between_rows * row


@pytest.mark.parametrize("angle", [-20.0, 0.0, 11.0, 25.0])
@pytest.mark.parametrize("table", [1, -1])
def test_a_tilted_series_keeps_its_voxels_and_their_places(
    tmp_path: Path,
    make_stack: Callable[..., SeriesToWrite],
    write_stack: WriteStack,
    angle: float,
    table: int,
) -> None:
    hu = make_stack().hu
    write_stack("in", hu=hu[::table], **tilted(angle, 4, 5.1 * table))
    series = one_series(tmp_path / "in")
    image = written(tmp_path / "in", tmp_path / "out")
    assert image.get_data_dtype() == np.int16
    assert np.array_equal(np.asarray(image.dataobj).transpose(2, 1, 0), hu)
    for voxel in PROBES:
        assert world_lps(image, voxel) == pytest.approx(from_dicom(series, voxel), abs=1e-4)


def test_another_reader_sees_the_same_places(tmp_path: Path, write_stack: WriteStack) -> None:
    write_stack("in")
    written(tmp_path / "in", tmp_path / "out")
    (path,) = (tmp_path / "out").iterdir()
    image = sitk.ReadImage(str(path))
    series = one_series(tmp_path / "in")
    for voxel in PROBES:
        assert image.TransformIndexToPhysicalPoint(voxel) == pytest.approx(
            from_dicom(series, voxel)
        )


def test_the_header_holds_an_sform_alone_and_no_identity(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    write_stack(
        "in",
        **tilted(20, 4, 5.0),
        extra={"PatientName": "Secret^Name", "PatientBirthDate": "19501231"},
    )
    written(tmp_path / "in", tmp_path / "out")
    (path,) = (tmp_path / "out").iterdir()
    content = gzip.decompress(path.read_bytes())
    slope, inter = struct.unpack("<2f", content[112:120])
    qform, sform = struct.unpack("<2h", content[252:256])
    assert (slope, inter, qform, sform) == (1, 0, 0, 1)
    for secret in (b"Secret", b"19501231", b"2.25."):
        assert secret not in content
        assert secret not in path.read_bytes()[:64]


def test_equal_volumes_give_equal_bytes(tmp_path: Path, write_stack: WriteStack) -> None:
    write_stack("in")
    for out in ("one", "two"):
        written(tmp_path / "in", tmp_path / out)
    one, two = (next((tmp_path / out).iterdir()) for out in ("one", "two"))
    assert one.name == f"{uid('series', 'a')}.nii.gz"
    assert one.read_bytes() == two.read_bytes()


def rod(n: int, centre_mm: Callable[[int, int, int], np.ndarray]) -> np.ndarray:
    """HU (n, 64, 64): 1000 within 3 mm of a rod along z at x = -90, y = -105 mm, 0 elsewhere.

    `centre_mm` gives the LPS position of the pixel at (slice, row, column).
    """
    hu = np.zeros((n, 64, 64), dtype=np.int16)
    for k, row, column in np.ndindex(hu.shape):
        x, y, _ = centre_mm(k, row, column)
        hu[k, row, column] = 1000 if np.hypot(x + 90, y + 105) < 3 else 0
    return hu


def wandering_rod(n: int = 6, angle_deg: float = 20.0) -> dict[str, Any]:
    """A tilted series with a rod straight up the patient: it wanders from slice to slice."""
    geometry = tilted(angle_deg, n, 5.0)
    positions, down = geometry["position_mm"], np.array(geometry["col_dir"])
    hu = rod(n, lambda k, row, column: positions[k] + (0.5 * column, 0, 0) + 0.5 * row * down)
    return {**geometry, "hu": hu, "pixel_spacing_mm": (0.5, 0.5)}


def centroids_lps(image: nibabel.Nifti1Image) -> np.ndarray:
    """The centre of the rod in LPS mm, one a plane that it fills."""
    values = np.clip(np.asarray(image.dataobj).astype(float), 0, None)
    columns, rows, _ = np.indices(values.shape)
    mass = values.sum(axis=(0, 1))
    whole = np.flatnonzero(mass > 0.8 * mass.max())
    column = (values * columns).sum(axis=(0, 1))[whole] / mass[whole]
    row = (values * rows).sum(axis=(0, 1))[whole] / mass[whole]
    voxels = np.column_stack((column, row, whole))  # (planes, 3)
    return np.array([world_lps(image, voxel) for voxel in voxels.tolist()])


@pytest.mark.parametrize("angle", [-20.0, 20.0])
@pytest.mark.parametrize("missing", [(), (3,)])
def test_deskewing_puts_a_straight_rod_where_it_is(
    tmp_path: Path, write_stack: WriteStack, angle: float, missing: tuple[int, ...]
) -> None:
    paths = write_stack("in", **wandering_rod(7, angle))
    for k in missing:
        paths[k].unlink()
    image = written(tmp_path / "in", tmp_path / "out", deskewed)
    sheared = image.affine[:3, :3]
    assert sheared.T @ sheared == pytest.approx(np.diag(np.diag(sheared.T @ sheared)), abs=1e-5)
    centres = centroids_lps(image)
    assert len(centres) >= 5
    assert np.abs(centres[:, :2] - (-90, -105)).max() < 0.25
    assert np.asarray(image.dataobj).shape[2] == 7


def test_deskewing_leaves_a_straight_series_as_it_is(
    tmp_path: Path, make_stack: Callable[..., SeriesToWrite], write_stack: WriteStack
) -> None:
    write_stack("in")
    plain = written(tmp_path / "in", tmp_path / "plain")
    straight = written(tmp_path / "in", tmp_path / "straight", deskewed)
    assert np.array_equal(np.asarray(straight.dataobj), np.asarray(plain.dataobj))
    assert straight.affine == pytest.approx(plain.affine)


def test_deskewed_slices_stand_in_air(tmp_path: Path, write_stack: WriteStack) -> None:
    write_stack("in", hu=np.full((4, 16, 16), 40, np.int16), **tilted(20, 4, 5.0))
    values = np.asarray(written(tmp_path / "in", tmp_path / "out", deskewed).dataobj)
    assert values.shape == (16, 16 + 11, 4)  # 15 mm sin 20 in rows of 0.5 mm, rounded up
    assert set(np.unique(values[:, :, 0])) == {-1024, 40}
    assert np.count_nonzero(values[:, :, 0] == 40) == 16 * 16


def test_a_gap_is_filled_linearly_at_the_median_step(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    hu = np.repeat(np.arange(0, 700, 100, dtype=np.int16), 256).reshape(7, 16, 16)
    write_stack("in", n=7, hu=hu)[3].unlink()
    done = converted(tmp_path / "in", tmp_path / "out", deskewed)
    assert isinstance(done, Converted)
    assert done.shape == (7, 16, 16)
    assert (
        "resampled to planes 5.00 mm apart: every slice lies on a plane" in done.issues[-1].detail
    )
    assert np.array_equal(np.asarray(nibabel.load(done.path).dataobj).transpose(2, 1, 0), hu)


def test_an_irregular_series_is_rejected_as_it_is(tmp_path: Path, write_stack: WriteStack) -> None:
    paths = write_stack("in", n=6)
    paths[3].unlink()
    done = converted(tmp_path / "in", tmp_path / "out")
    assert isinstance(done, Rejected)
    assert done.code is IssueCode.IRREGULAR_SPACING
    assert paths[2].name in done.detail
    assert paths[4].name in done.detail
    assert len(done.paths) == 5
    assert not (tmp_path / "out").exists()


def test_a_slice_off_the_line_is_rejected_as_it_is_and_deskewed_to_its_place(
    tmp_path: Path, make_stack: Callable[..., SeriesToWrite], write_stack: WriteStack
) -> None:
    stack = make_stack(n=5)
    position_mm = stack.position_mm + np.outer([0, 0, 1, 0, 0], (2.0, -1.0, 0.0))
    paths = write_stack("in", n=5, position_mm=position_mm)
    done = converted(tmp_path / "in", tmp_path / "out")
    assert isinstance(done, Rejected)
    assert f"{paths[2].name} are shifted in their plane by 2.24 mm" in done.detail
    image = written(tmp_path / "in", tmp_path / "out", deskewed)
    values = np.asarray(image.dataobj).transpose(2, 1, 0)
    assert np.array_equal(values[2, :16, 5:], stack.hu[2])
    assert np.array_equal(values[3, 2:, :16], stack.hu[3])


@pytest.mark.parametrize("place", [as_acquired, deskewed])
@pytest.mark.parametrize(("thickness", "written_mm"), [("2.5", 2.5), (None, 1.0), ("0", 1.0)])
def test_a_single_slice_is_as_thick_as_its_header_says_or_a_placeholder(
    tmp_path: Path,
    write_stack: WriteStack,
    edit_file: EditFile,
    place: Place,
    thickness: str | None,
    written_mm: float,
) -> None:
    (path,) = write_stack("in", **tilted(10, 1, 5.0))
    edit_file(path, SliceThickness=thickness)
    done = converted(tmp_path / "in", tmp_path / "out", place)
    assert isinstance(done, Converted), done
    details = [issue.detail for issue in done.issues]
    assert {issue.code for issue in done.issues} == {IssueCode.SINGLE_SLICE}
    assert len(details) == (1 if thickness == "2.5" else 2)
    if thickness != "2.5":
        assert "SliceThickness (0018,0050)" in details[1]
        assert "1 mm in the NIfTI is only a placeholder" in details[1]
    image = nibabel.load(done.path)
    assert image.header.get_zooms() == pytest.approx((0.4, 0.5, written_mm))
    series = one_series(tmp_path / "in")
    for voxel in ((0, 0, 0), (15, 9, 0)):
        assert world_lps(image, voxel) == pytest.approx(from_dicom(series, voxel), abs=1e-4)
    sitk.ReadImage(done.path)  # ITK opens it


def test_oblique_directions_of_three_decimals_give_a_file_that_itk_opens(
    tmp_path: Path, write_stack: WriteStack, edit_file: EditFile
) -> None:
    row, col = (0.996195, 0.052208, 0.069756), (-0.036706, 0.977572, -0.207379)
    row_dir, col_dir = np.array(row) / np.linalg.norm(row), np.array(col) / np.linalg.norm(col)
    along = np.cross(row_dir, col_dir)
    position_mm = np.outer(np.arange(16) * 5.0, along) + (-100.0, -120.0, 0.0)
    paths = write_stack("in", n=16, row_dir=row, col_dir=col, position_mm=position_mm)
    exact = load(one_series(tmp_path / "in"))
    assert exact.issues == ()

    rounded = [round(cosine, 3) for cosine in (*row, *col)]
    for path in paths:
        edit_file(path, ImageOrientationPatient=rounded)
    done = converted(tmp_path / "in", tmp_path / "out")
    assert isinstance(done, Converted), done
    (issue,) = done.issues
    assert issue.code is IssueCode.INEXACT_ORIENTATION
    assert "degrees off a right angle" in issue.detail
    image = sitk.ReadImage(done.path)
    assert image.GetSpacing() == pytest.approx((0.4, 0.5, 5.0), abs=1e-3)
    assert exact.affine_mm is not None
    for voxel in ((0, 0, 0), (15, 15, 15)):
        expected = (exact.affine_mm @ (*voxel, 1))[:3]
        assert image.TransformIndexToPhysicalPoint(voxel) == pytest.approx(expected, abs=0.02)


def test_positions_rounded_to_a_tenth_are_written_without_deskew(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    z_mm = np.round(np.arange(40) * 0.625 - 7.5, 1)
    write_stack("in", n=40, position_mm=np.array([(-100.0, -120.0, z) for z in z_mm]))
    done = converted(tmp_path / "in", tmp_path / "out")
    assert isinstance(done, Converted), done
    assert [issue.code for issue in done.issues] == [IssueCode.ROUNDED_POSITIONS]
    assert sitk.ReadImage(done.path).GetSpacing()[2] == pytest.approx(0.625, abs=1e-3)


def test_scattered_slices_are_rejected_and_not_a_memory_full_of_air(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    write_stack("in", position_mm=np.array([(0, 0, z) for z in (0.0, 5.0, 10.0, 9e5)]))
    done = converted(tmp_path / "in", tmp_path / "out", deskewed)
    assert isinstance(done, Rejected)
    assert done.code is IssueCode.IRREGULAR_SPACING


def test_a_name_never_leaves_the_folder(
    tmp_path: Path, write_stack: WriteStack, edit_file: EditFile
) -> None:
    for name, foreign in (("a", b"../1/2"), ("b", b".._1_2")):
        for path in write_stack(f"in/{name}", name=name):
            edit_file(path, SeriesInstanceUID=foreign)
    for series in index(tmp_path / "in").series:
        assert isinstance(convert(load(series), tmp_path / "out"), Converted)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "..%2F1%2F2.nii.gz",
        ".._1_2.nii.gz",
    ]


@pytest.mark.parametrize("length", [64, 248, 249, 300])
def test_a_uid_that_is_too_long_for_a_name_is_rejected_in_one_sentence(
    tmp_path: Path, write_stack: WriteStack, edit_file: EditFile, run: RunConvert, length: int
) -> None:
    for path in write_stack("in"):
        edit_file(path, SeriesInstanceUID=b"1" * length)
    code, out, err = run(tmp_path / "in", "-o", tmp_path / "out")
    if length < 249:
        assert code == 0
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["1" * length + ".nii.gz"]
        return
    assert (code, out) == (3, "")
    assert not (tmp_path / "out").exists()
    lines = [line for line in err.splitlines() if line.startswith("1" * length)]
    subject = "a000.dcm: SeriesInstanceUID (0020,000E)"
    sentence = f"{subject} has {length} characters, too many for the name of a file"
    assert lines == [f"{'1' * length}: {sentence}"]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*words: object) -> tuple[int, str, str]:
        code = main(["convert", *map(str, words)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_convert_prints_a_line_a_volume(
    tmp_path: Path, write_stack: WriteStack, run: RunConvert
) -> None:
    for name in ("a", "b"):
        write_stack(f"in/{name}", name=name, patient_id=f"Secret {name}")
    code, out, err = run(tmp_path / "in", "-o", tmp_path / "out")
    assert code == 0
    names = sorted(f"{tmp_path / 'out' / uid('series', name)}.nii.gz" for name in ("a", "b"))
    assert out.splitlines() == [f"{name}: 4 slices of 16 x 16" for name in names]
    assert all(Path(name).is_file() for name in names)
    assert "Secret" not in out + err


def test_convert_says_that_itk_refuses_a_tilted_series_and_deskewing_mends_it(
    tmp_path: Path, write_stack: WriteStack, run: RunConvert
) -> None:
    write_stack("in", **tilted(18, 4, 5.0))
    _, out, _ = run(tmp_path / "in", "-o", tmp_path / "sheared")
    assert "sheared by a tilt of 18.0 degrees" in out
    assert "ITK and 3D Slicer refuse the file" in out
    with pytest.raises(RuntimeError, match="orthonormal"):
        sitk.ReadImage(str(next((tmp_path / "sheared").iterdir())))

    _, out, _ = run(tmp_path / "in", "-o", tmp_path / "straight", "--deskew")
    assert "refuse" not in out
    sitk.ReadImage(str(next((tmp_path / "straight").iterdir())))


def test_convert_reports_what_only_pixels_show(
    tmp_path: Path, write_stack: WriteStack, edit_file: EditFile, run: RunConvert
) -> None:
    edit_file(write_stack("in/deep")[2], RescaleSlope="40")
    code, out, _ = run(tmp_path / "in", "-o", tmp_path / "out")
    assert code == 0
    (line,) = out.splitlines()
    assert "; HU beyond 16 bits were clipped in 1 slice, most in deep/a002.dcm in " in line


def test_convert_takes_one_series(
    tmp_path: Path, write_stack: WriteStack, edit_file: EditFile, run: RunConvert
) -> None:
    write_stack("in/a")
    edit_file(write_stack("in/b", name="b")[0], RescaleSlope=None)
    code, out, _ = run(tmp_path / "in", "-o", tmp_path / "out", "--series", uid("series", "a"))
    assert (code, len(out.splitlines())) == (0, 1)
    code, out, err = run(tmp_path / "in", "-o", tmp_path / "out", "--series", uid("series", "b"))
    assert (code, out) == (3, "")
    assert "RescaleSlope" in err


def test_convert_names_a_series_that_is_not_there(
    tmp_path: Path, write_stack: WriteStack, run: RunConvert
) -> None:
    write_stack("in")
    code, out, err = run(
        tmp_path / "in", "-o", tmp_path / "out", "--series", uid("series", "a")[:-1]
    )
    assert (code, out) == (2, "")
    assert f"did you mean '{uid('series', 'a')}'" in err


def test_convert_rejects_an_irregular_series_without_deskew(
    tmp_path: Path, write_stack: WriteStack, run: RunConvert
) -> None:
    write_stack("in", n=6)[3].unlink()
    code, out, err = run(tmp_path / "in", "-o", tmp_path / "out")
    assert (code, out) == (3, "")
    assert "--deskew" in err
    code, out, _ = run(tmp_path / "in", "-o", tmp_path / "out", "--deskew")
    assert code == 0
    assert "resampled to planes 5.00 mm apart: every slice lies on a plane" in out


@pytest.mark.parametrize("words", [(), ("--deskew",)])
def test_convert_writes_a_single_slice(
    tmp_path: Path,
    write_stack: WriteStack,
    edit_file: EditFile,
    run: RunConvert,
    words: tuple[str, ...],
) -> None:
    (path,) = write_stack("in", n=1)
    edit_file(path, SliceThickness=None)
    code, out, _ = run(tmp_path / "in", "-o", tmp_path / "out", *words)
    assert code == 0
    assert "1 slice of 16 x 16; a000.dcm is the only slice of its series; a000.dcm: Slice" in out


def test_convert_joins_single_slices_and_drops_damaged_ones_if_lenient(
    tmp_path: Path, write_stack: WriteStack, edit_file: EditFile, run: RunConvert
) -> None:
    paths = write_stack("in", n=4)
    for i, path in enumerate(paths):
        edit_file(path, SeriesInstanceUID=f"2.25.{i + 1}", FrameOfReferenceUID="2.25.9")
    code, out, _ = run(tmp_path / "in", "-o", tmp_path / "out")
    assert (code, out.count("1 slice of")) == (0, 4)
    assert "join them with --lenient" in out
    code, out, _ = run(tmp_path / "in", "-o", tmp_path / "out", "--lenient")
    assert (code, out.count("4 slices of")) == (0, 1)

    garble(write_stack("damaged", name="b", n=6)[-1])
    assert run(tmp_path / "damaged", "-o", tmp_path / "out")[0] == 3
    code, out, _ = run(tmp_path / "damaged", "-o", tmp_path / "out", "--lenient")
    assert (code, out.count("5 slices of")) == (0, 1)
    assert "left out: b005.dcm" in out


def test_convert_of_nothing_finds_no_volume(tmp_path: Path, run: RunConvert) -> None:
    (tmp_path / "in").mkdir()
    code, out, err = run(tmp_path / "in", "-o", tmp_path / "out")
    assert (code, out) == (3, "")
    assert "no CT volume" in err


def test_convert_needs_a_folder_to_write_to(
    tmp_path: Path, write_stack: WriteStack, run: RunConvert
) -> None:
    (path, *_) = write_stack("in")
    code, _, err = run(tmp_path / "in", "-o", path)
    assert code == 2
    assert str(path) in err
