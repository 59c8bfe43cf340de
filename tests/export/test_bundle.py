"""What an exported bundle contains, and which folders the export may overwrite."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ich3d.cli.parser import main
from ich3d.config.schema import PrepareConfig
from ich3d.context.bigru import ContextModel
from ich3d.core.errors import ModelError
from ich3d.core.labels import LABELS
from ich3d.core.workspace import read_json
from ich3d.export.bundle import context_losses, export_bundle
from ich3d.model.folder import Model, save_model, write_model
from ich3d.slices.encoder import SliceEncoder
from tests.helpers.recalibrations import recalibration_of

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated:DeprecationWarning")
JIT: Any = torch.jit


def test_the_weights_alone_fit_the_network(bundle: Path) -> None:
    network = JIT.load(bundle / "models" / "model.ts")
    weights = torch.load(bundle / "models" / "model.pt", weights_only=True)
    assert weights
    assert network.load_state_dict(weights, strict=True)
    for name, tensor in network.state_dict().items():
        assert torch.equal(weights[name], tensor)


def test_card_and_license_name_the_model_and_its_training_set(
    model_folder: Path, model: Model, bundle: Path
) -> None:
    counts = read_json(model_folder / "manifest.json")["fingerprint"]["counts"]
    card = (bundle / "docs" / "README.md").read_text()
    for text in ("not a medical device", model.sha256, f"{counts['slices']} slices"):
        assert text in card
    assert model.sha256 in (bundle / "LICENSE").read_text()


def test_the_context_losses_are_those_that_the_stackers_started_from(
    model: Model, bundle: Path
) -> None:
    losses = context_losses(model)
    metadata = read_json(bundle / "configs" / "metadata.json")
    assert losses == metadata["eval_metrics"]["context_log_loss"]
    stackers = [fold_model.stacker.by_label["any"] for fold_model in model.fold_models]
    fold_losses = [stacker.validation_start_loss for stacker in stackers]
    assert losses["any"] == pytest.approx(np.mean(fold_losses), abs=1e-4)

    card = (bundle / "docs" / "README.md").read_text()
    for label in LABELS:
        (row,) = [line for line in card.splitlines() if line.startswith(f"| {label} |")]
        assert (f"{losses[label]:.4f}" if label in losses else "not known") in row


def test_a_recalibrated_model_is_refused(model: Model, tmp_path: Path) -> None:
    folder, bundle = tmp_path / "model", tmp_path / "bundle"
    recalibration = recalibration_of(any=(0.5, 0.0))
    write_model(
        folder, model.config, model.fingerprint, model.fold_models, recalibration=recalibration
    )
    with pytest.raises(ModelError, match="is recalibrated, which a bundle cannot hold"):
        export_bundle(folder, bundle)
    assert not bundle.exists()


def test_a_model_of_unknown_training_data_can_be_exported(tmp_path: Path) -> None:
    encoder = SliceEncoder("resnet10")
    context = ContextModel(encoder.embedding_width)
    save_model(tmp_path / "model", encoder, context, grid=PrepareConfig(matrix=48))

    export_bundle(tmp_path / "model", tmp_path / "bundle")

    card = (tmp_path / "bundle" / "docs" / "README.md").read_text()
    assert "The model folder does not describe the training set." in card
    assert "| any | not known | not known | none |" in card
    metadata = read_json(tmp_path / "bundle" / "configs" / "metadata.json")
    assert metadata["eval_metrics"] == {}


def test_no_pseudonym_of_a_patient_is_exported(model_folder: Path, bundle: Path) -> None:
    groups = read_json(model_folder / "stack" / "fold0.json")["training_groups"]
    texts = [
        path.read_text() for path in bundle.rglob("*") if path.suffix in {".json", ".md", ".txt"}
    ]
    assert groups
    assert texts
    assert not [name for name in groups if any(name in text for text in texts)]


def test_the_stacker_is_included_as_text(model_folder: Path, model: Model, bundle: Path) -> None:
    for fold_model in model.fold_models:
        fields = read_json(bundle / "models" / "stack" / f"fold{fold_model.fold}.json")
        assert fields["any"]["columns"] == list(fold_model.stacker.by_label["any"].columns)
        assert set(fields) == set(LABELS)

    exported = {path.name: path.read_text() for path in (bundle / "models/stack").glob("*.txt")}
    assert exported == {p.name: p.read_text() for p in (model_folder / "stack").glob("*.txt")}


def test_a_folder_that_is_not_a_bundle_is_not_overwritten(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter.txt").write_text("years of work")
    assert main(["export", str(model_folder), "--bundle", str(thesis)]) == 2
    assert f"{thesis} exists and is not a bundle of ich3d" in capsys.readouterr().err
    assert (thesis / "chapter.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    ("name", "subfolder", "message"),
    [
        ("spleen", "models", "is not a bundle of ich3d"),
        ("ich3d", "data", "also holds data, which would be deleted"),
    ],
    ids=["another bundle", "own bundle with more in it"],
)
def test_nothing_but_a_bundle_of_ich3d_is_overwritten(
    name: str,
    subfolder: str,
    message: str,
    model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "metadata.json").write_text(json.dumps({"name": name}))
    (tmp_path / subfolder).mkdir()
    assert main(["export", str(model_folder), "--bundle", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / subfolder).is_dir()


def test_an_existing_bundle_is_overwritten_completely(
    model_folder: Path, bundle: Path, tmp_path: Path
) -> None:
    old_bundle = tmp_path / "bundle"
    (old_bundle / "configs").mkdir(parents=True)
    metadata = {"name": "ich3d", "version": "old"}
    (old_bundle / "configs" / "metadata.json").write_text(json.dumps(metadata))
    (old_bundle / "configs" / "left over").write_text("")

    words = ["export", str(model_folder), "--bundle", str(old_bundle)]
    assert main(words) == 2
    assert (old_bundle / "configs" / "left over").exists()
    assert main([*words, "--overwrite"]) == 0

    names, expected = (
        sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
        for folder in (old_bundle, bundle)
    )
    assert names == expected
