"""The configuration files of a bundle, as MONAI's specification has them.

Source: MONAI Bundle Specification (docs.monai.io/en/stable/mb_specification.html) and its metadata schema
of 2024-07-25. `ich3d/templates/bundle_schema.json` holds what that schema asks for, so that a bundle can
be verified without a network.
"""

from importlib.metadata import version
from typing import Any

import ich3d
from ich3d.config.root import Config
from ich3d.core.labels import LABELS

NAME = "ich3d"
STAGES = ("encoder", "context")
SCHEMA_URL = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
USE = "Research software, not a medical device: no one should be treated on what it says."


def metadata(model: dict[str, Any], losses: dict[str, Any]) -> dict[str, Any]:
    """`configs/metadata.json` of the model that `ich3d.model.info` tells of; `losses` are its metrics."""
    own_version = model["ich3d_version"]
    return {
        "schema": SCHEMA_URL,
        "version": own_version,
        "changelog": {own_version: f"exported by ich3d {ich3d.__version__}"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").split("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {},
        "name": NAME,
        "task": "Intracranial hemorrhage in head CT: six probabilities for every slice",
        "description": "A slice encoder and a bidirectional GRU over the series, mean of all folds.",
        "authors": "Not stated by the model folder",
        "copyright": "Not stated by the model folder; see LICENSE",
        "intended_use": USE,
        "data_type": "dicom",
        "pred_classes": ", ".join(LABELS),
        "eval_metrics": losses,
        "model_sha256": model["model_sha256"],
        "preprocessing_sha256": model["preprocessing_sha256"],
        "training_set": model["trained_on"],
        "network_data_format": _network_data_format(model["prepare"]["matrix"]),
    }


def _network_data_format(matrix: int) -> dict[str, Any]:
    """What the network takes and gives. MONAI names the first input `image` and the output `pred`."""
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
                    str(k): f"(Z, stage, label): {stage} stage; labels are {', '.join(LABELS)}"
                    for k, stage in enumerate(STAGES)
                },
            }
        },
    }


def inference() -> dict[str, Any]:
    """`configs/inference.json`: series in `dataset_dir` to tables in `output_dir`, by MONAI and torch alone.

    A series is an .npz of `hu`, `z_mm`, `sop_uid` and `frame`, as `ich3d.export.studies` gives them.
    """
    scores = [f"{stage}_{label}" for stage in STAGES for label in LABELS]
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
        "columns": ["sop_uid", "frame", "z_mm", *scores],
        "score": (
            "$lambda item: @inferer(torch.as_tensor(item['hu']).float().to(@device), @network, "
            "torch.as_tensor(item['z_mm']).to(@device)).flatten(1).cpu().numpy()"
        ),
        "table": (
            "$lambda item: numpy.column_stack([item['sop_uid'], item['frame'], "
            "item['z_mm'].round(4).astype(str), @score(item).astype(float).round(7).astype(str)])"
        ),
        "write": (
            "$lambda item: numpy.savetxt(Path(@output_dir) / (item['name'] + '.csv'), @table(item), "
            "fmt='%s', delimiter=',', header=','.join(@columns), comments='')"
        ),
        "run": [
            "$Path(@output_dir).mkdir(parents=True, exist_ok=True)",
            "$[@write(item) for item in @dataset] or print('no series was found in ' + @dataset_dir)",
        ],
    }


def dicom(config: Config) -> dict[str, Any]:
    """`configs/dicom.json`, given after `inference.json`: the series come from DICOM, through ich3d."""
    return {
        "dataset": {
            "_target_": "ich3d.export.studies.from_dicom",
            "path": "@dataset_dir",
            "matrix": config.prepare.matrix,
            "pixel_mm": config.prepare.pixel_mm,
        }
    }
