"""A saved model: a folder of safetensors, LightGBM text and JSON under a manifest of hashes.

    manifest.json  encoder/fold<k>.safetensors  context/fold<k>.safetensors
    stack/fold<k>.json  stack/fold<k>_<label>.txt

Nothing in it is executable.
"""

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ich3d.context.bigru import ContextEnsemble
from ich3d.core.config import Config
from ich3d.core.labels import LABELS, STAGES
from ich3d.core.types import FitPatients
from ich3d.core.workspace import read_json, replacing, write_json
from ich3d.learn import device, load_weights, save_weights
from ich3d.manifest import read_manifest, write_manifest
from ich3d.pipeline.chain import Chain, Reading
from ich3d.slices.encoder import EncoderEnsemble
from ich3d.slices.fast import Encoders
from ich3d.stack.booster import LabelStack

if TYPE_CHECKING:
    from ich3d.pipeline.predict import Prediction


@dataclass(frozen=True)
class Model:
    """All folds' chains, the config they were trained with, and what their training set was like."""

    config: Config
    chains: list[Chain]
    fingerprint: dict[str, Any]
    sha256: str

    @cached_property
    def encoders(self) -> Encoders:
        """All folds' encoders, on the fastest path that this machine has."""
        return Encoders([chain.encoder for chain in self.chains], self.config)

    def fold(self, number: int) -> "Model":
        """One fold's chain alone: as much faster as there are folds, and less sure."""
        return replace(self, chains=[chain for chain in self.chains if chain.fold == number])

    def score(self, hu: np.ndarray, z_mm: np.ndarray) -> dict[str, np.ndarray]:
        """Each stage's score of one series, HU int16 (Z, H, W), slices at `z_mm`: the mean (Z, K) of its
        folds' probabilities."""
        scores = [reading.prob for reading in self.read(hu, z_mm)]
        return {stage: np.mean([score[stage] for score in scores], axis=0) for stage in STAGES}

    def read(self, hu: np.ndarray, z_mm: np.ndarray) -> list[Reading]:
        """What each fold's chain says of one series, with what each stage read on the way to it."""
        embedded = zip(self.chains, self.encoders.embed(hu), strict=True)
        return [chain.read(*own, z_mm, self.config) for chain, own in embedded]

    def predict(self, *paths: Path | str) -> "Prediction":
        """Every head CT series below `paths`, scored, with its pixels; nothing is written. For a study or a
        few: `pipeline.predict.stream` holds one series at a time. DataError where there is no such path."""
        from ich3d.pipeline.predict import predict_paths  # which needs this module

        return predict_paths(self, [Path(path) for path in paths])


def save_model(folder: Path, config: Config, store_meta: dict[str, Any], chains: list[Chain]) -> None:
    """Write the model folder, whole or not at all."""
    with replacing(folder) as partial:
        partial.mkdir()
        for chain in chains:
            save_weights(partial / "encoder" / f"fold{chain.fold}.safetensors", chain.encoder)
            save_weights(partial / "context" / f"fold{chain.fold}.safetensors", chain.context)
            _save_stack(partial / "stack", chain)
        write_manifest(partial, config, store_meta, [chain.fold for chain in chains])


def load_model(folder: Path | str) -> Model:
    """The model in `folder`, on this machine's device. ModelError as `read_manifest` says."""
    folder = Path(folder)
    manifest = read_manifest(folder)
    chains = [_load_chain(folder, manifest.config, fold) for fold in manifest.folds]
    return Model(manifest.config, chains, manifest.fingerprint, manifest.sha256)


def _load_chain(folder: Path, config: Config, fold: int) -> Chain:
    encoder = EncoderEnsemble(config.slices)
    load_weights(folder / "encoder" / f"fold{fold}.safetensors", encoder)
    context = ContextEnsemble(config.context, encoder.embedding_width)
    load_weights(folder / "context" / f"fold{fold}.safetensors", context)
    facts = read_json(folder / "stack" / f"fold{fold}.json")
    stack = {label: _load_label(folder / "stack", fold, label, facts[label]) for label in LABELS}
    fit_patients = FitPatients.of(facts["fit_patients"])
    return Chain(fold, encoder.to(device()).eval(), context.to(device()).eval(), stack, fit_patients)


def _save_stack(folder: Path, chain: Chain) -> None:
    facts: dict[str, Any] = {"fit_patients": sorted(chain.fit_patients.groups)}
    for label, item in chain.stack.items():
        facts[label] = {key: value for key, value in asdict(item).items() if key != "trees"}
        if item.is_kept:
            with replacing(folder / f"fold{chain.fold}_{label}.txt") as partial:
                partial.write_text(item.trees)
    write_json(folder / f"fold{chain.fold}.json", facts)


def _load_label(folder: Path, fold: int, label: str, facts: dict[str, Any]) -> LabelStack:
    trees = (folder / f"fold{fold}_{label}.txt").read_text() if facts["is_kept"] else ""
    return LabelStack(**{**facts, "columns": tuple(facts["columns"]), "trees": trees})
