"""Configuration keys of version 0.1 that have another name now.

A config file that uses an old name is refused with the new one. Files that ich3d itself wrote (model
folders, run folders) are read under both. Hashes of a config are taken over the old names, so that
stages and scores that an earlier version kept stay valid.
"""

from collections.abc import Mapping
from typing import Any, Final

RENAMED: Final = {
    "slices.members": "slices.ensemble_size",
    "slices.mirror_at_test": "slices.tta_flip",
    "slices.inner_share": "slices.validation_fraction",
    "context.members": "context.ensemble_size",
    "context.hidden": "context.hidden_size",
    "context.layers": "context.num_layers",
    "context.inner_share": "context.validation_fraction",
    "stack.trees": "stack.num_trees",
    "stack.leaves": "stack.num_leaves",
    "stack.min_slices_in_leaf": "stack.min_data_in_leaf",
    "control.vector_noise": "control.embedding_noise",
}
"""Old name to new name, each `section.key`."""

RENAMED_IN_ROWS: Final = {"reads": "predictor", "new_encoders": "retrain_encoders"}
"""The same for the keys of one row of `ablation.rows`."""


def renamed_keys(tree: Mapping[str, Any]) -> dict[str, str]:
    """The old names that a config tree uses, each with its new name."""
    found = {}
    for old, new in RENAMED.items():
        section, _, key = old.partition(".")
        if key in (_mapping(tree, section)):
            found[old] = new

    for name, row in _mapping(_mapping(tree, "ablation"), "rows").items():
        for old, new in RENAMED_IN_ROWS.items():
            if isinstance(row, Mapping) and old in row:
                found[f"ablation.rows.{name}.{old}"] = f"ablation.rows.{name}.{new}"
    return found


def with_new_names(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A config tree that any version wrote, under the names of this one."""
    upgraded = _with_names(tree, RENAMED)
    if "ablation" in upgraded:
        rows = {
            name: {RENAMED_IN_ROWS.get(key, key): value for key, value in row.items()}
            for name, row in _mapping(upgraded["ablation"], "rows").items()
        }
        upgraded["ablation"] = {**upgraded["ablation"], "rows": rows}
    return upgraded


def with_old_names(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A config tree under the names of version 0.1, over which hashes are taken."""
    return _with_names(tree, {new: old for old, new in RENAMED.items()})


def _with_names(tree: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """`tree` with the keys of its sections renamed by `names`, `section.key` to `section.key`."""
    renamed: dict[str, Any] = {}
    for section, values in tree.items():
        if isinstance(values, Mapping):
            keys = {key: names.get(f"{section}.{key}", f"{section}.{key}") for key in values}
            values = {keys[key].partition(".")[2]: value for key, value in values.items()}
        renamed[section] = values
    return renamed


def _mapping(tree: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """What lies under `key` where that is a mapping, else an empty one."""
    value = tree.get(key)
    return value if isinstance(value, Mapping) else {}
