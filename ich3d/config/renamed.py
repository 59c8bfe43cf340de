"""Configuration keys of earlier versions that have another name now.

A config file or override that uses an old name is refused, and the error gives the new name.
Files that ich3d itself wrote, in model folders and run folders, are read under either name.
"""

from collections.abc import Mapping
from typing import Any, Final

RENAMED: Final = {
    "slices.members": "slices.ensemble_size",
    "slices.mirror_at_test": "slices.tta_flip",
    "slices.inner_share": "slices.validation_fraction",
    "context.embeddings": "context.reads",
    "context.members": "context.ensemble_size",
    "context.hidden": "context.hidden_size",
    "context.layers": "context.num_layers",
    "context.inner_share": "context.validation_fraction",
    "stack.trees": "stack.num_trees",
    "stack.leaves": "stack.num_leaves",
    "stack.min_slices_in_leaf": "stack.min_data_in_leaf",
    "control.vector_noise": "control.embedding_noise",
}
"""Old name to new name, each as `section.key`."""

RENAMED_IN_ROWS: Final = {"reads": "predictor", "new_encoders": "retrain_encoders"}
"""The same for the keys of a row in `ablation.rows`."""


def renamed_keys(tree: Mapping[str, Any]) -> dict[str, str]:
    """The old names that a config tree uses, each with its new name.

    A key of a section is given as `section.key`, a key of an ablation row with the row's name
    before it. What a row sets in its `set` is searched as well.
    """
    renamed = {}
    for old, new in RENAMED.items():
        section, _, key = old.partition(".")
        if key in _mapping(tree, section):
            renamed[old] = new

    for name, row in _mapping(_mapping(tree, "ablation"), "rows").items():
        if isinstance(row, Mapping):
            renamed |= _renamed_in_row(f"ablation.rows.{name}", row)
    return renamed


def with_new_names(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a config tree that any version wrote, with the names of this version."""
    upgraded = _with_names(tree, RENAMED)
    reads = _mapping(upgraded, "context").get("reads")
    if isinstance(reads, bool):  # until version 0.2 it said whether embeddings were read too
        upgraded["context"] = {**upgraded["context"], "reads": "both" if reads else "logits"}

    rows = _mapping(_mapping(upgraded, "ablation"), "rows")
    if rows:
        new_rows = {name: _row_with_new_names(row) for name, row in rows.items()}
        upgraded["ablation"] = {**upgraded["ablation"], "rows": new_rows}
    return upgraded


def _renamed_in_row(place: str, row: Mapping[str, Any]) -> dict[str, str]:
    """The old names that one row of an ablation uses; `place` is the row's full key."""
    renamed = {
        f"{place}.{old}": f"{place}.{new}" for old, new in RENAMED_IN_ROWS.items() if old in row
    }
    for override in _overrides(row):
        key = override.partition("=")[0].strip()
        if key in RENAMED:
            renamed[f"{place}.set: {key}"] = RENAMED[key]
    return renamed


def _row_with_new_names(row: Mapping[str, Any]) -> dict[str, Any]:
    """One row of an ablation with new names, also in what it sets."""
    new_row = {RENAMED_IN_ROWS.get(key, key): value for key, value in row.items()}
    if "set" in new_row:
        new_row["set"] = [_override_with_new_name(override) for override in _overrides(row)]
    return new_row


def _override_with_new_name(override: str) -> str:
    """An override `section.key=value` with the key's new name."""
    key, equals, value = override.partition("=")
    return f"{RENAMED.get(key.strip(), key)}{equals}{value}"


def _with_names(tree: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """A copy of `tree` with sections' keys renamed by `names`, `section.key` to `section.key`."""
    renamed: dict[str, Any] = {}
    for section, values in tree.items():
        if isinstance(values, Mapping):
            new_keys = {key: names.get(f"{section}.{key}", f"{section}.{key}") for key in values}
            values = {new_keys[key].partition(".")[2]: value for key, value in values.items()}
        renamed[section] = values
    return renamed


def _mapping(tree: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The mapping under `key`; an empty one where there is none."""
    value = tree.get(key)
    return value if isinstance(value, Mapping) else {}


def _overrides(row: Mapping[str, Any]) -> list[str]:
    """The overrides in a row's `set`. A value of another type is left to the later type check."""
    overrides = row.get("set")
    return [str(override) for override in overrides] if isinstance(overrides, list) else []
