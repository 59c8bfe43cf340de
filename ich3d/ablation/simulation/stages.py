"""Context models and stackers trained on the scores of a simulated encoder.

Nothing but the encoder is simulated: what comes after it is trained and scored as in any run. HU
features are not simulated: every slice shows the same area of brain, and no more is known of it.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final

import numpy as np

from ich3d.ablation.simulation.chain import LabelChain, level_of
from ich3d.ablation.simulation.evidence import Noise, fit_strength, read_single_slices
from ich3d.ablation.simulation.sequences import SequenceStore
from ich3d.ablation.simulation.smoother import smooth
from ich3d.config.root import Config
from ich3d.config.simulation import SimulationConfig
from ich3d.core.labels import LABELS
from ich3d.core.metrics import logit
from ich3d.core.progress import Progress, quiet
from ich3d.core.seeds import stream
from ich3d.core.types import SliceEmbeddings, TrainingGroups
from ich3d.core.workspace import Workspace
from ich3d.crossfit.stages import Stages
from ich3d.prepare.hu_features import BRAIN_CM2, HU_FEATURES

BRAIN_AREA_CM2: Final = 120.0
"""The area of brain in every slice."""


@dataclass(frozen=True)
class SimulatedScores:
    """The scores of a simulated encoder for all series of a store.

    Attributes:
        store: labels, positions and folds.
        config: the process.
        seed: the root of its random streams.
    """

    store: SequenceStore
    config: SimulationConfig
    seed: int

    @property
    def noise(self) -> Noise:
        """The noise of the evidence."""
        return Noise(self.config.offset, self.config.correlated, self.config.correlation_mm)

    @cached_property
    def chains(self) -> dict[int, LabelChain]:
        """How labels follow each other in the other folds, by fold."""
        folds = self.store.folds
        return {
            fold: LabelChain.fit(
                [self.store.targets(name) for name in folds if folds[name] != fold]
            )
            for fold in sorted(set(folds.values()))
        }

    @cached_property
    def evidence(self) -> np.ndarray:
        """The evidence of all slices (N, K)."""
        return np.asarray(self._target * self.strength + self._noise)

    @cached_property
    def strength(self) -> np.ndarray:
        """The strength of each label's evidence (K,)."""
        return fit_strength(self._target, self._noise, self.config.offset, self._log_rates)

    @cached_property
    def prob(self) -> np.ndarray:
        """The encoder's probabilities of all slices (N, K)."""
        return read_single_slices(self.evidence, self.strength, self.config.offset, self._log_rates)

    @cached_property
    def _target(self) -> np.ndarray:
        """Labels of all slices (N, K)."""
        return np.concatenate([self.store.targets(name) for name in self.store.volume_ids])

    @cached_property
    def _noise(self) -> np.ndarray:
        """Noise of all slices (N, K), from the same draws for every process."""
        return np.concatenate(
            [
                self.noise.draw(self.store.z_mm(name), stream(self.seed, "simulated noise", name))
                for name in self.store.volume_ids
            ]
        )

    @cached_property
    def _log_rates(self) -> np.ndarray:
        """How frequent each set of subtypes is at the level of each slice, in other folds
        (N, N_SETS).
        """
        return np.concatenate(
            [
                self.chains[self.store.folds[name]].log_set_rates[
                    level_of(len(self.store.z_mm(name)))
                ]
                for name in self.store.volume_ids
            ]
        )

    def of_series(self, rows: np.ndarray) -> list[np.ndarray]:
        """Rows of all slices (N, ...) as one array (Z, ...) a series, in the order of the store."""
        lengths = [len(self.store.z_mm(name)) for name in self.store.volume_ids]
        return list(np.split(rows, np.cumsum(lengths)[:-1]))

    def known_answer(self) -> np.ndarray:
        """The probabilities of all slices (N, K) by who knows the process."""
        answer: dict[str, np.ndarray] = {}
        evidence = dict(zip(self.store.volume_ids, self.of_series(self.evidence), strict=True))
        for fold, chain in self.chains.items():
            names = [name for name, in_fold in self.store.folds.items() if in_fold == fold]
            series = [(evidence[name], self.store.z_mm(name)) for name in names]
            smoothed = smooth(series, chain, self.strength, self.noise)
            answer |= dict(zip(names, smoothed, strict=True))
        return np.concatenate([answer[name] for name in self.store.volume_ids])

    def embedded(self, order: np.ndarray) -> dict[str, SliceEmbeddings]:
        """What the encoder gives for each series, by volume_id, where slice i of all is slice
        `order[i]` (N,).
        """
        logits = logit(self.prob)
        width = self.config.embedding_width
        to_embedding = stream(self.seed, "simulated map").standard_normal((len(LABELS), width))
        noise = stream(self.seed, "simulated embedding").standard_normal((len(logits), width))
        embeddings = logits @ to_embedding + self.config.embedding_noise * noise

        hu_features = np.full(len(HU_FEATURES), np.nan, dtype=np.float32)
        hu_features[BRAIN_CM2] = BRAIN_AREA_CM2
        folds, groups = self.store.folds, self.store.groups
        seen = {
            fold: TrainingGroups.of(groups[name] for name in folds if folds[name] != fold)
            for fold in self.chains
        }
        parts = zip(
            self.store.volume_ids,
            self.of_series(embeddings[order].astype(np.float32)),
            self.of_series(logits[order].astype(np.float32)),
            strict=True,
        )
        return {
            name: SliceEmbeddings(
                volume_id=name,
                embeddings=of_embeddings,
                logits=of_logits,
                hu_features=np.tile(hu_features, (len(of_logits), 1)),
                encoder_id=f"simulated encoder fold {folds[name]}",
                training_groups=seen[folds[name]],
            )
            for name, of_embeddings, of_logits in parts
        }


@lru_cache(maxsize=1)
def simulated_scores(store: SequenceStore, config: SimulationConfig, seed: int) -> SimulatedScores:
    """The scores of one process. The last are kept: rows on one process follow each other."""
    return SimulatedScores(store, config, seed)


class SimulatedStages(Stages):
    """The stages of one configuration on top of a simulated encoder."""

    def __init__(
        self, config: Config, workspace: Workspace, scores: SimulatedScores, run: Config
    ) -> None:
        """The stages of `config` on what `scores` simulates; `run` as in `Stages`."""
        self._scores = scores
        store = scores.store
        self._order = np.arange(len(store.table))
        if config.simulation.scrambled:
            self._order = scrambled_order(store, config.seed)
        table = store.table.copy()
        table[list(LABELS)] = table[list(LABELS)].to_numpy()[self._order]
        super().__init__(config, workspace, SequenceStore(store.folder, table), run)

    def embedded(self, progress: Progress = quiet) -> dict[str, SliceEmbeddings]:
        return self._scores.embedded(self._order)

    @property
    def embedding_width(self) -> int:
        return self.config.simulation.embedding_width

    @property
    def _aligns(self) -> bool:
        """The encoders of all folds share one space."""
        return False

    def in_place(self, prob: np.ndarray) -> np.ndarray:
        """Scores (N, K) of scrambled slices, back where the slices were."""
        back = np.empty_like(prob)
        back[self._order] = prob
        return back


def scrambled_order(store: SequenceStore, seed: int) -> np.ndarray:
    """The slice of the store that stands in place of each (N,): another one of its fold."""
    order = np.arange(len(store.table))
    rng = stream(seed, "scrambled slices")
    for _, rows in store.table.groupby("fold"):
        order[rows.index] = rng.permutation(rows.index)
    return order
