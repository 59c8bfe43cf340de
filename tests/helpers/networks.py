"""Small networks that are not trained, but whose scores differ from slice to slice."""

from typing import Any

import torch
from torch import nn

from ich3d.context.bigru import ContextEnsemble, ContextModel
from ich3d.slices.encoder import EncoderEnsemble, SliceEncoder


def random_encoder(seed: int = 0, **settings: Any) -> SliceEncoder:
    """A `resnet10-half` encoder with new weights, in evaluation mode."""
    torch.manual_seed(seed)
    return SliceEncoder("resnet10-half", **settings).eval()


def random_encoders(count: int, seed: int = 0, **settings: Any) -> EncoderEnsemble:
    """An ensemble of such encoders."""
    members = [random_encoder(seed + index, **settings) for index in range(count)]
    return EncoderEnsemble(members).eval()


def random_context(embedding_width: int, seed: int = 0, **settings: Any) -> ContextModel:
    """A context model whose correction is not zero, in evaluation mode."""
    torch.manual_seed(seed)
    small: dict[str, Any] = {"hidden_size": 8, "reads": "logits", **settings}
    model = ContextModel(embedding_width, **small).eval()
    nn.init.normal_(model.correction_head.weight, std=0.5)
    return model


def random_contexts(
    embedding_width: int, count: int, seed: int = 0, **settings: Any
) -> ContextEnsemble:
    """An ensemble of such context models."""
    members = [random_context(embedding_width, seed + k, **settings) for k in range(count)]
    return ContextEnsemble(members).eval()
