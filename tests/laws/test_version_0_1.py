"""A model folder that version 0.1 wrote is read, and scores as it did there.

`tests/data/model_0_1.zip` holds a small model of one fold, saved by version 0.1 with weights
rounded to a few values each so that they pack well, and `scores.npz`: three series, and what
version 0.1 made of them.
"""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ich3d.core.workspace import read_json
from ich3d.model.folder import Model, load_model
from ich3d.model.info import info
from ich3d.model.manifest import MANIFEST
from tests.helpers.hu_features import brain_features

ARCHIVE = Path(__file__).parents[1] / "data" / "model_0_1.zip"
N_SERIES = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked archive: `small_model/` and `scores.npz`."""
    path = tmp_path_factory.mktemp("version_0_1")
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(path)
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return load_model(folder / "small_model")


@pytest.fixture(scope="module")
def kept(folder: Path) -> dict[str, Any]:
    """Inputs and scores of version 0.1, by `<series>/<what>`."""
    with np.load(folder / "scores.npz") as arrays:
        return dict(arrays)


def test_the_archive_stays_small_and_is_of_the_old_format(folder: Path) -> None:
    assert ARCHIVE.stat().st_size < 1e6
    manifest = read_json(folder / "small_model" / MANIFEST)
    assert manifest["format_version"] == 1
    assert "members" in manifest["config"]["slices"]


@pytest.mark.parametrize("series", range(N_SERIES))
@pytest.mark.parametrize("stage", ["encoder", "context"])
def test_networks_score_as_before(
    model: Model, kept: dict[str, Any], series: int, stage: str
) -> None:
    assert model.encoders.runtime == "torch fp32"
    hu, z_mm = kept[f"{series}/hu"], kept[f"{series}/z_mm"]
    prob = model.score(hu, z_mm, brain_features(len(hu)))[stage]
    assert np.ptp(kept[f"{series}/{stage}"]) > 0.5  # the model tells slices and labels apart
    np.testing.assert_allclose(prob, kept[f"{series}/{stage}"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("series", range(N_SERIES))
def test_the_stacker_scores_exactly_as_before(
    model: Model, kept: dict[str, Any], series: int
) -> None:
    """From kept features and context scores, so that no network's arithmetic takes part."""
    stacker = model.fold_models[0].stacker
    assert all(label_stacker.is_kept for label_stacker in stacker.by_label.values())
    features = pd.DataFrame(kept[f"{series}/features"], columns=kept["columns"].tolist())
    scores = stacker.score(features, kept[f"{series}/context"])
    np.testing.assert_array_equal(scores, kept[f"{series}/stack"])


@pytest.mark.parametrize("series", range(N_SERIES))
def test_features_are_as_before(model: Model, kept: dict[str, Any], series: int) -> None:
    hu, z_mm = kept[f"{series}/hu"], kept[f"{series}/z_mm"]
    (outputs,) = model.stage_outputs(hu, z_mm, brain_features(len(hu)))
    known = kept["columns"].tolist()
    assert outputs.features.columns[: len(known)].tolist() == known
    np.testing.assert_allclose(
        outputs.features[known].to_numpy(), kept[f"{series}/features"], rtol=0, atol=1.1e-3
    )  # logits are rounded to 1e-3


def test_info_shows_it_under_the_names_of_today(folder: Path) -> None:
    shown = info(folder / "small_model")
    assert shown["format_version"] == 1
    assert shown["slices"]["ensemble_size"] == 1
    assert shown["context"]["ensemble_size"] == 2
    assert shown["held_out"].startswith("provable")
