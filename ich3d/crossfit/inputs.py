"""What each stage depends on, as a hash: a stage that was trained from equal inputs is not
trained again.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ich3d.config.ablation import IN_TRAINING, NEVER
from ich3d.config.load import as_dict
from ich3d.config.root import Config
from ich3d.config.schema import SEQUENCES
from ich3d.core.workspace import named_file_sha256

FORMATS: Final = {"encoder": 6, "context": 7, "stack": 11, "encoder_stack": 11}
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
        "stacker_without",
    ),
    "encoder_stack": ("patients", "force_stacker", "stacker_without"),
}  # fmt: skip
"""The keys of the section `control` that each stage depends on. `cut` changes no training."""

_LATER_CONTROLS: Final = ("cut", "stacker_without")
"""Keys that are younger than kept scores."""


def controls_for_hash(control: Mapping[str, Any]) -> dict[str, Any]:
    """The section `control` without younger keys that are not set, so that what was trained and
    scored before they existed stays valid.
    """
    return {
        name: value
        for name, value in control.items()
        if name not in _LATER_CONTROLS or value is not None
    }


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
    is_paired = stage == "encoder" and config.context.end_to_end
    if is_paired:
        names.append("context")
    if stage != "encoder" or is_paired:
        names.append("replicate")
    if config.source.kind == SEQUENCES:
        names.append("simulation")
    settings = {name: tree[name] for name in names}

    of_stage = {name: tree["control"][name] for name in _CONTROLS[stage]}
    controls = controls_for_hash(of_stage)
    if stage == "context" and controls["shuffle"] != IN_TRAINING:
        controls["shuffle"] = NEVER  # shuffling at test uses the same model

    weights = weights_sha256(config)
    if stage == "encoder":
        weights = weights[:1]
    inputs = [FORMATS[stage], list(store_identity), settings, controls, weights]
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def weights_sha256(config: Config) -> tuple[str | None, ...]:
    """Hashes of the files that the encoder and the context model start from; None for no file."""
    return named_file_sha256(config.slices.weights), named_file_sha256(config.context.weights)
