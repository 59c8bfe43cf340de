"""Export a trained model as a MONAI Bundle, which MONAI can verify and run without ich3d.

    configs/metadata.json  configs/schema.json  configs/inference.json  configs/dicom.json
    models/model.ts  models/model.pt  models/stack/fold<k>.json  models/stack/fold<k>_<label>.txt
    docs/README.md  LICENSE

The network holds the encoder and the context stage. The stacker is included as LightGBM text.
"""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined

from ich3d.core.errors import DataError, ModelError
from ich3d.core.labels import LABELS
from ich3d.core.outputs import refusal
from ich3d.core.workspace import read_json, replacing, write_json
from ich3d.export.configs import NAME, USE, dicom, inference, metadata
from ich3d.export.network import save, torchscript
from ich3d.model.fold_model import FoldModel
from ich3d.model.folder import Model, load_model
from ich3d.model.info import info
from ich3d.stack.booster import LabelStacker

_METADATA = Path("configs") / "metadata.json"
_TOP_LEVEL = {"configs", "models", "docs", "LICENSE"}
_TEMPLATES = {
    "docs/README.md": "bundle_card.md.j2",
    "LICENSE": "bundle_license.txt.j2",
    "configs/schema.json": "bundle_schema.json",
}
"""Files of a bundle that are rendered from a template of the package."""

_STACKER_FIELDS = ("is_kept", "blend", "columns", "scale", "shift")


def export_bundle(model_folder: Path, bundle: Path, overwrite: bool = False) -> None:
    """Write the model in `model_folder` as a MONAI Bundle to the folder `bundle`.

    The bundle is written completely or not at all; an existing bundle of the same model is written
    again, with `overwrite` one of another model too.

    Raises:
        ModelError: The model cannot be loaded, is recalibrated, or cannot be exported as one
            network.
        DataError: `bundle` holds files that are not part of a bundle of ich3d, or the bundle of
            another model and `overwrite` is not set.
    """
    _check_replaceable(bundle)
    model = load_model(model_folder)
    if bundle.exists() and not overwrite:
        exported = read_json(bundle / _METADATA).get("model_sha256")
        if exported != model.sha256:
            raise refusal(bundle, "the bundle of another model")
    if model.recalibration is not None:
        raise ModelError(
            f"{model_folder} is recalibrated, which a bundle cannot hold; export the model that it "
            "was made from"
        )
    description = info(model_folder)
    network = torchscript(model)
    losses = context_losses(model)

    with replacing(bundle) as partial:
        _write_configs(partial, model, description, losses)

        for fold_model in model.fold_models:
            _write_stacker(partial / "models" / "stack", fold_model)
        save(network, partial / "models" / "model.ts")
        content = BytesIO()  # torch does not say why a file cannot be written
        torch.save(network.state_dict(), content)
        (partial / "models" / "model.pt").write_bytes(content.getbuffer())

        _render_templates(partial, model, description, losses)


def context_losses(model: Model) -> dict[str, float]:
    """Out-of-fold log loss of the context stage by label: mean over folds, 4 decimals.

    Each fold's stacker was fitted on context scores of the other folds' patients, made by networks
    that had not seen these patients. The loss of those scores, before stacking, is used here. A
    label is left out where a fold's training patients have one class only: its loss is unknown.
    """
    losses = {}
    for label in LABELS:
        fold_losses = [
            fold.stacker.by_label[label].validation_start_loss for fold in model.fold_models
        ]
        if min(fold_losses) > 0:
            losses[label] = round(float(np.mean(fold_losses)), 4)
    return losses


def _check_replaceable(bundle: Path) -> None:
    """Raise DataError where writing to `bundle` would delete other files than those of a bundle."""
    if not bundle.exists():
        return

    if not (bundle / _METADATA).is_file() or read_json(bundle / _METADATA).get("name") != NAME:
        raise DataError(f"{bundle} exists and is not a bundle of ich3d; name a new folder")

    other_names = sorted({path.name for path in bundle.iterdir()} - _TOP_LEVEL)
    if other_names:
        raise DataError(
            f"{bundle} also holds {other_names[0]}, which would be deleted; name a new folder"
        )


def _write_configs(
    folder: Path, model: Model, description: dict[str, Any], losses: dict[str, float]
) -> None:
    metrics = {"context_log_loss": losses} if losses else {}
    write_json(folder / _METADATA, metadata(description, metrics))
    write_json(folder / "configs" / "inference.json", inference())
    write_json(folder / "configs" / "dicom.json", dicom(model.config))


def _write_stacker(folder: Path, fold_model: FoldModel) -> None:
    """Write one fold's stacker: a JSON with the calibration, and LightGBM text for each kept label.

    The pseudonyms of the training patients, which the model folder has, are left out.
    """
    write_json(
        folder / f"fold{fold_model.fold}.json",
        {label: _calibration(fold_model.stacker.by_label[label]) for label in LABELS},
    )
    for label, stacker in fold_model.stacker.by_label.items():
        if stacker.is_kept:
            (folder / f"fold{fold_model.fold}_{label}.txt").write_text(stacker.trees)


def _calibration(stacker: LabelStacker) -> dict[str, Any]:
    """The fields of `stacker` that are needed to apply its trees."""
    fields = stacker.as_dict()
    return {name: fields[name] for name in _STACKER_FIELDS}


def _render_templates(
    folder: Path, model: Model, description: dict[str, Any], losses: dict[str, float]
) -> None:
    """Write model card, license and metadata schema."""
    environment = Environment(
        loader=PackageLoader("ich3d"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    values = {
        "model": description,
        "use": USE,
        "labels": LABELS,
        "losses": losses,
        "stacked_folds": {label: _stacked_folds(model, label) for label in LABELS},
    }

    (folder / "docs").mkdir()
    for name, template in _TEMPLATES.items():
        (folder / name).write_text(environment.get_template(template).render(values))


def _stacked_folds(model: Model, label: str) -> list[int]:
    """The folds whose stacker changes the context scores of `label`."""
    return [fold.fold for fold in model.fold_models if fold.stacker.by_label[label].is_kept]
