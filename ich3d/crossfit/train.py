"""`ich3d train`: prepare, train all stages of all folds, score every slice out of fold, save
the model.
"""

import platform
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import torch

import ich3d
from ich3d.config.load import as_dict
from ich3d.config.root import Config
from ich3d.config.schema import IMAGENET
from ich3d.core.labels import LABELS, STAGES
from ich3d.core.metrics import weighted_log_loss
from ich3d.core.progress import Progress, quiet
from ich3d.core.versions import installed_version
from ich3d.core.workspace import Workspace, write_csv, write_json
from ich3d.crossfit.existing import claim_run, require_same_inputs, require_trainable
from ich3d.crossfit.out_of_fold import held_out_figures, oof_table, probabilities, read_oof
from ich3d.crossfit.ray_cluster import Wanted, train_on_ray
from ich3d.crossfit.stages import Stages
from ich3d.model.folder import write_model
from ich3d.model.performance import Performance
from ich3d.prepare.build import prepare, require_labels
from ich3d.prepare.spread import Spread
from ich3d.prepare.store import Store
from ich3d.slices.lite0 import imagenet_file
from ich3d.stack.booster import coherent
from ich3d.training.device import device
from ich3d.training.ranks import Ranks, started_ranks

_PACKAGES: Final = (
    "torch", "monai", "lightgbm", "pydicom", "SimpleITK", "numpy", "scikit-learn",
)  # fmt: skip


def train(
    config: Config,
    progress: Progress = quiet,
    overwrite: bool = False,
    store: Store | None = None,
    ray: str | None = None,
) -> Workspace:
    """Prepare the source, train every stage of every fold, and save scores and model.

    A run that was interrupted continues where it stopped when it is started again. Processes that
    `torchrun` started train the encoders together and embed with them; the first of them does all
    the rest.

    Args:
        config: the whole configuration.
        progress: shows what is running.
        overwrite: whether what the run folder holds may be replaced, where it was trained with
            another configuration or on other data.
        store: the prepared data, where the source is prepared already.
        ray: address of a Ray cluster that trains the stages, or `local`; None trains them here.

    Returns:
        The run folder: out-of-fold scores in `oof/`, the model in `model/`, facts in `run.json`.

    Raises:
        ConfigError: the configuration asks for a control experiment, from which no model is saved.
        DataError: the source cannot be read, or holds too few patients; or the run folder holds
            other work and `overwrite` is not set.
    """
    with started_ranks() as ranks:
        if ranks.is_first:
            return _train(config, progress, overwrite, store, ray, ranks)
        ranks.wait()  # until the data are prepared
        workspace = Workspace(Path(config.workspace))
        Stages(config, workspace, Store(workspace.store), ranks=ranks).assist()
        return workspace


def _train(
    config: Config,
    progress: Progress,
    overwrite: bool,
    store: Store | None,
    ray: str | None,
    ranks: Ranks,
) -> Workspace:
    require_trainable(config)
    started = time.time()
    workspace = Workspace(Path(config.workspace))
    claim_run(config, overwrite)
    if config.slices.weights == IMAGENET:
        imagenet_file()  # a missing package is told before the data are prepared
    if store is None:
        store = prepare(config, progress, overwrite, Spread(ray=ray)).store
    require_labels(store)
    if not overwrite:
        require_same_inputs(config, store)

    workspace.run.unlink(missing_ok=True)  # written last, it says that the run is finished
    if ray is not None:
        train_on_ray([Wanted(config, ("stack",))], None, store, ray, progress)
    ranks.wait()
    stages = Stages(config, workspace, store, ranks=ranks)
    embedded = stages.embedded(progress)
    encoder = stages.encoder(embedded)
    context = stages.context(embedded, progress)
    stack = stages.stack(embedded, context, progress)
    stack = {name: replace(scores, prob=coherent(scores.prob)) for name, scores in stack.items()}

    write_csv(workspace.oof("encoder"), oof_table(store, encoder))
    write_csv(workspace.oof("context"), oof_table(store, context, stages.agreement(embedded)))
    write_csv(workspace.oof("stack"), oof_table(store, stack))
    fold_models = [stages.fold_model(fold) for fold in range(config.prepare.folds)]
    figures = held_out_figures(read_oof(workspace, "stack"), config.report.resamples, config.seed)
    write_model(
        workspace.model,
        config,
        store.meta["fingerprint"],
        fold_models,
        performance=Performance(config.source.kind, figures),
    )
    write_json(workspace.run, _run_facts(config, workspace, time.time() - started))
    return workspace


def _run_facts(config: Config, workspace: Workspace, seconds: float) -> dict[str, Any]:
    """What `run.json` records: versions, device, time, configuration and the stages' scores."""
    return {
        "ich3d": ich3d.__version__,
        "packages": {name: installed_version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "device": str(device()),
        "threads": torch.get_num_threads(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds_of_last_call": round(seconds, 1),
        "config": as_dict(config),
        "weighted_log_loss": {stage: _weighted_log_loss(workspace, stage) for stage in STAGES},
    }


def _weighted_log_loss(workspace: Workspace, stage: str) -> float:
    """The metric of one stage's out-of-fold scores, five decimals."""
    table = read_oof(workspace, stage)
    target = table[list(LABELS)].to_numpy(float)
    return round(weighted_log_loss(probabilities(table), target), 5)
