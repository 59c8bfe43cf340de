"""What lies at a path is told, and which command is meant."""

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from ich3d.core.errors import UserError
from ich3d.core.path_kinds import (
    PathKind,
    kind_of,
    no_such,
    require_model,
    require_predictions,
    require_source,
    require_study,
    require_table,
)

PICTURE = b"\xff\xd8\xff\xe0" + bytes(200)
LAYOUTS: dict[PathKind, tuple[str, ...]] = {
    PathKind.MODEL: ("manifest.json", "encoder/fold0.safetensors"),
    PathKind.RUN: ("folds.csv", "store/meta.json"),
    PathKind.STORE: ("meta.json", "slices.csv", "1.2.b2nd"),
    PathKind.BUNDLE: ("configs/metadata.json", "models/model.ts"),
    PathKind.PREDICTIONS: ("finished.jsonl", "slices.csv"),
    PathKind.CT_ICH: ("hemorrhage_diagnosis.csv", "Patients_CT/049/brain/1.jpg"),
    PathKind.NIFTI: ("a.nii.gz",),
    PathKind.PICTURE: ("a/1.JPG",),
    PathKind.WEIGHTS: ("weights.safetensors",),
    PathKind.DICOM: ("a/1", "a/2"),
    PathKind.EMPTY: (),
    PathKind.UNKNOWN: ("notes.txt",),
}


@pytest.fixture
def lay_out(tmp_path: Path) -> Callable[[PathKind], Path]:
    """Makes a folder of a kind, and returns it."""

    def make(kind: PathKind) -> Path:
        folder = tmp_path / kind.name.lower()
        folder.mkdir()
        for name in LAYOUTS[kind]:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            content = bytes(128) + b"DICM" if kind is PathKind.DICOM else PICTURE
            (folder / name).write_bytes(content)
        return folder

    return make


@pytest.mark.parametrize("kind", LAYOUTS)
def test_each_kind_is_known(lay_out: Callable[[PathKind], Path], kind: PathKind) -> None:
    assert kind_of(lay_out(kind)) is kind


def test_a_part_of_ct_ich_is_known(lay_out: Callable[[PathKind], Path]) -> None:
    folder = lay_out(PathKind.CT_ICH)
    for part in ("Patients_CT", "Patients_CT/049", "Patients_CT/049/brain/1.jpg"):
        assert kind_of(folder / part) is PathKind.CT_ICH


def refusal(require: Callable[[Path], None], path: Path) -> str:
    """The one sentence about a path, with PATH in its place; empty where it is accepted."""
    try:
        require(path)
    except UserError as error:
        return str(error).replace(str(path), "PATH")
    return ""


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        (PathKind.MODEL, "PATH is a model folder, not a study: `ich3d predict STUDY --model PATH"),
        (PathKind.RUN, "PATH is a run folder, not a study: give the DICOM files"),
        (PathKind.STORE, "PATH is a prepared store, not a study: only training reads it"),
        (PathKind.BUNDLE, "PATH is a MONAI Bundle, not a study: MONAI runs it"),
        (PathKind.CT_ICH, "`ich3d import ct-ich DATASET OUT` writes them as DICOM"),
    ],
)
def test_what_is_no_study_is_told(
    lay_out: Callable[[PathKind], Path], kind: PathKind, part: str
) -> None:
    assert part in refusal(require_study, lay_out(kind))


def test_a_study_may_hold_anything_else(lay_out: Callable[[PathKind], Path]) -> None:
    """What each file is instead is told file by file."""
    for kind in (PathKind.DICOM, PathKind.NIFTI, PathKind.EMPTY, PathKind.PREDICTIONS):
        assert not refusal(require_study, lay_out(kind))


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        (PathKind.RUN, "PATH is a run folder without a model, since its training is not finished"),
        (PathKind.STORE, "no model folder but a prepared store: `ich3d train` makes a model"),
        (PathKind.BUNDLE, "but a MONAI Bundle: give the model folder that it was exported from"),
        (PathKind.PREDICTIONS, "give the model folder that it was predicted with"),
        (PathKind.DICOM, "but DICOM: `ich3d predict STUDY --model MODEL -o OUT` takes a study"),
        (PathKind.WEIGHTS, "give the whole folder with its manifest.json"),
        (PathKind.EMPTY, "but an empty folder: a model folder holds manifest.json"),
        (PathKind.UNKNOWN, "PATH is no model folder: a model folder holds manifest.json"),
    ],
)
def test_what_is_no_model_is_told(
    lay_out: Callable[[PathKind], Path], kind: PathKind, part: str
) -> None:
    assert part in refusal(require_model, lay_out(kind))


def test_a_folder_in_place_of_a_table_is_told(tmp_path: Path) -> None:
    told = refusal(lambda path: require_table("label table", path), tmp_path)
    assert told == "PATH is a folder, not a label table: name a CSV file"


def test_a_folder_that_may_not_be_read_is_left_to_its_reader() -> None:
    with TemporaryDirectory() as name:
        closed = Path(name) / "closed"
        closed.mkdir(mode=0o000)
        Path(name).chmod(0o755)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)  # nobody
        try:
            assert kind_of(closed) is PathKind.UNKNOWN
        finally:
            os.seteuid(user)


def test_the_model_of_a_run_is_named(lay_out: Callable[[PathKind], Path]) -> None:
    run = lay_out(PathKind.RUN)
    with pytest.raises(UserError, match="training is not finished"):
        require_model(run / "model")
    (run / "model").mkdir()
    (run / "model" / "manifest.json").touch()
    assert "its model is PATH/model" in refusal(require_model, run)
    require_model(run / "model")


def test_what_is_no_prediction_is_told(lay_out: Callable[[PathKind], Path]) -> None:
    assert "`ich3d report` shows its held-out scores" in refusal(
        require_predictions, lay_out(PathKind.RUN)
    )
    for kind in (PathKind.MODEL, PathKind.DICOM, PathKind.NIFTI):
        told = refusal(require_predictions, lay_out(kind))
        assert "give what `ich3d predict STUDY -o OUT` wrote" in told
    assert not refusal(require_predictions, lay_out(PathKind.PREDICTIONS))


def test_a_data_set_that_is_given_as_a_folder_names_its_source_kind(
    lay_out: Callable[[PathKind], Path],
) -> None:
    folder = lay_out(PathKind.CT_ICH)
    with pytest.raises(UserError, match=r"set source\.kind to ct_ich"):
        require_source("folder", folder)
    require_source("ct_ich", folder)


@pytest.mark.parametrize("require", [require_study, require_model, require_predictions])
def test_a_path_that_does_not_exist_is_named(
    tmp_path: Path, require: Callable[[Path], None]
) -> None:
    assert "PATH" in refusal(require, tmp_path / "nowhere")


def test_a_wrong_path_gets_the_nearest_name_or_the_folder_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    assert str(no_such("file", tmp_path / "stuyd")).endswith("stuyd; did you mean 'study'?")
    assert str(no_such("file", tmp_path / "other")).endswith("other: check the path")
    nowhere = tmp_path / "nowhere"
    assert f"{nowhere} does not exist either" in str(no_such("file", nowhere / "study"))
