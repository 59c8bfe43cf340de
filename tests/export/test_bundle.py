"""The exported bundle: MONAI takes it, it gives our scores, and it tells what it is."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ich3d.cli.parser import main
from ich3d.config.root import Config
from ich3d.config.schema import ENCODERS, ContextConfig, PrepareConfig, SlicesConfig
from ich3d.context.bigru import ContextEnsemble, ContextModel
from ich3d.context.geometry import geometry
from ich3d.core.errors import ModelError
from ich3d.core.labels import LABELS
from ich3d.core.types import TrainingGroups
from ich3d.core.workspace import read_json
from ich3d.dicom.write import SeriesToWrite, write_series
from ich3d.export.bundle import context_losses
from ich3d.export.network import torchscript
from ich3d.export.studies import from_dicom
from ich3d.inference.scoring import predict
from ich3d.model.fold_model import FoldModel
from ich3d.model.folder import Model
from ich3d.slices.encoder import EncoderEnsemble
from ich3d.stack.booster import LabelStack

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated:DeprecationWarning")
ROOT = Path(__file__).parents[2]
OURS = ("encoder", "context")


@pytest.fixture(scope="module")
def bundle(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("export") / "bundle"
    assert main(["export", str(model_folder), "--bundle", str(made)]) == 0
    return made


@pytest.fixture(scope="module")
def studies(
    make_head: Callable[..., SeriesToWrite], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Two series of different length."""
    place = tmp_path_factory.mktemp("studies")
    for name, n in (("a", 6), ("b", 1)):
        write_series(make_head(name, n), place / name)
    return place


def ours(model: Model, hu: np.ndarray, z_mm: np.ndarray) -> np.ndarray:
    """Probabilities (Z, 2, K) of the two stages as prediction makes them."""
    scores = model.score(hu, z_mm)
    return np.stack([scores[stage] for stage in OURS], axis=1)


def exported(model: Model, hu: np.ndarray, z_mm: np.ndarray) -> np.ndarray:
    scores = torchscript(model)(torch.from_numpy(hu).float(), torch.from_numpy(z_mm))
    return np.asarray(scores.numpy())


def some_series(n: int, matrix: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n)
    return rng.integers(-1000, 1500, (n, matrix, matrix)).astype(np.int16), np.cumsum(
        rng.uniform(1, 9, n)
    )


def lively(slices: SlicesConfig, context: ContextConfig) -> Model:
    """Two untrained folds whose context models do correct, as those of a run of two epochs hardly do."""
    prepare = PrepareConfig(matrix=48)
    config = Config(
        precision="fp32", prepare=prepare, slices=replace(slices, batch_size=4), context=context
    )
    torch.manual_seed(0)
    fold_models = []
    for fold in range(2):
        encoder = EncoderEnsemble(config.slices).eval()
        models = ContextEnsemble(config.context, encoder.embedding_width).eval()
        for member in models.members:
            assert isinstance(member, ContextModel)
            torch.nn.init.normal_(member.correction_head.weight)
        fold_models.append(FoldModel(fold, encoder, models, untouched(), TrainingGroups.of([])))
    return Model(config, fold_models, {}, "")


def untouched() -> dict[str, LabelStack]:
    """A stacker that keeps no label."""
    return {label: LabelStack(label, False, (), "", 1.0, 0.0, 0.0, 0.0, 0.0) for label in LABELS}


def monai_bundle(bundle: Path, *words: str) -> str:
    """Run `python -m monai.bundle` inside the bundle, with no way to a network; what it printed."""
    pytest.importorskip("fire")
    nowhere = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https")}
    python_path = os.pathsep.join(
        [str(ROOT), os.environ.get("PYTHONPATH", "")]
    )  # dicom.json needs ich3d
    done = subprocess.run(
        [sys.executable, "-m", "monai.bundle", *words],
        cwd=bundle,
        env={**os.environ, **nowhere, "PYTHONPATH": python_path},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def assert_told(out: Path, model: Model, studies: Path) -> None:
    """The tables in `out` hold our scores of the series in `studies`, found by SOPInstanceUID."""
    written = pd.concat(
        [
            pd.read_csv(path, dtype={"sop_uid": str}).set_index("sop_uid")
            for path in out.glob("*.csv")
        ]
    )
    items = predict(model, studies).series
    assert len(written) == sum(len(item.hu) for item in items)
    for item in items:
        rows = written.loc[[key.sop_uid for key in item.stored.keys]]
        np.testing.assert_allclose(rows["z_mm"], item.stored.z_mm, atol=1e-4)
        for stage in OURS:
            told = rows[[f"{stage}_{label}" for label in LABELS]].to_numpy()
            np.testing.assert_allclose(told, item.prob[stage], atol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 70])
def test_the_saved_network_gives_our_scores(model: Model, bundle: Path, n: int) -> None:
    network = torch.jit.load(bundle / "models" / "model.ts")
    hu, z_mm = some_series(n, model.config.prepare.matrix)
    scores = network(torch.from_numpy(hu).float(), torch.from_numpy(z_mm))
    assert scores.shape == (n, 2, len(LABELS))
    assert not scores.requires_grad
    np.testing.assert_allclose(scores.numpy(), ours(model, hu, z_mm), atol=1e-5)


