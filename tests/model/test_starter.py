"""The starter model is in the package, small, whole and without paths; who lacks it is told so."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ich3d.config.schema import PrepareConfig, SourceConfig
from ich3d.core.errors import ModelError
from ich3d.core.workspace import read_json
from ich3d.model.folder import load_model, save_model
from ich3d.model.manifest import MANIFEST, read_manifest
from ich3d.model.starter import (
    CARD,
    FIGURES,
    MAX_BYTES,
    STARTER,
    has_starter,
    install_starter,
    starter_model,
    starter_notice,
)
from ich3d.slices.encoder import SliceEncoder
from tests.helpers.encoders import random_hu
from tests.helpers.manifests import edit_manifest
from tests.helpers.networks import random_context, random_encoder

GRID = PrepareConfig(matrix=48, pixel_mm=4.8)


def test_it_is_in_the_package_and_small() -> None:
    assert has_starter()
    files = [path for path in STARTER.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".txt", ".md"}
    assert sum(path.stat().st_size for path in files) <= MAX_BYTES == 12_000_000


def test_its_card_and_figures_are_of_this_model() -> None:
    manifest = read_manifest(starter_model())
    assert read_json(STARTER / FIGURES)["model_sha256"] == manifest.sha256
    card = (STARTER / CARD).read_text(encoding="utf-8")
    assert manifest.sha256 in card
    assert manifest.files["encoder/network.safetensors"] in card
    assert "CC BY 4.0" in card


def test_it_has_five_folds_over_one_frozen_network_of_ct_ich() -> None:
    manifest = read_manifest(starter_model())
    assert manifest.folds == (0, 1, 2, 3, 4)
    assert manifest.config.slices.frozen
    assert manifest.config.source.kind == "ct_ich"
    assert manifest.training_groups_known


def test_it_names_no_path_of_the_machine_that_trained_it() -> None:
    config = read_manifest(starter_model()).config
    assert (config.source.path, config.source.labels) == (None, None)
    assert config.workspace == "runs/starter"


def test_the_notice_is_one_line_that_names_the_card() -> None:
    notice = starter_notice()
    patients = len(load_model(starter_model()).training_groups.groups)
    assert f"trained on {patients} patients of one hospital" in notice
    assert "not a medical device" in notice
    assert notice.endswith(str(STARTER / CARD))
    assert "\n" not in notice


def test_a_package_without_it_says_so(tmp_path: Path) -> None:
    assert not has_starter(tmp_path)
    for ask in (starter_model, starter_notice):
        with pytest.raises(
            ModelError, match=r"there is no starter model in .*: name a model folder"
        ):
            ask(tmp_path)


def test_importing_it_loads_no_package() -> None:
    script = (
        "import sys, ich3d.model.starter\n"
        "print(sorted({'numpy', 'pandas', 'torch', 'omegaconf'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_trained_model_is_copied_without_its_paths(tmp_path: Path) -> None:
    encoder = random_encoder(neighbours=0)
    trained = tmp_path / "run" / "model"
    save_model(trained, encoder, random_context(encoder.embedding_width), grid=GRID)

    def name_paths(manifest: dict[str, Any]) -> None:
        manifest["config"]["workspace"] = "/elsewhere/run"
        manifest["config"]["source"] |= {"path": "/elsewhere/data", "labels": "/elsewhere/l.csv"}

    edit_manifest(trained, name_paths)
    (tmp_path / "model").mkdir()
    for old in (Path("model") / "old", Path(CARD), Path(FIGURES)):
        (tmp_path / old).write_text("of an earlier starter model")
    assert install_starter(trained, tmp_path) == tmp_path / "model"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []
    assert "elsewhere" not in (tmp_path / "model" / MANIFEST).read_text()

    copy, original = load_model(tmp_path / "model"), load_model(trained)
    assert copy.config.source == SourceConfig()
    assert copy.config.slices == original.config.slices
    hu, z_mm = random_hu(5), 5.0 * np.arange(5)
    for stage, prob in copy.score(hu, z_mm).items():
        np.testing.assert_array_equal(prob, original.score(hu, z_mm)[stage])


def test_a_model_of_more_than_12_mb_is_refused(tmp_path: Path) -> None:
    encoder = SliceEncoder("resnet18", neighbours=0)
    save_model(tmp_path / "large", encoder, random_context(encoder.embedding_width), grid=GRID)
    with pytest.raises(
        ModelError, match=r"large has \d\d\.\d MB; a starter model has at most 12 MB"
    ):
        install_starter(tmp_path / "large", tmp_path / "package")
    assert not (tmp_path / "package").exists()


def test_a_model_of_an_earlier_format_is_refused(tmp_path: Path) -> None:
    encoder = random_encoder(neighbours=0)
    save_model(tmp_path / "old", encoder, random_context(encoder.embedding_width), grid=GRID)
    edit_manifest(tmp_path / "old", lambda manifest: manifest.update(format_version=2))
    with pytest.raises(ModelError, match="old has an earlier format; train it again"):
        install_starter(tmp_path / "old", tmp_path / "package")
