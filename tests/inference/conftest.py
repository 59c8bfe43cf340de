"""A model whose scores differ from slice to slice."""

from copy import deepcopy
from typing import Any

import pytest
import torch

from ich3d.model.folder import Model


@pytest.fixture
def amplified(model: Model) -> Model:
    """The model with amplified last layers: its scores differ as those of a longer training do."""
    copied = deepcopy(model)
    with torch.no_grad():
        for fold_model in copied.fold_models:
            encoder: Any = fold_model.encoder.members[0]
            encoder.head.weight.mul_(300)
            members: Any = fold_model.context.members
            for member in members:
                member.correction_head.weight.mul_(300)
    return copied
