"""One fold's chain of three makers, and what it says of a series. Training, serving and reports share it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ich3d.config.root import Config
from ich3d.context.bigru import ContextEnsemble
from ich3d.context.dataset import ContextInput, context_input
from ich3d.context.train import score_context
from ich3d.core.labels import STAGES
from ich3d.core.metrics import sigmoid
from ich3d.core.types import SliceEmbeddings, TrainingGroups
from ich3d.slices.encoder import EncoderEnsemble
from ich3d.stack.booster import LabelStack, coherent, score_stack
from ich3d.stack.features import build_features


@dataclass(frozen=True)
class StageOutputs:
    """One series on its way through a chain: what the context model and the stacker read of it, and
    probabilities float32 (Z, K) by stage."""

    series: ContextInput
    features: pd.DataFrame
    prob: dict[str, np.ndarray]


@dataclass(frozen=True)
class FoldModel:
    """Encoder, context model and stack of one fold, and the patient groups that each was fitted on."""

    fold: int
    encoder: EncoderEnsemble
    context: ContextEnsemble
    stack: Mapping[str, LabelStack]
    training_groups: TrainingGroups

    def read(
        self, embeddings: np.ndarray, logits: np.ndarray, z_mm: np.ndarray, config: Config
    ) -> StageOutputs:
        """The scores of one series, slices at `z_mm`, that the encoder embedded: vectors float32 (Z, D),
        logits (Z, K)."""
        embedded = SliceEmbeddings(
            "", embeddings, logits, f"encoder fold {self.fold}", self.training_groups
        )
        encoder = sigmoid(logits).astype(np.float32)
        series = context_input(embedded, z_mm)
        context = score_context(self.context, series)
        features = stack_features(series, context, z_mm, config)
        stack = coherent(score_stack(self.stack, features, context))
        return StageOutputs(
            series, features, dict(zip(STAGES, (encoder, context, stack), strict=True))
        )


def stack_features(
    series: ContextInput, context: np.ndarray, z_mm: np.ndarray, config: Config
) -> pd.DataFrame:
    """What the stacker reads of one series: the encoder's logits, and what context made of them,
    probabilities (Z, K)."""
    prob = {"encoder": sigmoid(series.logits), "context": context}
    return build_features(prob, z_mm, config.stack.reach_mm)