@pytest.mark.parametrize(
    ("slices", "context"),
    [
        (
            SlicesConfig(encoder="resnet10", ensemble_size=2, neighbours=2),
            ContextConfig(num_layers=2, embeddings=True, ensemble_size=2),
        ),
        (
            SlicesConfig(encoder="resnet10", neighbours=0, tta_flip=False, symmetry=False),
            ContextConfig(geometry=False),
        ),
    ],
    ids=["all that a config can add", "all that it can leave out"],
)
def test_every_setting_is_exported(slices: SlicesConfig, context: ContextConfig) -> None:
    model = lively(slices, context)
    hu, z_mm = some_series(7, 48)
    scores = exported(model, hu, z_mm)
    np.testing.assert_allclose(scores, ours(model, hu, z_mm), atol=1e-5)
    assert np.abs(scores[:, 0] - scores[:, 1]).max() > 0.01


@pytest.mark.parametrize(
    "encoder",
    [
        name if name == "efficientnet-b0" else pytest.param(name, marks=pytest.mark.slow)
        for name in ENCODERS
    ],
)
def test_every_encoder_can_be_exported(encoder: str) -> None:
    model = lively(SlicesConfig(encoder=encoder), ContextConfig(ensemble_size=1))
    hu, z_mm = some_series(3, 48)
    np.testing.assert_allclose(exported(model, hu, z_mm), ours(model, hu, z_mm), atol=1e-5)


def test_a_context_that_reads_a_window_is_refused() -> None:
    model = lively(SlicesConfig(encoder="resnet10"), ContextConfig(window=2))
    with pytest.raises(ModelError, match="reads a window of slices"):
        torchscript(model)


@pytest.fixture(scope="module")
def network(model: Model) -> torch.jit.ScriptModule:
    return torchscript(model)


@settings(max_examples=50, deadline=None)
@given(gaps=st.lists(st.floats(0.1, 50), max_size=30), start=st.floats(-2000, 2000))
def test_geometry_is_the_context_models_own(
    network: torch.jit.ScriptModule, gaps: list[float], start: float
) -> None:
    z_mm = start + np.cumsum([0.0, *gaps])
    np.testing.assert_allclose(
        network.geometry(torch.from_numpy(z_mm)), geometry(z_mm), rtol=1e-5, atol=1e-6
    )


def test_exporting_leaves_the_model_as_it_was(model: Model) -> None:
    torchscript(model)
    assert all(
        p.requires_grad for fold_model in model.fold_models for p in fold_model.encoder.parameters()
    )


def test_the_weights_alone_fit_the_network(bundle: Path) -> None:
    network = torch.jit.load(bundle / "models" / "model.ts")
    weights = torch.load(bundle / "models" / "model.pt", weights_only=True)
    assert network.load_state_dict(weights, strict=True)
    assert all(torch.equal(weights[name], tensor) for name, tensor in network.state_dict().items())


def test_monai_verifies_the_metadata_offline(bundle: Path) -> None:
    words = ("--meta_file", "configs/metadata.json", "--filepath", "configs/schema.json")
    assert "metadata is verified with no error" in monai_bundle(bundle, "verify_metadata", *words)


def test_the_schema_asks_for_what_monai_asks_for(bundle: Path) -> None:
    """Required by MONAI's metadata schema of 2024-07-25, as it stands on project-monai.github.io/schema."""
    from jsonschema import ValidationError, validate

    schema, metadata = (
        read_json(bundle / "configs" / name) for name in ("schema.json", "metadata.json")
    )
    validate(metadata, schema)
    required = {
        "schema", "version", "monai_version", "pytorch_version", "numpy_version", "required_packages_version",
        "task", "description", "authors", "copyright", "network_data_format",
    }  # fmt: skip
    for name in required:
        with pytest.raises(ValidationError, match=name):
            validate({key: value for key, value in metadata.items() if key != name}, schema)
    of_tensor = {"type", "format", "num_channels", "spatial_shape", "dtype", "value_range"}
    tensor = metadata["network_data_format"]["outputs"]["pred"]
    for name in of_tensor:
        pred = {key: value for key, value in tensor.items() if key != name}
        data = {**metadata["network_data_format"], "outputs": {"pred": pred}}
        with pytest.raises(ValidationError, match=name):
            validate({**metadata, "network_data_format": data}, schema)


def test_monai_runs_it_on_prepared_series(
    model: Model, bundle: Path, studies: Path, tmp_path: Path
) -> None:
    grid = model.config.prepare
    (tmp_path / "data").mkdir()
    for item in from_dicom(str(studies), grid.matrix, grid.pixel_mm):
        np.savez(tmp_path / "data" / f"{item.pop('name')}.npz", **item)
    where = ("--dataset_dir", str(tmp_path / "data"), "--output_dir", str(tmp_path / "out"))
    monai_bundle(bundle, "run", "--config_file", "configs/inference.json", *where)
    assert_told(tmp_path / "out", model, studies)


