"""Embeddings and logits of one encoder, expressed as another encoder would give them.

Encoders that were trained separately agree on slices but not on numbers: neither an embedding
nor the offset and scale of a logit carries over from one to the other. Ridge regression on
series that both were trained on finds the linear map between them. No label is used, and the
series that the map is applied to take no part in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from ich3d.core.types import SliceEmbeddings

PENALTY: Final = 1e-3
"""Ridge penalty for each slice, on columns of unit variance."""


@dataclass(frozen=True)
class Alignment:
    """A linear map from one encoder's embeddings (Z, D) and logits (Z, K) to another's."""

    target_id: str
    regression: Pipeline

    def __call__(self, embedded: SliceEmbeddings) -> SliceEmbeddings:
        """The series as the target encoder would embed it.

        `training_groups` stay those of the encoder that saw the slices.
        """
        aligned = self.regression.predict(_columns([embedded])).astype(np.float32)  # (Z, D + K)
        width = embedded.embeddings.shape[1]
        return replace(
            embedded,
            embeddings=aligned[:, :width],
            logits=aligned[:, width:],
            encoder_id=f"{embedded.encoder_id} as {self.target_id}",
        )


def fit_alignment(
    source: Sequence[SliceEmbeddings], target: Sequence[SliceEmbeddings]
) -> Alignment:
    """The map from `source` to `target`, the same series embedded by two encoders."""
    columns = _columns(source)
    regression = make_pipeline(StandardScaler(), Ridge(alpha=PENALTY * len(columns)))
    return Alignment(target[0].encoder_id, regression.fit(columns, _columns(target)))


def _columns(embedded: Sequence[SliceEmbeddings]) -> np.ndarray:
    """Embeddings and logits of all slices side by side, float64 (N, D + K)."""
    rows = [np.hstack([series.embeddings, series.logits]) for series in embedded]
    return np.concatenate(rows).astype(np.float64)
