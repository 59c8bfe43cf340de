"""The part of the 3D Slicer module that needs no Slicer, on what `ich3d predict` wrote."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pydicom
import pytest
from highdicom.pm.sop import pmread

from ich3d.cli.parser import main
from ich3d.core.labels import LABELS, label_index
from ich3d.core.types import Rejected
from ich3d.dicom.write import SeriesToWrite, write_series
from ich3d.export.dicom_heat import write_heat_maps
from tests.helpers.dicom_results import MODEL_SHA256, predicted_series, write_enhanced

MODULE = Path(__file__).parents[2] / "slicer" / "Ich3d.py"
LPS_TO_RAS = np.diag((-1.0, -1.0, 1.0, 1.0))
DIRECTIONS = [((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)), ((-1.0, 0.0, 0.0), (0.0, 0.8, 0.6))]


@pytest.fixture(scope="module")
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("Ich3d", MODULE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["Ich3d"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def scored(
    module: ModuleType,
    model_folder: Path,
    make_head: Callable[..., SeriesToWrite],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The output folder of the module's own command for two heads."""
    folder = tmp_path_factory.mktemp("slicer")
    for name in ("a", "b"):
        write_series(make_head(name), folder / "in" / name)
    command = module.build_command("ich3d", folder / "in", folder / "out", str(model_folder))
    assert command[0] == "ich3d"
    assert main(command[1:]) == 0
    return folder / "out"


def test_slices_are_read_with_their_scores(module: ModuleType, scored: Path) -> None:
    slices = module.read_slices(scored)
    assert module.LABELS == LABELS
    assert len(slices) == 12
    assert [scores.slice_index for scores in slices] == [*range(6), *range(6)]
    assert all(0 <= prob <= 1 for scores in slices for prob in scores.prob.values())

    strongest = module.strongest_slice(slices, "subdural")
    assert strongest.prob["subdural"] == max(scores.prob["subdural"] for scores in slices)
    assert module.leading_volume(slices) == module.strongest_slice(slices, "any").volume_id
    with pytest.raises(ValueError, match="no slice"):
        module.strongest_slice([], "any")


def test_the_summary_names_what_was_scored_and_rejected(module: ModuleType, scored: Path) -> None:
    (line,) = module.run_summary(scored).splitlines()
    assert line.startswith("2 series with 12 slices, scored by model ")

    (scored / "failures.csv").write_text("subject,code,detail\nx,no_head,it shows no head\n")
    assert module.run_summary(scored).splitlines()[1] == "failures.csv: no_head: it shows no head"


@pytest.mark.parametrize(("row_dir", "col_dir"), DIRECTIONS)
def test_the_middle_of_a_slice_is_found_in_slicers_coordinates(
    module: ModuleType,
    make_head: Callable[..., SeriesToWrite],
    tmp_path: Path,
    row_dir: tuple[float, float, float],
    col_dir: tuple[float, float, float],
) -> None:
    series = make_head("middle", row_dir=row_dir, col_dir=col_dir)
    paths = write_series(series, tmp_path)
    header = module.find_slice(paths, series.sop_uids[3])
    middle_lps = (
        series.position_mm[3] + 31.5 * 4.0 * np.array(row_dir) + 31.5 * 4.0 * np.array(col_dir)
    )
    expected = (LPS_TO_RAS[:3, :3] @ middle_lps).tolist()
    assert module.slice_center_ras(header).tolist() == pytest.approx(expected)
    assert module.find_slice(paths, "1.2.3") is None


def test_a_frame_of_an_enhanced_file_is_found(
    module: ModuleType, make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    header = pydicom.dcmread(write_enhanced(make_head("frames"), tmp_path))
    heights = [module.slice_center_ras(header, frame)[2] for frame in range(1, 7)]
    assert heights == [25.0, 20.0, 15.0, 10.0, 5.0, 0.0]


@pytest.mark.parametrize(("row_dir", "col_dir"), DIRECTIONS)
def test_heat_is_read_as_highdicom_reads_it(
    module: ModuleType,
    make_head: Callable[..., SeriesToWrite],
    tmp_path: Path,
    row_dir: tuple[float, float, float],
    col_dir: tuple[float, float, float],
) -> None:
    axes = np.array([row_dir, col_dir, np.cross(row_dir, col_dir)])
    head = make_head("heat")
    changes = {"row_dir": row_dir, "col_dir": col_dir, "position_mm": head.position_mm @ axes}
    write_series(make_head("heat", **changes), tmp_path / "in")
    prediction = predicted_series(tmp_path / "in", (2, "any", 0.9))
    image = np.zeros(prediction.series.hu.shape[1:], np.float32)
    image[20:23, 30:33] = 1.0
    (tmp_path / "out").mkdir()
    paths = write_heat_maps(
        prediction, {(2, label_index("any")): image}, tmp_path / "out", MODEL_SHA256
    )
    assert not isinstance(paths, Rejected)

    heat = module.read_heat(paths[0])
    assert (heat.volume_id, heat.label) == (prediction.series.volume_id, "any")
    k, j, i = np.unravel_index(heat.values.argmax(), heat.values.shape)
    found = heat.ijk_to_ras @ (i, j, k, 1)

    volume = pmread(paths[0]).get_volume()
    where = np.array([np.unravel_index(volume.array.argmax(), volume.array.shape)], dtype=float)
    expected = LPS_TO_RAS[:3, :3] @ volume.map_indices_to_reference(where)[0]
    np.testing.assert_allclose(found[:3], expected, atol=1e-6)
    assert k == 2


def test_files_of_one_name_are_copied_side_by_side(module: ModuleType, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.dcm").write_text(name)
    files = [str(tmp_path / name / "1.dcm") for name in ("a", "b", "a")]
    (tmp_path / "to").mkdir()
    assert module.copy_files(files, tmp_path / "to") == 2
    assert sorted(path.read_text() for path in (tmp_path / "to").iterdir()) == ["a", "b"]


def test_without_slicer_there_is_no_widget(module: ModuleType) -> None:
    assert not hasattr(module, "Ich3dWidget")
