"""What a run folder holds already: whether it may be trained on, and whether anything is left.

Nothing here loads a network library, so that an answer takes no time.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ich3d.config.ablation import ControlConfig
from ich3d.config.load import as_dict
from ich3d.config.root import Config
from ich3d.config.schema import SEQUENCES
from ich3d.core.errors import ConfigError
from ich3d.core.labels import STAGES
from ich3d.core.outputs import claim, flat, refusal
from ich3d.core.workspace import Workspace, read_json
from ich3d.crossfit import status
from ich3d.crossfit.inputs import inputs_sha256
from ich3d.prepare.store import Store

TRAIN: Final = "ich3d train"
_STAGES_DONE: Final = ("*/fold*/done.json",)

_ELSEWHERE: Final = ("workspace", "report", "ablation", "control", "source", "simulation")
"""Sections that say nothing of how a run is trained. The data are compared by what was prepared
from them: where they lie may change.
"""


def require_trainable(config: Config) -> None:
    """Raise ConfigError where the configuration asks for a control experiment or has no images."""
    if config.source.kind == SEQUENCES:
        raise ConfigError(f"source.kind {SEQUENCES} holds no images: it is for `ich3d ablate`")
    if config.control != ControlConfig():
        raise ConfigError(
            "the section control is for `ich3d ablate`: no model is saved from a control experiment"
        )


def claim_run(config: Config, overwrite: bool = False) -> None:
    """Record the configuration that a run is trained with.

    Raises:
        DataError: its folder holds stages trained with another one, and `overwrite` is not set.
    """
    workspace = Workspace(Path(config.workspace))
    known = None
    if workspace.run.exists():
        known = _settings(read_json(workspace.run)["config"])
    claim(workspace.root, TRAIN, _settings(as_dict(config)), _STAGES_DONE, overwrite, known)


def require_same_inputs(config: Config, store: Store) -> None:
    """Raise DataError where a stage was trained from other data, or by another version."""
    workspace = Workspace(Path(config.workspace))
    for stage in STAGES:
        inputs = inputs_sha256(config, stage, store.identity)
        for folder in _folders(workspace, stage, config):
            if status.is_finished(folder) and status.recorded_inputs(folder) != inputs:
                raise refusal(
                    folder, "a stage trained on other data, or by another version of ich3d"
                )


def is_finished(config: Config, store: Store) -> bool:
    """Whether the run was trained to its end from this configuration and these data, and its
    report written.
    """
    workspace = Workspace(Path(config.workspace))
    outputs = (workspace.run, workspace.model / "manifest.json", workspace.report)
    if not all(path.exists() for path in (*outputs, *map(workspace.oof, STAGES))):
        return False
    recorded = read_json(workspace.run)["config"]
    if recorded.get("report") != as_dict(config)["report"]:
        return False
    return all(
        status.is_finished(folder)
        and status.recorded_inputs(folder) == inputs_sha256(config, stage, store.identity)
        for stage in STAGES
        for folder in _folders(workspace, stage, config)
    )


def _folders(workspace: Workspace, stage: str, config: Config) -> list[Path]:
    return [workspace.stage(stage, fold) for fold in range(config.prepare.folds)]


def _settings(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a configuration, as a tree, that training depends on."""
    unused = _ELSEWHERE if tree["source"]["kind"] == "phantom" else (*_ELSEWHERE, "phantom")
    used = {name: section for name, section in tree.items() if name not in unused}
    return flat({**used, "source.kind": tree["source"]["kind"]})
