"""What other folds' encoders say of a slice, put the way one fold's own encoder would say it.

FoldEncoders that were trained apart agree on slices and not on numbers: neither an embedding nor the level and
spread of a logit carries over from one to another. Ridge regression on series that both encoders were trained
on finds the linear map between them. It needs no labels, and the series that it is for take no part in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from ich3d.core.types import SliceEmbeddings

PENALTY = 1e-3  # a slice, on columns of unit variance


@dataclass(frozen=True)
class Alignment:
    """A linear map from an encoder's vectors and logits to those of the encoder `to`."""

    to: str
    regression: Pipeline

    def __call__(self, embedded: SliceEmbeddings) -> SliceEmbeddings:
        """The series as `to` would embed it. Its maker stays the encoder that saw the slices."""
        mapped = self.regression.predict(_columns([embedded])).astype(np.float32)
        width = embedded.embeddings.shape[1]
        name = f"{embedded.encoder_id} as {self.to}"
        return replace(
            embedded, embeddings=mapped[:, :width], logits=mapped[:, width:], encoder_id=name
        )


def fit_alignment(given: Sequence[SliceEmbeddings], wanted: Sequence[SliceEmbeddings]) -> Alignment:
    """The map that brings `given` nearest to `wanted`, the same series by another encoder."""
    rows = _columns(given)
    regression = make_pipeline(StandardScaler(), Ridge(alpha=PENALTY * len(rows)))
    return Alignment(wanted[0].encoder_id, regression.fit(rows, _columns(wanted)))


def _columns(embedded: Sequence[SliceEmbeddings]) -> np.ndarray:
    return np.concatenate([np.hstack([item.embeddings, item.logits]) for item in embedded]).astype(
        np.float64
    )
