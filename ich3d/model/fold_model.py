"""One fold's encoder, context models and stacker, and what they say of a series.

Prediction and explanation score a series through `FoldModel.score`. Training scores stage by
stage (`crossfit.stages`), since each stage has to be trained first; what the stacker reads is
made here for both.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from ich3d.context.bigru import ContextEnsemble
from ich3d.context.score import score_context
from ich3d.core.labels import STAGES
from ich3d.core.metrics import sigmoid
from ich3d.core.types import SliceEmbeddings, TrainingGroups
from ich3d.prepare.hu_features import silenced, silenced_logits
from ich3d.slices.encoder import EncoderEnsemble
from ich3d.stack.booster import Stacker, coherent
from ich3d.stack.features import build_features, feature_names

_STACKER_STAGES: Final = ("encoder", "context")
"""The stages that the stacker reads."""


@dataclass(frozen=True)
class StageOutputs:
    """One series on its way through a fold's three stages.

    Attributes:
        embedded: what the encoder gave, and the context model read.
        features: what the stacker read, one row a slice.
        prob: probabilities float32 (Z, K) by stage: encoder, context, stack.
    """

    embedded: SliceEmbeddings
    features: pd.DataFrame
    prob: dict[str, np.ndarray]


@dataclass(frozen=True)
class FoldModel:
    """The three stages of one fold.

    Attributes:
        fold: the fold that none of them was trained on.
        encoder: slices to embeddings and logits.
        context: embeddings and logits of a series to corrected logits.
        stacker: context scores to refined probabilities.
        training_groups: the patient groups that the stages were trained on.
    """

    fold: int
    encoder: EncoderEnsemble
    context: ContextEnsemble
    stacker: Stacker
    training_groups: TrainingGroups

    def score(
        self,
        embeddings: np.ndarray,
        logits: np.ndarray,
        z_mm: np.ndarray,
        hu_features: np.ndarray,
    ) -> StageOutputs:
        """Score one series that this fold's encoder embedded.

        Every stage gives a slice that shows no brain the probability `NO_BRAIN_PROB`.

        Args:
            embeddings: float32 (Z, D).
            logits: the encoder's logits, float32 (Z, K).
            z_mm: positions along the superior normal in millimetres (Z,).
            hu_features: what HU say of each slice, float32 (Z, F); see `prepare.hu_features`.
        """
        embedded = SliceEmbeddings(
            volume_id="",
            embeddings=embeddings,
            logits=silenced_logits(logits, hu_features),
            hu_features=hu_features,
            encoder_id=f"encoder fold {self.fold}",
            training_groups=self.training_groups,
        )
        encoder_prob = sigmoid(embedded.logits).astype(np.float32)
        context_prob = score_context(self.context, embedded, z_mm)
        features = stacker_features(embedded, context_prob, z_mm, self.stacker.reach_mm)
        stack_prob = coherent(self.stacker.score(features, context_prob))
        stack_prob = silenced(stack_prob, hu_features)

        prob = dict(zip(STAGES, (encoder_prob, context_prob, stack_prob), strict=True))
        return StageOutputs(embedded, features, prob)


def stacker_features(
    embedded: SliceEmbeddings, context_prob: np.ndarray, z_mm: np.ndarray, reach_mm: float
) -> pd.DataFrame:
    """What the stacker reads of one series, one row a slice.

    Args:
        embedded: the encoder's output.
        context_prob: probabilities of the context stage (Z, K).
        z_mm: positions along the superior normal in millimetres (Z,).
        reach_mm: how far neighbours are read on each side.
    """
    prob = stacker_prob(embedded, context_prob)
    return build_features(prob, z_mm, reach_mm, embedded.hu_features)


def stacker_prob(embedded: SliceEmbeddings, context_prob: np.ndarray) -> dict[str, np.ndarray]:
    """The probabilities (Z, K) that the stacker reads, by stage."""
    return dict(zip(_STACKER_STAGES, (sigmoid(embedded.logits), context_prob), strict=True))


def stacker_feature_names(reach_mm: float) -> frozenset[str]:
    """The columns of `stacker_features`, which are the same for every series."""
    return frozenset(feature_names(_STACKER_STAGES, reach_mm, has_hu=True))
