"""Configuration files of a MONAI Bundle: the content of metadata, inference and dicom.json.

Source: MONAI Bundle Specification (docs.monai.io/en/stable/mb_specification.html) and its metadata
schema of 2024-07-25. `ich3d/templates/bundle_schema.json` holds the requirements of that schema,
so that a bundle can be verified without network access.
"""

from importlib.metadata import version
from typing import Any

import ich3d
from ich3d.config.root import Config
from ich3d.core.labels import LABELS

NAME = "ich3d"
STAGES = ("encoder", "context")
"""Stages inside the exported network, in the order of its output's second axis."""
SCHEMA_URL = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
USE = "Research software, not a medical device: no one should be treated on what it says."


def metadata(model: dict[str, Any], metrics: dict[str, Any]) -> dict[str, Any]:
    """Content of `configs/metadata.json`.

    Args:
        model: Description of the model folder, as `ich3d.model.info.info` returns it.
        metrics: Entries of `eval_metrics`, such as the log loss by label; may be empty.
    """
    model_version = model["ich3d_version"]
    return {
        "schema": SCHEMA_URL,
        "version": model_version,
        "changelog": {model_version: f"exported by ich3d {ich3d.__version__}"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").split("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {},
        "name": NAME,
        "task": "Intracranial hemorrhage in head CT: six probabilities for every slice",
        "description": (
            "A slice encoder and a bidirectional GRU over the series, mean of all folds."
        ),
        "authors": "Not stated by the model folder",
        "copyright": "Not stated by the model folder; see LICENSE",
        "intended_use": USE,
        "data_type": "dicom",
        "pred_classes": ", ".join(LABELS),
        "eval_metrics": metrics,
        "model_sha256": model["model_sha256"],
        "preprocessing_sha256": model["preprocessing_sha256"],
        "training_set": model["trained_on"],
        "network_data_format": _network_data_format(model["prepare"]["matrix"]),
    }


def _network_data_format(matrix: int) -> dict[str, Any]:
    """Inputs and outputs of the network on a grid of `matrix` x `matrix` pixels.

    MONAI's names are kept: the first input is `image`, the output `pred`.
    """
    return {
        "inputs": {
            "image": {
                "type": "image",
                "format": "hounsfield",
                "modality": "CT",
                "num_channels": 1,
                "spatial_shape": ["*", matrix, matrix],
                "dtype": "float32",
                "value_range": [-1024, 32767],
                "is_patch_data": False,
                "channel_def": {"0": "HU (Z, H, W), no channel axis; slices inferior to superior"},
            },
            "z_mm": {
                "type": "series",
                "format": "sequence",
                "modality": "n/a",
                "num_channels": 1,
                "spatial_shape": ["*"],
                "dtype": "float64",
                "value_range": [],
                "is_patch_data": False,
                "channel_def": {"0": "position (Z,) of each slice along the normal, rising, in mm"},
            },
            "brain_cm2": {
                "type": "series",
                "format": "sequence",
                "modality": "n/a",
                "num_channels": 1,
                "spatial_shape": ["*"],
                "dtype": "float32",
                "value_range": [0, 1000],
                "is_patch_data": False,
                "channel_def": {"0": "area inside the skull (Z,) of each slice in cm2"},
            },
        },
        "outputs": {
            "pred": {
                "type": "probabilities",
                "format": "classes",
                "modality": "n/a",
                "num_channels": len(STAGES),
                "spatial_shape": [len(LABELS)],
                "dtype": "float32",
                "value_range": [0, 1],
                "is_patch_data": False,
                "channel_def": {
                    str(
                        channel
                    ): f"(Z, stage, label): {stage} stage; labels are {', '.join(LABELS)}"
                    for channel, stage in enumerate(STAGES)
                },
            }
        },
    }


def inference() -> dict[str, Any]:
    """Content of `configs/inference.json`: score prepared series with MONAI and torch alone.

    It reads every .npz file of `dataset_dir`, each with the arrays `hu` (Z, H, W), `z_mm` (Z,),
    `brain_cm2` (Z,), `sop_uid` (Z,) and `frame` (Z,) that `ich3d.export.studies.from_dicom`
    yields, and writes one CSV table of probabilities per series to `output_dir`.
    """
    score_columns = [f"{stage}_{label}" for stage in STAGES for label in LABELS]
    return {
        "imports": ["$import numpy", "$import torch", "$from pathlib import Path"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/data'",
        "output_dir": "$@bundle_root + '/eval'",
        "device": "$torch.device('cpu')",
        "network_def": {
            "_target_": "torch.jit.load",
            "f": "$@bundle_root + '/models/model.ts'",
            "map_location": "@device",
        },
        "network": "$@network_def.eval()",
        "inferer": {"_target_": "SimpleInferer"},
        "preprocessing": "$lambda path: {**numpy.load(path), 'name': path.stem}",
        "dataset": {
            "_target_": "Dataset",
            "data": "$sorted(Path(@dataset_dir).glob('*.npz'))",
            "transform": "@preprocessing",
        },
        "columns": ["sop_uid", "frame", "z_mm", *score_columns],
        "score": (
            "$lambda series: @inferer(torch.as_tensor(series['hu']).float().to(@device), @network, "
            "torch.as_tensor(series['z_mm']).to(@device), "
            "torch.as_tensor(series['brain_cm2']).to(@device)).flatten(1).cpu().numpy()"
        ),
        "table": (
            "$lambda series: numpy.column_stack([series['sop_uid'], series['frame'], "
            "series['z_mm'].round(4).astype(str), "
            "@score(series).astype(float).round(7).astype(str)])"
        ),
        "write": (
            "$lambda series: numpy.savetxt(Path(@output_dir) / (series['name'] + '.csv'), "
            "@table(series), fmt='%s', delimiter=',', header=','.join(@columns), comments='')"
        ),
        "run": [
            "$Path(@output_dir).mkdir(parents=True, exist_ok=True)",
            "$[@write(series) for series in @dataset] "
            "or print('no series was found in ' + @dataset_dir)",
        ],
    }


def dicom(config: Config) -> dict[str, Any]:
    """Content of `configs/dicom.json`, which replaces the `dataset` of `inference.json`.

    The series then come from DICOM files below `dataset_dir`; this needs ich3d beside MONAI. The
    name `ich3d.export.studies.from_dicom` is part of the file format: exported bundles call it.
    """
    return {
        "dataset": {
            "_target_": "ich3d.export.studies.from_dicom",
            "path": "@dataset_dir",
            "matrix": config.prepare.matrix,
            "pixel_mm": config.prepare.pixel_mm,
        }
    }
