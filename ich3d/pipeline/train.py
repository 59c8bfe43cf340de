"""Training all three stages of all folds, so that every score in `oof/` is held out.

Encoder k never sees fold k and embeds it; context k reads the held-out embeddings of the other folds
and scores fold k; stack k reads the held-out scores of the other folds and scores fold k. A stage of
a fold that is finished, from the same inputs, is kept: an interrupted run goes on where it stopped.
"""

import hashlib
import json
import logging
import platform
import shutil
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import ich3d
from ich3d.context.batch import context_input
from ich3d.context.bigru import ContextEnsemble
from ich3d.context.train import require_held_out, score_context, train_context
from ich3d.core.config import Config, as_dict
from ich3d.core.console import Progress, quiet
from ich3d.core.labels import LABELS, STAGES
from ich3d.core.metrics import sigmoid, weighted_log_loss
from ich3d.core.seeds import derive
from ich3d.core.types import FitPatients, SliceEmbeddings, SliceScores
from ich3d.core.workspace import Workspace, read_csv, read_json, write_csv, write_json
from ich3d.learn import device, load_weights, save_weights
from ich3d.pipeline.chain import Chain, stack_features, standard
from ich3d.pipeline.model import save_model
from ich3d.prepare.build import prepare
from ich3d.prepare.store import Store
from ich3d.slices.embed import load_embeddings, save_embeddings
from ich3d.slices.encoder import EncoderEnsemble
from ich3d.slices.train import embed_volumes, train_encoder
from ich3d.stack.booster import LabelStack, StackRows, fit_stack, score_stack

log = logging.getLogger(__name__)
STAGE_FORMAT = 3  # raised when training changes, so that what an earlier version trained is trained again


def train(config: Config, progress: Progress = quiet) -> Workspace:
    """Prepare, train, score every fold out of fold, and save the model; the run folder."""
    started = time.time()
    workspace = Workspace(Path(config.workspace))
    workspace.run.unlink(missing_ok=True)
    store = prepare(config, progress).store
    run = _Run(config, workspace, store)
    folds = range(config.prepare.folds)
    embedded: dict[str, SliceEmbeddings] = {}
    for fold in folds:
        embedded |= {item.volume_id: item for item in run.encoder(fold, progress)}
    context: dict[str, SliceScores] = {}
    for fold in folds:
        context |= {item.volume_id: item for item in run.context(fold, embedded, progress)}
    stacked: dict[str, SliceScores] = {}
    for fold in progress(folds, "stack", total=len(folds)):
        stacked |= {item.volume_id: item for item in run.stack(fold, embedded, context)}
    encoder = {
        name: SliceScores(name, "encoder", sigmoid(item.logits).astype(np.float32), item.fit_patients)
        for name, item in embedded.items()
    }
    for stage, scores in zip(STAGES, (encoder, context, stacked), strict=True):
        write_csv(workspace.oof(stage), oof_table(store, scores))
    save_model(workspace.model, config, store.meta, [run.chain(fold) for fold in folds])
    write_json(workspace.run, _run_facts(config, workspace, time.time() - started))
    return workspace


def oof_table(store: Store, scores: dict[str, SliceScores]) -> pd.DataFrame:
    """One row a slice with its keys, fold, group, and probabilities `prob_<label>`."""
    keys = ["volume_id", "sop_uid", "frame", "slice_index", "z_mm", "group_id", "fold", *LABELS]
    prob = np.concatenate([scores[name].prob for name in store.volume_ids])
    names = [f"prob_{label}" for label in LABELS]
    table = store.table.set_index("volume_id").loc[store.volume_ids].reset_index()[keys]
    return table.join(pd.DataFrame(prob.astype(np.float64).round(7), columns=names))


def read_oof(workspace: Workspace, stage: str) -> pd.DataFrame:
    """The out-of-fold scores of a stage, as `oof_table` made them."""
    return read_csv(workspace.oof(stage), text=("volume_id", "sop_uid", "group_id"))


