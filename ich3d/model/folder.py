"""A saved model: a folder of safetensors, LightGBM text and JSON under a manifest of hashes.

    manifest.json  encoder/fold<k>.safetensors  context/fold<k>.safetensors
    stack/fold<k>.json  stack/fold<k>_<label>.txt

Nothing in it is executable.
"""

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ich3d.config.root import Config
from ich3d.context.bigru import ContextEnsemble
from ich3d.core.labels import LABELS, STAGES
from ich3d.core.types import TrainingGroups
from ich3d.core.workspace import read_json, replacing, write_json
from ich3d.model.backends import FoldEncoders
from ich3d.model.fold_model import FoldModel, StageOutputs
from ich3d.model.manifest import read_manifest, write_manifest
from ich3d.slices.encoder import EncoderEnsemble
from ich3d.stack.booster import LabelStack
from ich3d.training.device import device
from ich3d.training.weights import load_weights, save_weights


@dataclass(frozen=True)
class Model:
    """All folds' chains, the config they were trained with, and what their training set was like."""

    config: Config
    fold_models: list[FoldModel]
    fingerprint: dict[str, Any]
    sha256: str

    @cached_property
    def encoders(self) -> FoldEncoders:
        """All folds' encoders, on the fastest path that this machine has."""
        return FoldEncoders([fold_model.encoder for fold_model in self.fold_models], self.config)

    def fold(self, number: int) -> "Model":
        """One fold's chain alone: as much faster as there are folds, and less sure."""
        return replace(
            self,
            fold_models=[
                fold_model for fold_model in self.fold_models if fold_model.fold == number
            ],
        )

    def score(self, hu: np.ndarray, z_mm: np.ndarray) -> dict[str, np.ndarray]:
        """Each stage's score of one series, HU int16 (Z, H, W), slices at `z_mm`: the mean (Z, K) of its
        folds' probabilities."""
        scores = [reading.prob for reading in self.read(hu, z_mm)]
        return {stage: np.mean([score[stage] for score in scores], axis=0) for stage in STAGES}

    def read(self, hu: np.ndarray, z_mm: np.ndarray) -> list[StageOutputs]:
        """What each fold's chain says of one series, with what each stage read on the way to it."""
        embedded = zip(self.fold_models, self.encoders.embed(hu), strict=True)
        return [fold_model.read(*own, z_mm, self.config) for fold_model, own in embedded]


def save_model(
    folder: Path, config: Config, store_meta: dict[str, Any], fold_models: list[FoldModel]
) -> None:
    """Write the model folder, whole or not at all."""
    with replacing(folder) as partial:
        partial.mkdir()
        for fold_model in fold_models:
            save_weights(
                partial / "encoder" / f"fold{fold_model.fold}.safetensors", fold_model.encoder
            )
            save_weights(
                partial / "context" / f"fold{fold_model.fold}.safetensors", fold_model.context
            )
            _save_stack(partial / "stack", fold_model)
        write_manifest(partial, config, store_meta, [fold_model.fold for fold_model in fold_models])


def load_model(folder: Path | str) -> Model:
    """The model in `folder`, on this machine's device. ModelError as `read_manifest` says."""
    folder = Path(folder)
    manifest = read_manifest(folder)
    fold_models = [_load_chain(folder, manifest.config, fold) for fold in manifest.folds]
    return Model(manifest.config, fold_models, manifest.fingerprint, manifest.sha256)


def _load_chain(folder: Path, config: Config, fold: int) -> FoldModel:
    encoder = EncoderEnsemble(config.slices)
    load_weights(folder / "encoder" / f"fold{fold}.safetensors", encoder)
    context = ContextEnsemble(config.context, encoder.embedding_width)
    load_weights(folder / "context" / f"fold{fold}.safetensors", context)
    facts = read_json(folder / "stack" / f"fold{fold}.json")
    stack = {label: _load_label(folder / "stack", fold, label, facts[label]) for label in LABELS}
    groups = "training_groups" if "training_groups" in facts else "fit_patients"  # format 1
    training_groups = TrainingGroups.of(facts[groups])
    return FoldModel(
        fold, encoder.to(device()).eval(), context.to(device()).eval(), stack, training_groups
    )


def _save_stack(folder: Path, fold_model: FoldModel) -> None:
    facts: dict[str, Any] = {"training_groups": sorted(fold_model.training_groups.groups)}
    for label, item in fold_model.stack.items():
        facts[label] = {key: value for key, value in asdict(item).items() if key != "trees"}
        if item.is_kept:
            with replacing(folder / f"fold{fold_model.fold}_{label}.txt") as partial:
                partial.write_text(item.trees)
    write_json(folder / f"fold{fold_model.fold}.json", facts)


def _load_label(folder: Path, fold: int, label: str, facts: dict[str, Any]) -> LabelStack:
    trees = (folder / f"fold{fold}_{label}.txt").read_text() if facts["is_kept"] else ""
    return LabelStack(**{**facts, "columns": tuple(facts["columns"]), "trees": trees})
