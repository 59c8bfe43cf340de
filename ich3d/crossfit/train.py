"""Training all three stages of all folds, so that every score in `oof/` is held out, and saving the model."""

import logging
import platform
import time
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import ich3d
from ich3d.config.ablation import ControlConfig
from ich3d.config.load import as_dict
from ich3d.config.root import Config
from ich3d.core.errors import ConfigError
from ich3d.core.labels import LABELS, STAGES
from ich3d.core.metrics import weighted_log_loss
from ich3d.core.progress import Progress, quiet
from ich3d.core.workspace import Workspace, write_csv, write_json
from ich3d.crossfit.out_of_fold import oof_table, probabilities, read_oof
from ich3d.crossfit.stages import Stages
from ich3d.model.folder import save_model
from ich3d.prepare.build import prepare
from ich3d.stack.booster import coherent
from ich3d.training.device import device

log = logging.getLogger(__name__)


def train(config: Config, progress: Progress = quiet) -> Workspace:
    """Prepare, train, score every fold out of fold, and save the model; the run folder.

    ConfigError where the config asks for a control: what is trained so may be compared, not used.
    """
    if config.control != ControlConfig():
        raise ConfigError("a config with a control is for `ich3d ablate`: no model is made from it")
    started = time.time()
    workspace = Workspace(Path(config.workspace))
    workspace.run.unlink(missing_ok=True)
    store = prepare(config, progress).store
    stages = Stages(config, workspace, store)
    embedded = stages.embedded(progress)
    context = stages.context(embedded, progress)
    stacked = stages.stack(embedded, context, progress)
    stacked = {name: replace(item, prob=coherent(item.prob)) for name, item in stacked.items()}
    for stage, scores in zip(STAGES, (stages.encoder(embedded), context, stacked), strict=True):
        write_csv(workspace.oof(stage), oof_table(store, scores))
    save_model(
        workspace.model,
        config,
        store.meta,
        [stages.fold_model(k) for k in range(config.prepare.folds)],
    )
    write_json(workspace.run, _run_facts(config, workspace, time.time() - started))
    return workspace


def _run_facts(config: Config, workspace: Workspace, seconds: float) -> dict[str, Any]:
    packages = ("torch", "monai", "lightgbm", "pydicom", "SimpleITK", "numpy", "scikit-learn")
    return {
        "ich3d": ich3d.__version__,
        "packages": {name: version(name) for name in packages},
        "python": platform.python_version(),
        "device": str(device()),
        "threads": torch.get_num_threads(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds_of_last_call": round(seconds, 1),
        "config": as_dict(config),
        "weighted_log_loss": {stage: _score(read_oof(workspace, stage)) for stage in STAGES},
    }


def _score(table: pd.DataFrame) -> float:
    prob, target = probabilities(table), table[list(LABELS)].to_numpy(float)
    return round(weighted_log_loss(prob, target), 5)
