"""The configuration files of a bundle: MONAI verifies them and runs the network with them."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ich3d.core.labels import LABELS
from ich3d.core.workspace import read_json
from ich3d.export.configs import STAGES
from ich3d.export.studies import from_dicom
from ich3d.inference.scoring import predict
from ich3d.model.folder import Model

ROOT = Path(__file__).parents[2]


def run_monai_bundle(bundle: Path, *arguments: str) -> str:
    """Run `python -m monai.bundle` in the bundle, without network access; returns its output."""
    pytest.importorskip("fire")
    unreachable = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https")}
    # dicom.json imports ich3d, which need not be installed where the tests run.
    python_path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])

    process = subprocess.run(
        [sys.executable, "-m", "monai.bundle", *arguments],
        cwd=bundle,
        env={**os.environ, **unreachable, "PYTHONPATH": python_path},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout + process.stderr


def assert_tables_hold_predictions(folder: Path, model: Model, studies: Path) -> None:
    """The tables in `folder` hold what `predict` returns for the series in `studies`."""
    tables = [pd.read_csv(path, dtype={"sop_uid": str}) for path in folder.glob("*.csv")]
    table = pd.concat(tables).set_index("sop_uid")
    predictions = predict(model, studies).series

    assert len(predictions) == 2
    assert len(table) == sum(len(prediction.series.hu) for prediction in predictions)
    for prediction in predictions:
        rows = table.loc[[key.sop_uid for key in prediction.series.keys]]
        np.testing.assert_allclose(rows["z_mm"], prediction.series.z_mm, atol=1e-4)
        for stage in STAGES:
            prob = rows[[f"{stage}_{label}" for label in LABELS]].to_numpy()
            np.testing.assert_allclose(prob, prediction.prob[stage], atol=1e-5)


def test_monai_verifies_the_metadata_offline(bundle: Path) -> None:
    paths = ("--meta_file", "configs/metadata.json", "--filepath", "configs/schema.json")
    output = run_monai_bundle(bundle, "verify_metadata", *paths)
    assert "metadata is verified with no error" in output


def test_the_schema_has_the_requirements_of_monai(bundle: Path) -> None:
    """As in MONAI's metadata schema of 2024-07-25, on project-monai.github.io/schema."""
    jsonschema: Any = pytest.importorskip("jsonschema")

    schema = read_json(bundle / "configs" / "schema.json")
    metadata = read_json(bundle / "configs" / "metadata.json")
    jsonschema.validate(metadata, schema)

    required = {
        "schema", "version", "monai_version", "pytorch_version", "numpy_version",
        "required_packages_version", "task", "description", "authors", "copyright",
        "network_data_format",
    }  # fmt: skip
    for name in required:
        incomplete = {key: value for key, value in metadata.items() if key != name}
        with pytest.raises(jsonschema.ValidationError, match=name):
            jsonschema.validate(incomplete, schema)

    required_of_tensor = {
        "type", "format", "num_channels", "spatial_shape", "dtype", "value_range",
    }  # fmt: skip
    tensor = metadata["network_data_format"]["outputs"]["pred"]
    for name in required_of_tensor:
        incomplete = {key: value for key, value in tensor.items() if key != name}
        data_format = {**metadata["network_data_format"], "outputs": {"pred": incomplete}}
        with pytest.raises(jsonschema.ValidationError, match=name):
            jsonschema.validate({**metadata, "network_data_format": data_format}, schema)


def test_the_metadata_describe_the_model(model_folder: Path, model: Model, bundle: Path) -> None:
    metadata = read_json(bundle / "configs" / "metadata.json")
    manifest = read_json(model_folder / "manifest.json")
    assert metadata["model_sha256"] == model.sha256
    assert metadata["training_set"] == manifest["fingerprint"]
    matrix = model.config.prepare.matrix
    image = metadata["network_data_format"]["inputs"]["image"]
    assert image["spatial_shape"] == ["*", matrix, matrix]


def test_monai_scores_prepared_series(
    model: Model, bundle: Path, studies: Path, tmp_path: Path
) -> None:
    grid = model.config.prepare
    (tmp_path / "data").mkdir()
    for series in from_dicom(str(studies), grid.matrix, grid.pixel_mm):
        name = series.pop("name")
        np.savez(tmp_path / "data" / f"{name}.npz", **series)

    folders = ("--dataset_dir", str(tmp_path / "data"), "--output_dir", str(tmp_path / "out"))
    run_monai_bundle(bundle, "run", "--config_file", "configs/inference.json", *folders)
    assert_tables_hold_predictions(tmp_path / "out", model, studies)


@pytest.mark.slow
def test_monai_scores_dicom_files(
    model: Model, bundle: Path, studies: Path, tmp_path: Path
) -> None:
    files = "['configs/inference.json','configs/dicom.json']"
    folders = ("--dataset_dir", str(studies), "--output_dir", str(tmp_path / "out"))
    run_monai_bundle(bundle, "run", "--config_file", files, *folders)
    assert_tables_hold_predictions(tmp_path / "out", model, studies)
