"""What each stage depends on, as a hash: a stage that was trained from equal inputs is not
trained again.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Final

from ich3d.config.load import as_dict
from ich3d.config.root import Config
from ich3d.context.shuffle import IN_TRAINING, NEVER
from ich3d.training.weights import file_sha256

FORMATS: Final = {"encoder": 6, "context": 7, "stack": 11, "encoder_stack": 10}
"""Raised when the training of a stage changes, there and in all stages after it, so that what
an earlier version trained is trained again.
"""

_SECTIONS: Final = {
    "encoder": ("slices",),
    "context": ("slices", "context"),
    "stack": ("slices", "context", "stack"),
    "encoder_stack": ("slices", "context", "stack"),
}
"""The sections of the configuration that each stage depends on.

`encoder_stack`, a stacker without a context model, depends on `context` for `context.align` alone.
"""

_CONTROLS: Final = {
    "encoder": ("patients",),
    "context": ("patients", "shuffle", "allow_in_sample", "embedding_noise", "nested"),
    "stack": (
        "patients", "shuffle", "allow_in_sample", "embedding_noise", "nested", "force_stacker",
    ),
    "encoder_stack": ("patients", "force_stacker"),
}  # fmt: skip
"""The keys of the section `control` that each stage depends on."""


def inputs_sha256(config: Config, stage: str, store_identity: Sequence[str]) -> str:
    """A hash of all that a stage depends on: the data, its settings, and those of the stages
    before it.

    Args:
        config: the whole configuration.
        stage: a key of `FORMATS`.
        store_identity: `Store.identity` of the data.
    """
    tree = as_dict(config)
    names = ["seed", "precision", *_SECTIONS[stage]]
    if stage != "encoder":
        names.append("replicate")
    settings = {name: tree[name] for name in names}

    controls = {name: tree["control"][name] for name in _CONTROLS[stage]}
    if stage == "context" and controls["shuffle"] != IN_TRAINING:
        controls["shuffle"] = NEVER  # shuffling at test uses the same model

    weights = weights_sha256(config)
    if stage == "encoder":
        weights = weights[:1]
    inputs = [FORMATS[stage], list(store_identity), settings, controls, weights]
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def weights_sha256(config: Config) -> tuple[str | None, ...]:
    """Hashes of the files that the encoder and the context model start from; None for no file."""
    return tuple(file_sha256(path) for path in (config.slices.weights, config.context.weights))
