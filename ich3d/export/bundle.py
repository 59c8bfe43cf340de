"""A trained model as a MONAI Bundle: a folder that MONAI verifies and runs, without ich3d if need be.

configs/metadata.json  configs/schema.json  configs/inference.json  configs/dicom.json
models/model.ts  models/model.pt  models/stack/fold<k>.json  models/stack/fold<k>_<label>.txt
docs/README.md  LICENSE
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined

from ich3d.core.errors import DataError
from ich3d.core.labels import LABELS
from ich3d.core.workspace import read_json, replacing, write_json
from ich3d.export.configs import NAME, USE, dicom, inference, metadata
from ich3d.export.network import save, torchscript
from ich3d.model.fold_model import FoldModel
from ich3d.model.folder import Model, load_model
from ich3d.model.info import info
from ich3d.stack.booster import LabelStack

_METADATA = Path("configs") / "metadata.json"
_PARTS = {"configs", "models", "docs", "LICENSE"}
_STACK_FACTS = ("is_kept", "columns", "scale", "shift")


def export_bundle(model_folder: Path, bundle: Path) -> None:
    """Write the model in `model_folder` to `bundle`, whole or not at all; an older one of ours makes way.

    ModelError where the model is refused, DataError where `bundle` holds anything else.
    """
    _require_free(bundle)
    model, facts = load_model(model_folder), info(model_folder)
    network, losses = torchscript(model), context_losses(model)
    with replacing(bundle) as partial:
        write_json(
            partial / _METADATA, metadata(facts, {"context_log_loss": losses} if losses else {})
        )
        write_json(partial / "configs" / "inference.json", inference())
        write_json(partial / "configs" / "dicom.json", dicom(model.config))
        models = partial / "models"
        for fold_model in model.fold_models:
            _write_stack(models / "stack", fold_model)
        save(network, models / "model.ts")
        torch.save(network.state_dict(), models / "model.pt")
        templates = Environment(
            loader=PackageLoader("ich3d"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
            keep_trailing_newline=True,
        )  # fmt: skip
        kept = {label: _folds_that_keep(model, label) for label in LABELS}
        told = {"model": facts, "use": USE, "labels": LABELS, "losses": losses, "kept": kept}
        (partial / "docs").mkdir()
        for name, template in (
            ("docs/README.md", "bundle_card.md.j2"),
            ("LICENSE", "bundle_license.txt.j2"),
            ("configs/schema.json", "bundle_schema.json"),
        ):
            (partial / name).write_text(templates.get_template(template).render(told))


def _require_free(bundle: Path) -> None:
    """DataError unless nothing is lost by writing to `bundle`."""
    if not bundle.exists():
        return
    if not (bundle / _METADATA).is_file() or read_json(bundle / _METADATA).get("name") != NAME:
        raise DataError(f"{bundle} is there and is no bundle of ich3d; name a new folder")
    foreign = sorted({path.name for path in bundle.iterdir()} - _PARTS)
    if foreign:
        raise DataError(f"{bundle} also holds {foreign[0]}, which would be lost; name a new folder")


def context_losses(model: Model) -> dict[str, float]:
    """The log loss of each label at the context stage, on patients that its makers had not seen.

    It is the start from which each fold's stacker was judged, on all patients but those of its fold; the
    mean of the folds. A label that its patients show in one class only has none.
    """
    losses = {}
    for label in LABELS:
        judged = [fold_model.stack[label].inner_start_loss for fold_model in model.fold_models]
        if min(judged) > 0:
            losses[label] = round(float(np.mean(judged)), 4)
    return losses


def _folds_that_keep(model: Model, label: str) -> list[int]:
    """The folds whose stacker corrects this label."""
    return [fold_model.fold for fold_model in model.fold_models if fold_model.stack[label].is_kept]


def _write_stack(folder: Path, fold_model: FoldModel) -> None:
    """The stacker of one fold as text: LightGBM's own beside the numbers round it. The pseudonyms of its
    patients stay behind."""
    write_json(
        folder / f"fold{fold_model.fold}.json",
        {label: _stack_facts(fold_model.stack[label]) for label in LABELS},
    )
    for label, item in fold_model.stack.items():
        if item.is_kept:
            (folder / f"fold{fold_model.fold}_{label}.txt").write_text(item.trees)


def _stack_facts(stack: LabelStack) -> dict[str, Any]:
    return {name: getattr(stack, name) for name in _STACK_FACTS}
