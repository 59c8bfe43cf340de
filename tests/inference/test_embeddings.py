"""`--embeddings`: what the shared network gave, with the model that made it, and no patient."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from ich3d.core.errors import DataError, ModelError
from ich3d.core.workspace import read_json
from ich3d.dicom.write import SeriesToWrite, write_series
from ich3d.inference.embeddings import embeddings_file, embeddings_writer, read_embeddings
from ich3d.inference.run import predict_to_folder
from ich3d.inference.scoring import predict
from ich3d.model.folder import Model
from ich3d.slices.embed import embed
from tests.helpers.hospital import write_frozen_model
from tests.helpers.identity import PATIENT_ID

N_SLICES = 5


@pytest.fixture(scope="module")
def frozen_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return write_frozen_model(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture
def study(make_head: Callable[..., SeriesToWrite], tmp_path: Path) -> Path:
    write_series(make_head("a", n=N_SLICES), tmp_path / "study")
    return tmp_path / "study"


def predict_with_embeddings(model: Model, study: Path, out: Path) -> Path:
    """Score `study` and return the file of its only series."""
    writers = {"embeddings": embeddings_writer(out / "embeddings", model)}
    predict_to_folder(model, [study], out, writers=writers)
    (path,) = (out / "embeddings").iterdir()
    return path


def test_the_file_holds_what_the_encoder_gives(
    frozen_model: Model, study: Path, tmp_path: Path
) -> None:
    path = predict_with_embeddings(frozen_model, study, tmp_path / "out")
    embedded = read_embeddings(path)
    (scored,) = predict(frozen_model, study).series
    encoder = frozen_model.fold_models[-1].encoder
    expected, _ = embed(encoder, scored.series.hu, frozen_model.config)
    np.testing.assert_allclose(embedded.embeddings, expected, atol=1e-4)
    assert embedded.embeddings.dtype == np.float32
    np.testing.assert_array_equal(embedded.series.hu_features, scored.series.hu_features)
    np.testing.assert_array_equal(embedded.series.z_mm, scored.series.z_mm)
    assert [key[:2] for key in embedded.series.keys] == [key[:2] for key in scored.series.keys]
    assert embedded.series.patient_id == scored.series.patient_id
    assert embedded.series.acquisition == scored.series.acquisition
    assert embedded.model_sha256 == frozen_model.sha256
    assert path == embeddings_file(path.parent, scored.series.volume_id)


def test_any_reader_of_safetensors_finds_the_arrays(
    frozen_model: Model, study: Path, tmp_path: Path
) -> None:
    path = predict_with_embeddings(frozen_model, study, tmp_path / "out")
    with safe_open(path, framework="numpy") as file:
        shapes = {name: file.get_tensor(name).shape for name in file.keys()}  # noqa: SIM118
        assert file.metadata()["model_sha256"] == frozen_model.sha256
    width = frozen_model.fold_models[0].encoder.embedding_width
    assert shapes == {
        "embeddings": (N_SLICES, width),
        "hu_features": (N_SLICES, 21),
        "z_mm": (N_SLICES,),
    }


def test_no_patient_and_no_file_is_named(frozen_model: Model, study: Path, tmp_path: Path) -> None:
    content = predict_with_embeddings(frozen_model, study, tmp_path / "out").read_bytes()
    for secret in (PATIENT_ID, ".dcm", str(tmp_path)):
        assert secret.encode() not in content


def test_a_resumed_run_scores_again_only_without_its_folder(
    frozen_model: Model, study: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    path = predict_with_embeddings(frozen_model, study, out)
    written = path.stat().st_mtime_ns
    predict_with_embeddings(frozen_model, study, out)
    assert path.stat().st_mtime_ns == written
    facts = read_json(out / "run.json")
    assert (facts["series_scored_before"], facts["embeddings_series"]) == (1, 1)

    path.unlink()
    path.parent.rmdir()
    assert predict_with_embeddings(frozen_model, study, out).is_file()


def test_folds_with_networks_of_their_own_are_refused(model: Model, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="share one frozen network"):
        embeddings_writer(tmp_path, model)


def test_a_missing_or_damaged_file_is_named(
    frozen_model: Model, study: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="--embeddings"):
        read_embeddings(tmp_path / "a.safetensors")
    path = predict_with_embeddings(frozen_model, study, tmp_path / "out")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="does not hold the embeddings"):
        read_embeddings(path)


def test_networks_of_their_own_give_no_shared_embeddings(model: Model, study: Path) -> None:
    (scored,) = predict(model, study).series
    assert scored.embeddings is None
    assert replace(scored, embeddings=None).prob is scored.prob
