"""Context models and stackers trained anew on series that a model with a frozen network embedded.

The encoder stays: the model's frozen network, with the mean of its folds' last layers. It has seen
none of the new patients, so its output is held out for all of them. `Stages` trains the rest, with
the same checks as in any training.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from ich3d.config.root import Config
from ich3d.core.progress import Progress, quiet
from ich3d.core.types import SeriesMetadata, TrainingGroups
from ich3d.core.workspace import Workspace
from ich3d.crossfit.stages import Stages
from ich3d.model.fold_model import FoldModel
from ich3d.model.folder import Model
from ich3d.prepare.store import Store
from ich3d.prepare.tables import fingerprint, inspect_table
from ich3d.slices.encoder import EncoderEnsemble, SliceEncoder
from ich3d.slices.frozen import FrozenEmbeddings, mean_head, save_head
from ich3d.stack.booster import coherent


class MemoryStore(Store):
    """A store in memory, without pixels: metadata of series, and the table of their slices."""

    def __init__(self, series: Sequence[SeriesMetadata], table: pd.DataFrame) -> None:
        """The store of `series`.

        Args:
            series: metadata of each volume; all were prepared on one grid.
            table: a row a slice as in a store's `slices.csv`, inferior to superior in each volume:
                keys, `z_mm`, `group_id`, `fold` and labels.
        """
        self.table = table
        self.meta = {
            "preprocessing_sha256": series[0].preprocessing_sha256,
            "fingerprint": fingerprint(inspect_table(series), table),
        }
        self._metadata = {one_series.volume_id: one_series for one_series in series}

    @property
    def identity(self) -> list[str]:
        content = hashlib.sha256(self.table.to_csv(index=False).encode()).hexdigest()
        return [content, str(self.meta["preprocessing_sha256"])]

    def metadata(self, volume_id: str) -> SeriesMetadata:
        return self._metadata[volume_id]


class KnownEmbeddings(FrozenEmbeddings):
    """Embeddings of a frozen network that are there already, by volume_id."""

    def __init__(self, encoder: SliceEncoder, embeddings: Mapping[str, np.ndarray]) -> None:
        self._known = encoder
        self._embeddings = embeddings

    @cached_property
    def encoder(self) -> SliceEncoder:
        return self._known

    def __getitem__(self, volume_id: str) -> np.ndarray:
        return self._embeddings[volume_id]

    def copies(self, volume_id: str) -> list[np.ndarray]:
        """None: the pixels are not at hand."""
        return []

    def compute(self, volume_ids: Sequence[str], progress: Progress = quiet) -> None:
        """Nothing is missing."""


class GivenEncoderStages(Stages):
    """Stages on top of one encoder that was trained on other patients, the same for every fold."""

    def __init__(
        self,
        config: Config,
        workspace: Workspace,
        store: MemoryStore,
        encoder: EncoderEnsemble,
        training_groups: TrainingGroups,
        embeddings: Mapping[str, np.ndarray],
    ) -> None:
        """The stages of `config` on `store`, whose series `encoder` embedded as `embeddings`."""
        (member,) = encoder.members
        assert isinstance(member, SliceEncoder)
        super().__init__(config, workspace, store, frozen=KnownEmbeddings(member, embeddings))
        self._encoder, self._encoder_groups = encoder, training_groups

    def _train_encoder(
        self, fold: int, folder: Path, progress: Progress
    ) -> tuple[EncoderEnsemble, TrainingGroups]:
        save_head(folder / "weights.safetensors", self._encoder)
        return self._encoder, self._encoder_groups


@dataclass(frozen=True)
class Retrained:
    """What `retrain` made.

    Attributes:
        config: the configuration of the new model.
        fold_models: its folds; the patients behind the encoder are in their training groups.
        prob: final probabilities (Z, K) by volume_id, out of fold.
    """

    config: Config
    fold_models: list[FoldModel]
    prob: dict[str, np.ndarray]


def retrain(
    model: Model,
    store: MemoryStore,
    embeddings: Mapping[str, np.ndarray],
    progress: Progress = quiet,
) -> Retrained:
    """Train context models and stackers of `model`'s configuration on new patients.

    Args:
        model: a model whose folds share one frozen network.
        store: the new series, with labels, groups and folds.
        embeddings: what that network gave for them, float32 (Z, D) by volume_id.
        progress: shows what is running.

    Raises:
        LeakageError: the model was trained on one of the patients.
    """
    n_folds = len(set(store.folds.values()))
    config = replace(
        model.config,
        prepare=replace(model.config.prepare, folds=n_folds),
        context=replace(model.config.context, weights=None),
    )
    encoder = mean_head([fold.encoder for fold in model.fold_models])
    with TemporaryDirectory(prefix="ich3d-") as folder:
        workspace = Workspace(Path(folder))
        stages = GivenEncoderStages(
            config, workspace, store, encoder, model.training_groups, embeddings
        )
        embedded = stages.embedded(progress)
        context = stages.context(embedded, progress)
        stack = stages.stack(embedded, context, progress)
        fold_models = [stages.fold_model(fold) for fold in range(n_folds)]

    behind_encoder = model.training_groups.groups
    return Retrained(
        config=config,
        fold_models=[
            replace(
                fold_model,
                training_groups=TrainingGroups(fold_model.training_groups.groups | behind_encoder),
            )
            for fold_model in fold_models
        ],
        prob={name: coherent(scores.prob) for name, scores in stack.items()},
    )