def read_embeddings(config: Config) -> dict[str, SliceEmbeddings]:
    """The held-out embeddings of a run, by volume."""
    workspace, folds = Workspace(Path(config.workspace)), range(config.prepare.folds)
    return {item.volume_id: item for fold in folds for item in _embeddings(config, workspace, fold)}


def _embeddings(config: Config, workspace: Workspace, fold: int) -> list[SliceEmbeddings]:
    """What a fold's encoder said of its held-out series, with the standard that the context model reads
    it by."""
    items = load_embeddings(workspace.stage("encoder", fold) / "embeddings.safetensors")
    return [replace(item, standard=standard(item.standard, config)) for item in items]


class _Run:
    """The stages of one run; a method trains what is missing of a fold and returns its held-out scores."""

    def __init__(self, config: Config, workspace: Workspace, store: Store) -> None:
        self.config, self.workspace, self.store = config, workspace, store
        self._store_hash = hashlib.sha256((store.folder / "slices.csv").read_bytes()).hexdigest()

    def encoder(self, fold: int, progress: Progress) -> list[SliceEmbeddings]:
        folder = self._open("encoder", fold)
        if not self._is_done("encoder", fold):
            model, fit_patients = train_encoder(self.store, self.config, fold, folder, progress)
            save_weights(folder / "weights.safetensors", model)
            name = f"encoder fold {fold}"
            items = embed_volumes(model, name, fit_patients, self.store, self._volumes(fold), self.config)
            save_embeddings(folder / "embeddings.safetensors", items)
            self._close("encoder", fold, fit_patients)
        return _embeddings(self.config, self.workspace, fold)

    def context(
        self, fold: int, embedded: dict[str, SliceEmbeddings], progress: Progress
    ) -> list[SliceScores]:
        folder = self._open("context", fold)
        if not self._is_done("context", fold):
            model, fit_patients = train_context(self.store, embedded, self.config, fold, folder, progress)
            save_weights(folder / "weights.safetensors", model)
            self._close("context", fold, fit_patients)
        model, fit_patients = self._load_context(fold), self._fit_patients("context", fold)
        scores = []
        for name in self._volumes(fold):
            require_held_out(self.store.groups[name], embedded[name].encoder_id, embedded[name].fit_patients)
            prob = score_context(model, context_input(embedded[name], self.store.z_mm(name)))
            scores.append(SliceScores(name, "context", prob, fit_patients))
        return scores

    def stack(
        self, fold: int, embedded: dict[str, SliceEmbeddings], context: dict[str, SliceScores]
    ) -> list[SliceScores]:
        folder = self._open("stack", fold)
        if not self._is_done("stack", fold):
            outside = [name for name in self.store.volume_ids if self.store.folds[name] != fold]
            rows = self._stack_rows(outside, embedded, context)
            stack = fit_stack(rows, self.config.stack, derive(self.config.seed, "stack", fold))
            write_json(folder / "stack.json", {label: asdict(item) for label, item in stack.items()})
            self._close("stack", fold, FitPatients.of(self.store.groups[name] for name in outside))
        stack, fit_patients = self._load_stack(fold), self._fit_patients("stack", fold)
        scores = []
        for name in self._volumes(fold):
            features = self._features(name, embedded, context)
            prob = score_stack(stack, features, context[name].prob)
            scores.append(SliceScores(name, "stack", prob, fit_patients))
        return scores

    def chain(self, fold: int) -> Chain:
        encoder = EncoderEnsemble(self.config.slices)
        load_weights(self.workspace.stage("encoder", fold) / "weights.safetensors", encoder)
        return Chain(
            fold=fold,
            encoder=encoder.eval(),
            context=self._load_context(fold),
            stack=self._load_stack(fold),
            fit_patients=self._fit_patients("stack", fold),
        )

    def _volumes(self, fold: int) -> list[str]:
        return [name for name, own in self.store.folds.items() if own == fold]

    def _features(
        self, name: str, embedded: dict[str, SliceEmbeddings], context: dict[str, SliceScores]
    ) -> pd.DataFrame:
        z_mm = self.store.z_mm(name)
        return stack_features(context_input(embedded[name], z_mm), context[name].prob, z_mm, self.config)

    def _stack_rows(
        self, names: list[str], embedded: dict[str, SliceEmbeddings], context: dict[str, SliceScores]
    ) -> StackRows:
        for name in names:
            require_held_out(self.store.groups[name], "the context model", context[name].fit_patients)
            require_held_out(self.store.groups[name], embedded[name].encoder_id, embedded[name].fit_patients)
        counts = [len(context[name].prob) for name in names]
        return StackRows(
            features=pd.concat([self._features(n, embedded, context) for n in names], ignore_index=True),
            start=np.concatenate([context[name].prob for name in names]),
            target=np.concatenate([self.store.targets(name) for name in names]),
            group=np.repeat([self.store.groups[name] for name in names], counts),
            fold=np.repeat([self.store.folds[name] for name in names], counts),
        )

    def _load_context(self, fold: int) -> ContextEnsemble:
        folder = self.workspace.stage("context", fold)
        width = EncoderEnsemble(self.config.slices).embedding_width
        model = ContextEnsemble(self.config.context, width)
        load_weights(folder / "weights.safetensors", model)
        return model.eval()

    def _load_stack(self, fold: int) -> dict[str, LabelStack]:
        tree = read_json(self.workspace.stage("stack", fold) / "stack.json")
        return {
            label: LabelStack(**{**fields, "columns": tuple(fields["columns"])})
            for label, fields in tree.items()
        }

    def _open(self, stage: str, fold: int) -> Path:
        """The stage's folder, emptied where it was begun from other inputs."""
        folder = self.workspace.stage(stage, fold)
        wanted = self._inputs_sha256(stage)
        mark = folder / "inputs.json"
        if folder.exists() and not (mark.exists() and read_json(mark) == wanted):
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(mark, wanted)
        return folder

    def _close(self, stage: str, fold: int, fit_patients: FitPatients) -> None:
        folder = self.workspace.stage(stage, fold)
        for state in folder.rglob("state.pt"):
            state.unlink()
        facts = {"fit_patients": sorted(fit_patients.groups), "fit_patients_sha256": fit_patients.sha256}
        write_json(folder / "done.json", facts)

    def _is_done(self, stage: str, fold: int) -> bool:
        return (self.workspace.stage(stage, fold) / "done.json").exists()

    def _fit_patients(self, stage: str, fold: int) -> FitPatients:
        return FitPatients.of(read_json(self.workspace.stage(stage, fold) / "done.json")["fit_patients"])

    def _inputs_sha256(self, stage: str) -> str:
        """A hash of all that a stage depends on: the store, its settings, and those of the stages before."""
        sections = {
            "encoder": ("slices",),
            "context": ("slices", "context"),
            "stack": ("slices", "context", "stack"),
        }
        tree = as_dict(self.config)
        used = {name: tree[name] for name in ("seed", "precision", *sections[stage])}
        inputs = [STAGE_FORMAT, self._store_hash, self.store.meta["preprocessing_sha256"], used]
        return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _run_facts(config: Config, workspace: Workspace, seconds: float) -> dict[str, Any]:
    packages = ("torch", "monai", "lightgbm", "pydicom", "SimpleITK", "numpy", "scikit-learn")
    return {
        "ich3d": ich3d.__version__,
        "packages": {name: version(name) for name in packages},
        "python": platform.python_version(),
        "device": str(device()),
        "threads": torch.get_num_threads(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds_of_last_call": round(seconds, 1),
        "config": as_dict(config),
        "weighted_log_loss": {stage: _score(read_oof(workspace, stage)) for stage in STAGES},
    }


def _score(table: pd.DataFrame) -> float:
    prob, target = probabilities(table), table[list(LABELS)].to_numpy(float)
    return round(weighted_log_loss(prob, target), 5)


def probabilities(table: pd.DataFrame) -> np.ndarray:
    """`prob_<label>` columns (N, K) of a table of scores, by name."""
    return table[[f"prob_{label}" for label in LABELS]].to_numpy(float)