@pytest.mark.slow
def test_monai_runs_it_on_dicom(model: Model, bundle: Path, studies: Path, tmp_path: Path) -> None:
    files = "['configs/inference.json','configs/dicom.json']"
    where = ("--dataset_dir", str(studies), "--output_dir", str(tmp_path / "out"))
    monai_bundle(bundle, "run", "--config_file", files, *where)
    assert_told(tmp_path / "out", model, studies)


def test_a_rejected_series_is_told_and_the_rest_goes_on(
    make_head: Callable[..., SeriesToWrite], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_series(make_head("good"), tmp_path / "good")
    write_series(make_head("air", hu=np.full((6, 64, 64), -1000, dtype=np.int16)), tmp_path / "air")
    (item,) = from_dicom(str(tmp_path), 48, 4.8)
    assert item["hu"].shape == (6, 48, 48)
    assert list(item["frame"]) == [""] * 6
    assert "no body of tissue as large as a head" in caplog.text


def test_metadata_and_card_tell_what_the_model_folder_knows(
    model_folder: Path, model: Model, bundle: Path
) -> None:
    metadata, manifest = (
        read_json(bundle / "configs" / "metadata.json"),
        read_json(model_folder / "manifest.json"),
    )
    assert metadata["model_sha256"] == model.sha256
    assert metadata["training_set"] == manifest["fingerprint"]
    shape = metadata["network_data_format"]["inputs"]["image"]["spatial_shape"]
    assert shape == ["*", model.config.prepare.matrix, model.config.prepare.matrix]
    card = (bundle / "docs" / "README.md").read_text()
    for told in (
        "not a medical device",
        model.sha256,
        f"{manifest['fingerprint']['counts']['slices']} slices",
    ):
        assert told in card
    assert model.sha256 in (bundle / "LICENSE").read_text()


def test_the_losses_told_are_those_of_the_stackers_judgement(model: Model, bundle: Path) -> None:
    losses = context_losses(model)
    assert (
        losses
        == read_json(bundle / "configs" / "metadata.json")["eval_metrics"]["context_log_loss"]
    )
    judged = [fold_model.stack["any"].inner_start_loss for fold_model in model.fold_models]
    assert losses["any"] == pytest.approx(np.mean(judged), abs=1e-4)
    card = (bundle / "docs" / "README.md").read_text()
    for label in LABELS:
        (row,) = [line for line in card.splitlines() if line.startswith(f"| {label} |")]
        assert (f"{losses[label]:.4f}" if label in losses else "not known") in row


def test_no_patient_leaves_with_it(model_folder: Path, bundle: Path) -> None:
    groups = read_json(model_folder / "stack" / "fold0.json")["training_groups"]
    told = "".join(
        path.read_text() for path in bundle.rglob("*") if path.suffix in {".json", ".md", ".txt"}
    )
    assert groups
    assert not [name for name in groups if name in told]


def test_the_stacker_lies_there_as_text(model_folder: Path, model: Model, bundle: Path) -> None:
    for fold_model in model.fold_models:
        facts = read_json(bundle / "models" / "stack" / f"fold{fold_model.fold}.json")
        assert facts["any"]["columns"] == list(fold_model.stack["any"].columns)
        assert set(facts) == set(LABELS)
    trees = {path.name: path.read_text() for path in (bundle / "models" / "stack").glob("*.txt")}
    assert trees == {path.name: path.read_text() for path in (model_folder / "stack").glob("*.txt")}


def test_a_folder_of_something_else_is_left_alone(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    assert main(["export", str(model_folder), "--bundle", str(tmp_path / "thesis")]) == 2
    assert f"{tmp_path / 'thesis'} is there and is no bundle" in capsys.readouterr().err
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    ("name", "beside", "said"),
    [
        ("spleen", "models", "is no bundle of ich3d"),
        ("ich3d", "data", "also holds data, which would be lost"),
    ],
)
def test_what_is_not_ours_is_not_lost(
    name: str,
    beside: str,
    said: str,
    model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "metadata.json").write_text(json.dumps({"name": name}))
    (tmp_path / beside).mkdir()
    assert main(["export", str(model_folder), "--bundle", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err
    assert (tmp_path / beside).is_dir()


def test_an_older_bundle_makes_way(model_folder: Path, bundle: Path, tmp_path: Path) -> None:
    older = tmp_path / "bundle"
    (older / "configs").mkdir(parents=True)
    (older / "configs" / "metadata.json").write_text(
        json.dumps({"name": "ich3d", "version": "old"})
    )
    (older / "configs" / "left over").write_text("")
    assert main(["export", str(model_folder), "--bundle", str(older)]) == 0
    names = [
        sorted(p.relative_to(top).as_posix() for p in top.rglob("*")) for top in (older, bundle)
    ]
    assert names[0] == names[1]
