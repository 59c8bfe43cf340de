"""The three stages of one config over one store, each fold trained when it is first asked for and then kept.

Encoder k never sees fold k and embeds it; context k reads the held-out embeddings of the other folds
and scores fold k; stack k reads the held-out scores of the other folds and scores fold k. A stage of
a fold that is finished, from the same inputs, is kept: an interrupted run goes on where it stopped.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from ich3d.config.load import as_dict
from ich3d.config.renamed import with_old_names
from ich3d.config.root import Config
from ich3d.context.align import fit_alignment
from ich3d.context.bigru import ContextEnsemble
from ich3d.context.dataset import context_input
from ich3d.context.train import (
    SHUFFLED_IN_TRAINING,
    require_held_out,
    score_shuffled,
    train_context,
)
from ich3d.core.metrics import sigmoid
from ich3d.core.progress import Progress, quiet
from ich3d.core.seeds import derive, stream
from ich3d.core.types import SliceEmbeddings, SliceScores, TrainingGroups
from ich3d.core.workspace import Workspace, read_json, write_json
from ich3d.crossfit.status import close, inputs_in, is_done, training_groups_of, weights_sha256
from ich3d.model.fold_model import FoldModel, stack_features
from ich3d.prepare.store import Store, training_volumes
from ich3d.slices.embed import load_embeddings, save_embeddings
from ich3d.slices.encoder import EncoderEnsemble
from ich3d.slices.train import embed_volumes, train_encoder
from ich3d.stack.booster import (
    LabelStack,
    StackRows,
    always,
    fit_stack,
    score_stack,
    where_it_helps,
)
from ich3d.stack.features import build_features
from ich3d.training.device import device
from ich3d.training.weights import load_weights, save_weights

# Raised when a stage's training changes, there and in all that come after it, so that what an earlier version
# trained is trained again.
FORMATS = {"encoder": 5, "context": 5, "stack": 6, "encoder_stack": 6}
# What each stage depends on, beside the store and the seed.
_SECTIONS = {
    "encoder": ("slices",),
    "context": ("slices", "context"),
    "stack": ("slices", "context", "stack"),
    "encoder_stack": ("slices", "context", "stack"),
}
_CONTROLS = {
    "encoder": ("patients",),
    "context": ("patients", "shuffle", "allow_in_sample", "embedding_noise", "nested"),
    "stack": (
        "patients",
        "shuffle",
        "allow_in_sample",
        "embedding_noise",
        "nested",
        "force_stacker",
    ),
    "encoder_stack": ("patients", "force_stacker"),
}


class Stages:
    """One config's stages; a method returns its stage's held-out scores, trained where they are missing.

    `run` is None where these are the stages of the workspace's own run, whose folders they then take. An
    ablation names the run's config: it uses the run's folders where they have its inputs, fills them where
    they are missing, and never empties one; what it trains from other inputs lies beside them.
    """

    def __init__(
        self, config: Config, workspace: Workspace, store: Store, run: Config | None = None
    ) -> None:
        self.config, self.workspace, self.store = config, workspace, store
        self._run = run
        self._data = store.identity
        self._folds = sorted(set(store.folds.values()))

    def embedded(self, progress: Progress = quiet) -> dict[str, SliceEmbeddings]:
        """Held-out embeddings of every series."""
        return {
            item.volume_id: item for fold in self._folds for item in self._encoder(fold, progress)
        }

    def encoder(self, embedded: Mapping[str, SliceEmbeddings]) -> dict[str, SliceScores]:
        """The encoder's own scores, from what it embedded."""
        return {
            name: SliceScores(
                name, "encoder", sigmoid(item.logits).astype(np.float32), item.training_groups
            )
            for name, item in embedded.items()
        }

    def context(
        self, embedded: Mapping[str, SliceEmbeddings], progress: Progress = quiet
    ) -> dict[str, SliceScores]:
        """The context model's scores."""
        scores = (item for fold in self._folds for item in self._context(fold, embedded, progress))
        return {item.volume_id: item for item in scores}

    def stack(
        self,
        embedded: Mapping[str, SliceEmbeddings],
        below: Mapping[str, SliceScores],
        progress: Progress = quiet,
    ) -> dict[str, SliceScores]:
        """The stacker's scores over those of the stage below it, context or the encoder alone, each label for
        itself."""
        on = next(iter(below.values())).stage
        stage = "stack" if on == "context" else "encoder_stack"
        scores: dict[str, SliceScores] = {}
        for fold in progress(self._folds, f"stacker on {on}", total=len(self._folds)):
            scores |= {item.volume_id: item for item in self._stack(stage, fold, embedded, below)}
        return scores

    def fold_model(self, fold: int) -> FoldModel:
        """The three makers of a fold."""
        encoder = EncoderEnsemble(self.config.slices)
        load_weights(self._folder("encoder", fold) / "weights.safetensors", encoder)
        return FoldModel(
            fold=fold,
            encoder=encoder.eval(),
            context=self._load_context(fold),
            stack=self._load_stack("stack", fold),
            training_groups=self._fit_patients("stack", fold),
        )

    def inputs_sha256(self, stage: str) -> str:
        """A hash of all that a stage depends on: the store, its settings, and those of the stages before."""
        return self._inputs_of(self.config, stage)

    def _encoder(self, fold: int, progress: Progress) -> list[SliceEmbeddings]:
        folder = self._open("encoder", fold)
        if not is_done(folder):
            model, training_groups = train_encoder(self.store, self.config, fold, folder, progress)
            save_weights(folder / "weights.safetensors", model)
            self._embed(
                fold, model, training_groups, self._volumes(fold), folder / "embeddings.safetensors"
            )
            close(folder, training_groups, [])
        return list(load_embeddings(folder / "embeddings.safetensors"))

    def fitted_on(
        self, fold: int, embedded: Mapping[str, SliceEmbeddings], progress: Progress = quiet
    ) -> Mapping[str, SliceEmbeddings]:
        """The embeddings that the fold's context model is trained on: held-out ones, but in a control."""
        if self.config.control.allow_in_sample:
            return self._in_sample(fold)
        if self.config.control.nested:
            inner = Workspace(self.workspace.variant("nested", self.inputs_sha256("encoder"), fold))
            makers = Stages(self.config, inner, self.store.without(fold))
            return self._as_own(fold, makers.embedded(progress), makers)
        return self._as_own(fold, embedded, self)

    def _as_own(
        self, fold: int, embedded: Mapping[str, SliceEmbeddings], makers: "Stages"
    ) -> Mapping[str, SliceEmbeddings]:
        """What the other folds' encoders, those of `makers`, say of series that they have not seen, as the
        fold's own encoder would say it. The maps are fitted on series that both encoders were trained on."""
        if not self.config.context.align:
            return embedded
        own = self._in_sample(fold)
        aligned: dict[str, SliceEmbeddings] = {}
        for other in makers._folds:
            if other == fold:
                continue
            theirs = makers._in_sample(other)
            shared = sorted(own.keys() & theirs.keys())
            as_own = fit_alignment(
                [theirs[name] for name in shared], [own[name] for name in shared]
            )
            aligned |= {name: as_own(embedded[name]) for name in makers._volumes(other)}
        return aligned

    def _aligned_by(self, fold: int) -> list[TrainingGroups]:
        """Who stands behind the encoder that others' embeddings are put in terms of."""
        return [self._fit_patients("encoder", fold)] if self.config.context.align else []

    def _in_sample(self, fold: int) -> dict[str, SliceEmbeddings]:
        """What the fold's own encoder says of the patients that it was fitted on."""
        folder = self._folder("encoder", fold)
        path = folder / "in_sample.safetensors"
        if not path.exists():
            model = EncoderEnsemble(self.config.slices)
            load_weights(folder / "weights.safetensors", model)
            names = training_volumes(self.store, self.config, fold)
            model = model.to(device()).eval()
            self._embed(fold, model, self._fit_patients("encoder", fold), names, path)
        return {item.volume_id: item for item in load_embeddings(path)}

    def _embed(
        self,
        fold: int,
        model: EncoderEnsemble,
        training_groups: TrainingGroups,
        names: list[str],
        path: Path,
    ) -> None:
        maker = f"encoder fold {fold}"
        save_embeddings(
            path, embed_volumes(model, maker, training_groups, self.store, names, self.config)
        )

    def _context(
        self, fold: int, embedded: Mapping[str, SliceEmbeddings], progress: Progress
    ) -> list[SliceScores]:
        folder = self._open("context", fold)
        if not is_done(folder):
            fitted_on = self.fitted_on(fold, embedded, progress)
            model, training_groups = train_context(
                self.store, fitted_on, self.config, fold, folder, progress
            )
            save_weights(folder / "weights.safetensors", model)
            makers = [item.training_groups for item in fitted_on.values()]
            close(folder, training_groups, [*makers, *self._aligned_by(fold)])
        model, training_groups = self._load_context(fold), self._fit_patients("context", fold)
        scores = []
        for name in self._volumes(fold):
            require_held_out(
                self.store.groups[name], embedded[name].encoder_id, embedded[name].training_groups
            )
            require_held_out(self.store.groups[name], f"context fold {fold}", training_groups)
            series = context_input(embedded[name], self.store.z_mm(name))
            rng = stream(self.config.context_seed, "shuffle", name)
            prob = score_shuffled(model, series, self.config.control.shuffle, rng)
            scores.append(SliceScores(name, "context", prob, training_groups))
        return scores

    def _stack(
        self,
        stage: str,
        fold: int,
        embedded: Mapping[str, SliceEmbeddings],
        below: Mapping[str, SliceScores],
    ) -> list[SliceScores]:
        folder = self._open(stage, fold)
        if not is_done(folder):
            outside = training_volumes(self.store, self.config, fold)
            described = self._as_own(fold, embedded, self)
            before = below if stage == "stack" else self.encoder(described)
            rows = self._stack_rows(outside, described, before)
            seed = derive(self.config.context_seed, stage, fold)
            keep = always if self.config.control.force_stacker else where_it_helps
            stack = fit_stack(rows, self.config.stack, seed, keep)
            write_json(
                folder / "stack.json", {label: asdict(item) for label, item in stack.items()}
            )
            makers = [
                item.training_groups for name in outside for item in (described[name], before[name])
            ]
            own = TrainingGroups.of(self.store.groups[name] for name in outside)
            close(folder, own, [*makers, *self._aligned_by(fold)])
        stack, training_groups = self._load_stack(stage, fold), self._fit_patients(stage, fold)
        scores = []
        for name in self._volumes(fold):
            require_held_out(self.store.groups[name], f"{stage} fold {fold}", training_groups)
            prob = score_stack(stack, self._features(embedded[name], below[name]), below[name].prob)
            scores.append(SliceScores(name, "stack", prob, training_groups))
        return scores

    def _features(self, embedded: SliceEmbeddings, below: SliceScores) -> pd.DataFrame:
        z_mm = self.store.z_mm(embedded.volume_id)
        series = context_input(embedded, z_mm)
        if below.stage == "encoder":
            return build_features(
                {"encoder": sigmoid(series.logits)}, z_mm, self.config.stack.reach_mm
            )
        return stack_features(series, below.prob, z_mm, self.config)

    def _stack_rows(
        self,
        names: list[str],
        embedded: Mapping[str, SliceEmbeddings],
        below: Mapping[str, SliceScores],
    ) -> StackRows:
        groups, folds = self.store.groups, self.store.folds
        for name in names:
            require_held_out(
                groups[name], f"the {below[name].stage} below", below[name].training_groups
            )
            require_held_out(
                groups[name], embedded[name].encoder_id, embedded[name].training_groups
            )
        counts = [len(below[name].prob) for name in names]
        features = [self._features(embedded[name], below[name]) for name in names]
        return StackRows(
            features=pd.concat(features, ignore_index=True),
            start=np.concatenate([below[name].prob for name in names]),
            target=np.concatenate([self.store.targets(name) for name in names]),
            group=np.repeat([groups[name] for name in names], counts),
            fold=np.repeat([folds[name] for name in names], counts),
        )

    def _volumes(self, fold: int) -> list[str]:
        return [name for name, own in self.store.folds.items() if own == fold]

    def _load_context(self, fold: int) -> ContextEnsemble:
        width = EncoderEnsemble(self.config.slices).embedding_width
        model = ContextEnsemble(self.config.context, width)
        load_weights(self._folder("context", fold) / "weights.safetensors", model)
        return model.eval()

    def _load_stack(self, stage: str, fold: int) -> dict[str, LabelStack]:
        tree = read_json(self._folder(stage, fold) / "stack.json")
        return {
            label: LabelStack(**{**fields, "columns": tuple(fields["columns"])})
            for label, fields in tree.items()
        }

    def _fit_patients(self, stage: str, fold: int) -> TrainingGroups:
        return training_groups_of(self._folder(stage, fold))

    def _folder(self, stage: str, fold: int) -> Path:
        own, inputs = self.workspace.stage(stage, fold), self.inputs_sha256(stage)
        if self._run is None or (own.exists() and inputs_in(own) == inputs):
            return own
        if not own.exists() and inputs == self._inputs_of(self._run, stage):
            return own
        return self.workspace.variant(stage, inputs, fold)

    def _open(self, stage: str, fold: int) -> Path:
        """The stage's folder, emptied where it was begun from other inputs."""
        folder = self._folder(stage, fold)
        wanted = self.inputs_sha256(stage)
        if folder.exists() and inputs_in(folder) != wanted:
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "inputs.json", wanted)
        return folder

    def _inputs_of(self, config: Config, stage: str) -> str:
        tree = as_dict(config)
        names = (
            "seed",
            "precision",
            *(("replicate",) if stage != "encoder" else ()),
            *_SECTIONS[stage],
        )
        used = with_old_names({name: tree[name] for name in names})
        controls = {name: tree["control"][name] for name in _CONTROLS[stage]}
        controls = with_old_names({"control": controls})["control"]
        if stage == "context" and controls["shuffle"] != SHUFFLED_IN_TRAINING:
            controls["shuffle"] = "never"  # at test it is the same model that scores
        weights = weights_sha256(config)
        inputs = [
            FORMATS[stage],
            self._data,
            used,
            controls,
            weights if stage != "encoder" else weights[:1],
        ]
        return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
