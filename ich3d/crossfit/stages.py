"""The three stages of one configuration over one store, each fold trained when it is first
asked for.

Encoder k never sees fold k and embeds it. Context model k is trained on the held-out embeddings
of the other folds and scores fold k. Stacker k is trained on the held-out scores of the other
folds and scores fold k. A finished stage with equal inputs is kept, so an interrupted run
continues where it stopped.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np

from ich3d.config.ablation import NEVER
from ich3d.config.root import Config
from ich3d.context.align import fit_alignment
from ich3d.context.bigru import ContextEnsemble
from ich3d.context.end_to_end import train_end_to_end
from ich3d.context.score import member_agreement, score_context, score_shuffled
from ich3d.context.train import require_held_out, train_context
from ich3d.core.metrics import sigmoid
from ich3d.core.progress import Progress, quiet
from ich3d.core.seeds import derive, stream
from ich3d.core.types import SliceEmbeddings, SliceScores, TrainingGroups
from ich3d.core.workspace import Workspace, read_json, write_json
from ich3d.crossfit import status
from ich3d.crossfit.inputs import inputs_sha256
from ich3d.crossfit.stack_rows import (
    ScoredPart,
    ScoreRun,
    build_stack_rows,
    cut_runs,
    stack_features,
)
from ich3d.model.fold_model import FoldModel
from ich3d.prepare.hu_features import silenced
from ich3d.prepare.store import Store, training_volumes
from ich3d.slices.embed import StoredEmbeddings, load_embeddings, save_embeddings
from ich3d.slices.encoder import EncoderEnsemble
from ich3d.slices.frozen import FrozenEmbeddings, embed_frozen, load_head, save_head, train_frozen
from ich3d.slices.partly_frozen import FrozenMaps, train_partly_frozen
from ich3d.slices.train import embed_volumes, train_encoder, train_member
from ich3d.stack.booster import (
    LabelStacker,
    Stacker,
    always,
    fit_stacker,
    never,
    where_it_helps,
)
from ich3d.stack.features import columns_without
from ich3d.training.device import device
from ich3d.training.ranks import ALONE, Ranks
from ich3d.training.weights import load_weights, save_weights

SERIES_AT_ONCE: Final = 200
"""Embedded series that each rank sends at once; GPUs need memory for what all of them send."""

_WEIGHTS: Final = "weights.safetensors"
_EMBEDDINGS: Final = "embeddings.safetensors"
_PAIRED_CONTEXT: Final = "context.safetensors"
"""Files of a stage's folder: its weights; beside an encoder's, the held-out embeddings, and the
weights of the context model that was trained end to end with it.
"""

Embedded = Mapping[str, SliceEmbeddings]
"""Embedded series by volume_id."""


class Stages:
    """The stages of one configuration. Methods return held-out scores, training what is missing."""

    def __init__(
        self,
        config: Config,
        workspace: Workspace,
        store: Store,
        run: Config | None = None,
        frozen: FrozenEmbeddings | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        """The stages of `config` on `store`, kept in `workspace`.

        Args:
            config: what the stages are trained with.
            workspace: the run folder.
            store: the prepared data.
            run: None for the workspace's own run, whose folders are then used. An ablation
                gives the run's configuration: it uses the run's folders where their inputs are
                equal, fills them where they are missing, and never empties one. What it trains
                from other inputs lies beside them.
            frozen: embeddings by the frozen network of `config`; None keeps them in `workspace`.
            ranks: the processes that train encoders together; a network with frozen parts is
                trained by the first one alone.
        """
        self.config, self.workspace, self.store = config, workspace, store
        self._frozen = frozen
        if frozen is None and config.slices.frozen:
            self._frozen = FrozenEmbeddings(store, config, workspace.embeddings)
        self._maps: FrozenMaps | None = None
        if config.slices.frozen_parts:
            self._maps = FrozenMaps(store, config, workspace.embeddings)
        self._ranks = ALONE if self.has_frozen_parts else ranks
        self._run = run
        self._data = store.identity
        self._folds = sorted(set(store.folds.values()))

    def embedded(self, progress: Progress = quiet) -> dict[str, SliceEmbeddings]:
        """Held-out embeddings of every series, by volume_id."""
        series = (series for fold in self._folds for series in self._embed_fold(fold, progress))
        return {one_series.volume_id: one_series for one_series in series}

    def assist(self) -> None:
        """Train the encoders together with the first rank, which calls `embedded`, and embed this
        rank's part of the series. The first one writes the files.
        """
        for fold in self._folds if self._ranks.count > 1 else ():
            self._train_and_embed(self._folder("encoder", fold), fold, quiet)

    @property
    def has_frozen_parts(self) -> bool:
        """Whether a network, or its first parts, is run once for all folds."""
        return self._frozen is not None or self._maps is not None

    @property
    def frozen_identity(self) -> str:
        """The network, or its first parts, with their input, if these are run once for all folds:
        equal in configurations that share the result. Else empty.
        """
        frozen = self._frozen or self._maps
        return "" if frozen is None else frozen.identity

    def start(self, stage: str, fold: int) -> Path:
        """The stage's folder, ready for training."""
        folder = self._folder(stage, fold)
        status.start(folder, self.inputs_sha256(stage))
        return folder

    def compute_frozen(self, volume_ids: Sequence[str], progress: Progress = quiet) -> None:
        """Run what is frozen of the network over some series, where that is missing."""
        for frozen in (self._frozen, self._maps):
            if frozen is not None:
                frozen.compute(volume_ids, progress)

    def train_member(self, fold: int, member: int) -> None:
        """Train one network of the fold's encoder, which `start` made a folder for, to its last
        epoch; `train_fold` then finds it trained.
        """
        folder = self._folder("encoder", fold)
        if not status.is_finished(folder):
            train_member(self.store, self.config, fold, member, folder / f"member{member}")

    def train_fold(self, stage: str, fold: int) -> None:
        """Train one stage of one fold where it is missing; the stages before it are finished."""
        if stage == "encoder":
            self._embed_fold(fold, quiet)
            if self._aligns:
                self._in_sample(fold)
            return
        embedded = self.embedded()
        if stage == "context":
            self._context_scores(fold, embedded, quiet)
            return
        before = self.context(embedded) if stage == "stack" else self.encoder(embedded)
        self._stack_scores(stage, fold, embedded, before)

    def encoder(self, embedded: Embedded) -> dict[str, SliceScores]:
        """The encoder's probabilities, from what it embedded."""
        return {
            name: SliceScores(
                name, "encoder", sigmoid(series.logits).astype(np.float32), series.training_groups
            )
            for name, series in embedded.items()
        }

    def context(self, embedded: Embedded, progress: Progress = quiet) -> dict[str, SliceScores]:
        """The context models' held-out probabilities, by volume_id."""
        scores: dict[str, SliceScores] = {}
        for fold in self._folds:
            scores |= self._context_scores(fold, embedded, progress)
        return scores

    def agreement(self, embedded: Embedded) -> dict[str, np.ndarray]:
        """How far the members of each fold's context ensemble agree on `any` in the slices (Z,) of
        the fold's series, by volume_id; NaN for one member. The ensembles are trained before.
        """
        return {
            name: member_agreement(model, embedded[name], self.store.z_mm(name))
            for fold in self._folds
            for model in [self._load_context(fold)]
            for name in self._volumes(fold)
        }

    def stack(
        self,
        embedded: Embedded,
        before: Mapping[str, SliceScores],
        progress: Progress = quiet,
    ) -> dict[str, SliceScores]:
        """The stackers' held-out probabilities on top of the stage `before`, by volume_id.

        `before` are scores of the context stage, or of the encoder alone. Labels are refined
        each by
        itself: `any` may lie below a subtype.
        """
        stage_before = next(iter(before.values())).stage
        stage = "stack" if stage_before == "context" else "encoder_stack"
        scores: dict[str, SliceScores] = {}
        for fold in progress(self._folds, f"stacker on {stage_before}", total=len(self._folds)):
            scores |= self._stack_scores(stage, fold, embedded, before)
        return scores

    def fold_model(self, fold: int) -> FoldModel:
        """The trained stages of one fold."""
        return FoldModel(
            fold=fold,
            encoder=self._load_encoder(fold),
            context=self._load_context(fold),
            stacker=self._load_stacker("stack", fold),
            training_groups=self._training_groups("stack", fold),
        )

    def inputs_sha256(self, stage: str) -> str:
        """A hash of all that a stage depends on; see `crossfit.inputs`."""
        return inputs_sha256(self.config, stage, self._data)

    def context_training_data(
        self, fold: int, embedded: Embedded, progress: Progress = quiet
    ) -> Embedded:
        """The embeddings that the fold's context model is trained on: held-out ones, but in a
        control.
        """
        if self.config.control.allow_in_sample:
            return self._in_sample(fold)
        if self.config.control.nested:
            # Encoders that never saw the fold either: one more set of them, over the other folds.
            folder = self.workspace.variant("nested", self.inputs_sha256("encoder"), fold)
            nested = Stages(
                self.config, Workspace(folder), self.store.without(fold), frozen=self._frozen
            )
            return self._aligned(fold, nested.embedded(progress), nested)
        return self._aligned(fold, embedded, self)

    @property
    def embedding_width(self) -> int:
        """The width of the encoder's embeddings."""
        return EncoderEnsemble.from_config(self.config.slices).embedding_width

    def _embed_fold(self, fold: int, progress: Progress) -> list[SliceEmbeddings]:
        """The fold's series, embedded by its encoder, which is trained where it is missing."""
        folder = self.start("encoder", fold)
        self._train_and_embed(folder, fold, progress)
        with status.reading(folder):
            return list(load_embeddings(folder / _EMBEDDINGS))

    def _train_and_embed(self, folder: Path, fold: int, progress: Progress) -> None:
        """Train the fold's encoder and embed the fold's series, where that is missing.

        Ranks do it together. They also embed the series that the encoder was trained on, which a
        later stage would leave to the first rank.
        """
        self._ranks.wait()
        if not status.is_finished(folder):
            encoder, groups = self._train_encoder(fold, folder, progress)
            path = folder / _EMBEDDINGS
            names = self._volumes(fold)
            self._save_embeddings(path, fold, encoder, groups, names, self._ranks)
            if self._ranks.is_first:
                status.finish(folder, groups, upstream_models=[])
        self._ranks.wait()
        if self._ranks.count > 1 and self._aligns:
            self._embed_in_sample(fold, self._ranks)

    def _train_encoder(
        self, fold: int, folder: Path, progress: Progress
    ) -> tuple[EncoderEnsemble, TrainingGroups]:
        """Train the fold's encoder, and keep its weights in `folder`."""
        path = folder / _WEIGHTS
        if self._frozen is None:
            encoder, groups = self._train_network(fold, folder, progress)
            if self._ranks.is_first:
                save_weights(path, encoder)
            return encoder, groups

        self.compute_frozen(self.store.volume_ids, progress)
        names = training_volumes(self.store, self.config, fold)
        encoder = train_frozen(self.store, self.config, self._frozen, names)
        save_head(path, encoder)
        return encoder, TrainingGroups.of(self.store.groups[name] for name in names)

    def _train_network(
        self, fold: int, folder: Path, progress: Progress
    ) -> tuple[EncoderEnsemble, TrainingGroups]:
        """Train the fold's encoder by gradients; end to end its context model too, which is kept
        beside it.
        """
        if self._maps is None:
            return train_encoder(self.store, self.config, fold, folder, progress, self._ranks)
        arguments = (self.store, self.config, fold, self._maps, folder, progress)
        self.compute_frozen(self.store.volume_ids, progress)
        if not self.config.context.end_to_end:
            return train_partly_frozen(*arguments)
        encoder, context, groups = train_end_to_end(*arguments)
        save_weights(folder / _PAIRED_CONTEXT, context)
        return encoder, groups

    def _context_scores(
        self, fold: int, embedded: Embedded, progress: Progress
    ) -> dict[str, SliceScores]:
        """The fold's series scored by the fold's context models."""
        folder = self.start("context", fold)
        if not status.is_finished(folder) and self.config.context.end_to_end:
            # It was trained with the fold's encoder, on the same patients.
            shutil.copy(self._folder("encoder", fold) / _PAIRED_CONTEXT, folder / _WEIGHTS)
            groups = self._training_groups("encoder", fold)
            status.finish(folder, groups, upstream_models=[])
        elif not status.is_finished(folder):
            training_data = self.context_training_data(fold, embedded, progress)
            copies = None if self._frozen is None else self._frozen.copies
            model, groups = train_context(
                self.store, training_data, self.config, fold, folder, progress, copies
            )
            save_weights(folder / _WEIGHTS, model)
            upstream = [series.training_groups for series in training_data.values()]
            status.finish(folder, groups, [*upstream, *self._alignment_groups(fold)])

        model, groups = self._load_context(fold), self._training_groups("context", fold)
        scores = {}
        for name in self._volumes(fold):
            series = embedded[name]
            require_held_out(self.store.groups[name], series.encoder_id, series.training_groups)
            require_held_out(self.store.groups[name], f"context fold {fold}", groups)

            z_mm = self.store.z_mm(name)
            prob = np.concatenate(
                [
                    self._context_prob(model, series.part(run), z_mm[run])
                    for run in cut_runs(len(z_mm), self.config.control.cut)
                ]
            )
            scores[name] = SliceScores(name, "context", prob, groups)
        return scores

    def _context_prob(
        self, model: ContextEnsemble, series: SliceEmbeddings, z_mm: np.ndarray
    ) -> np.ndarray:
        """The context model's probabilities (Z, K), in random order if a control says so."""
        shuffle = self.config.control.shuffle
        if shuffle == NEVER:
            return score_context(model, series, z_mm)
        rng = stream(self.config.context_seed, "shuffle", series.volume_id)
        return score_shuffled(model, series, z_mm, shuffle, rng)

    def _stack_scores(
        self, stage: str, fold: int, embedded: Embedded, before: Mapping[str, SliceScores]
    ) -> dict[str, SliceScores]:
        """The fold's series scored by the fold's stacker."""
        folder = self.start(stage, fold)
        if not status.is_finished(folder):
            whole = self._of_whole_series(embedded, before)
            self._train_stacker(stage, fold, embedded, whole, folder)

        stacker, groups = self._load_stacker(stage, fold), self._training_groups(stage, fold)
        names, cut = self._volumes(fold), self.config.control.cut
        parts = []
        for name in names:
            require_held_out(self.store.groups[name], f"{stage} fold {fold}", groups)
            start, z_mm = before[name], self.store.z_mm(name)
            parts += [
                ScoredPart(embedded[name].part(run), start.stage, start.prob[run], z_mm[run])
                for run in cut_runs(len(z_mm), cut)
            ]

        # All series of the fold at once: trees take their time for each call, not for each slice.
        start_prob = np.concatenate([part.prob for part in parts])
        prob = stacker.score(stack_features(parts, stacker.reach_mm), start_prob)
        ends = np.cumsum([len(embedded[name]) for name in names])
        return {
            name: SliceScores(name, "stack", silenced(rows, embedded[name].hu_features), groups)
            for name, rows in zip(names, np.split(prob, ends[:-1]), strict=True)
        }

    def _of_whole_series(
        self, embedded: Embedded, before: Mapping[str, SliceScores]
    ) -> Mapping[str, SliceScores]:
        """The scores `before` as a stacker is trained on them: of series that are not cut."""
        is_context = next(iter(before.values())).stage == "context"
        if self.config.control.cut is None or not is_context:
            return before
        control = replace(self.config.control, cut=None)
        config = replace(self.config, control=control)
        stages = Stages(config, self.workspace, self.store, self._run, self._frozen)
        return stages.context(embedded)

    def _train_stacker(
        self,
        stage: str,
        fold: int,
        embedded: Embedded,
        before: Mapping[str, SliceScores],
        folder: Path,
    ) -> None:
        """Train the fold's stacker on the other folds, aligned to the fold's own encoder."""
        volume_ids = training_volumes(self.store, self.config, fold)
        aligned = self._aligned(fold, embedded, self)
        if stage == "encoder_stack":
            before = self.encoder(aligned)
        self._require_held_out(volume_ids, aligned, before)
        score_run = self._run_scorer(stage, embedded, aligned)
        rows = build_stack_rows(
            self.store,
            volume_ids,
            aligned,
            before,
            self.config.stack.reach_mm,
            score_run if self.config.context.subseries else None,
            stream(self.config.context_seed, "stack cuts", fold),
        )
        seed = derive(self.config.context_seed, stage, fold)
        control = self.config.control
        keep = always if control.force_stacker else where_it_helps
        if control.stacker_without == "trees":
            keep = never
        elif control.stacker_without is not None:
            columns = columns_without(control.stacker_without, list(rows.features.columns))
            rows = replace(rows, features=rows.features[columns])
        stacker = fit_stacker(rows, self.config.stack, seed, keep)

        by_label = {label: item.as_dict() for label, item in stacker.by_label.items()}
        write_json(folder / "stack.json", by_label)
        upstream = [
            model.training_groups for name in volume_ids for model in (aligned[name], before[name])
        ]
        groups = TrainingGroups.of(self.store.groups[name] for name in volume_ids)
        status.finish(folder, groups, [*upstream, *self._alignment_groups(fold)])

    def _require_held_out(
        self, names: list[str], embedded: Embedded, before: Mapping[str, SliceScores]
    ) -> None:
        """LeakageError where a model behind a stacker's training rows saw their patient."""
        groups = self.store.groups
        for name in names:
            scores, series = before[name], embedded[name]
            require_held_out(groups[name], f"the {scores.stage} before", scores.training_groups)
            require_held_out(groups[name], series.encoder_id, series.training_groups)

    def _run_scorer(self, stage: str, embedded: Embedded, aligned: Embedded) -> ScoreRun:
        """The stage before, on runs of slices: the encoder's own scores, or those of the context
        model that never saw the series.
        """

        def encoder_prob(name: str, run: slice) -> np.ndarray:
            return sigmoid(aligned[name].part(run).logits).astype(np.float32)

        def context_prob(name: str, run: slice) -> np.ndarray:
            model = contexts(self.store.folds[name])
            return self._context_prob(model, embedded[name].part(run), self.store.z_mm(name)[run])

        contexts = cache(self._load_context)
        return encoder_prob if stage == "encoder_stack" else context_prob

    def _aligned(self, fold: int, embedded: Embedded, upstream: "Stages") -> Embedded:
        """Held-out embeddings by the other folds' encoders, as the fold's own encoder would
        give them.

        The encoders are those of `upstream`. Each map is fitted on series that both encoders
        were trained on, so the series that it is applied to take no part in it.
        """
        if not self._aligns:
            return embedded

        own = self._in_sample(fold)
        aligned: dict[str, SliceEmbeddings] = {}
        for other in upstream._folds:
            if other == fold:
                continue
            theirs = upstream._in_sample(other)
            shared = sorted(own.keys() & theirs.keys())
            to_own = fit_alignment(
                (theirs[name] for name in shared), (own[name] for name in shared)
            )
            aligned |= {name: to_own(embedded[name]) for name in upstream._volumes(other)}
        return aligned

    def _alignment_groups(self, fold: int) -> list[TrainingGroups]:
        """The training patients of the encoder that others' embeddings are aligned to."""
        return [self._training_groups("encoder", fold)] if self._aligns else []

    @property
    def _aligns(self) -> bool:
        """Whether others' embeddings are aligned. Those of one frozen network lie in one space, and
        a context model that was trained with its encoder reads no other's.
        """
        is_paired = self.config.context.end_to_end
        return self.config.context.align and self._frozen is None and not is_paired

    def _in_sample(self, fold: int) -> Embedded:
        """The fold's encoder's embeddings of the patients that it was trained on, by volume_id."""
        path = self._embed_in_sample(fold)
        with status.reading(path.parent):
            return StoredEmbeddings(path)

    def _embed_in_sample(self, fold: int, ranks: Ranks = ALONE) -> Path:
        """The file of `_in_sample`, which is written where it is missing."""
        path = self._folder("encoder", fold) / "in_sample.safetensors"
        if not path.exists():
            encoder = self._load_encoder(fold).to(device())
            names = training_volumes(self.store, self.config, fold)
            groups = self._training_groups("encoder", fold)
            self._save_embeddings(path, fold, encoder, groups, names, ranks)
        return path

    def _save_embeddings(
        self,
        path: Path,
        fold: int,
        encoder: EncoderEnsemble,
        groups: TrainingGroups,
        names: list[str],
        ranks: Ranks = ALONE,
    ) -> None:
        """Embed some series with the fold's encoder, each rank a part of them, and keep the result
        in `path`.
        """
        encoder_id = f"encoder fold {fold}"
        part = names[ranks.part]
        series = (
            embed_volumes(encoder, encoder_id, groups, self.store, part, self.config)
            if self._frozen is None
            else embed_frozen(encoder, encoder_id, groups, self.store, part, self._frozen)
        )
        by_name: dict[str, SliceEmbeddings] = {}
        for start in range(0, len(names[:: ranks.count]), SERIES_AT_ONCE):
            parts = ranks.gather(series[start : start + SERIES_AT_ONCE])
            if ranks.is_first:
                by_name |= {one.volume_id: one for part in parts for one in part}
        if ranks.is_first:
            save_embeddings(path, (by_name[name] for name in names))

    def _volumes(self, fold: int) -> list[str]:
        """The volume_ids of the fold."""
        return [name for name, own_fold in self.store.folds.items() if own_fold == fold]

    def _load_encoder(self, fold: int) -> EncoderEnsemble:
        folder = self._folder("encoder", fold)
        network = None if self._frozen is None else self._frozen.encoder
        encoder = EncoderEnsemble.from_config(self.config.slices, network)
        load = load_weights if network is None else load_head
        with status.reading(folder):
            load(folder / _WEIGHTS, encoder)
        return encoder.eval()

    def _load_context(self, fold: int) -> ContextEnsemble:
        model = ContextEnsemble.from_config(self.config.context, self.embedding_width)
        folder = self._folder("context", fold)
        with status.reading(folder):
            load_weights(folder / _WEIGHTS, model)
        return model.eval()

    def _load_stacker(self, stage: str, fold: int) -> Stacker:
        folder = self._folder(stage, fold)
        with status.reading(folder):
            tree = read_json(folder / "stack.json")
        by_label = {label: LabelStacker.from_dict(fields) for label, fields in tree.items()}
        return Stacker(by_label, self.config.stack.reach_mm)

    def _training_groups(self, stage: str, fold: int) -> TrainingGroups:
        return status.training_groups_of(self._folder(stage, fold))

    def _folder(self, stage: str, fold: int) -> Path:
        """Where the stage of this fold is kept: in the run's folder or in one of the ablation."""
        folder, inputs = self.workspace.stage(stage, fold), self.inputs_sha256(stage)
        if self._run is None or (folder.exists() and status.recorded_inputs(folder) == inputs):
            return folder
        if not folder.exists() and inputs == inputs_sha256(self._run, stage, self._data):
            return folder
        return self.workspace.variant(stage, inputs, fold)
