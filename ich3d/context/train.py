"""Training one fold's context model on embeddings whose encoders never saw their patients."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ich3d.context.batch import ContextBatch, ContextInput, collate, context_input
from ich3d.context.bigru import ContextModel
from ich3d.core.config import Config
from ich3d.core.console import Progress, quiet
from ich3d.core.errors import LeakageError
from ich3d.core.metrics import sigmoid
from ich3d.core.seeds import derive, stream
from ich3d.core.types import FitPatients, SliceEmbeddings
from ich3d.learn import Schedule, Task, device, fit, group_losses, masked_log_loss
from ich3d.prepare.folds import inner_split
from ich3d.prepare.store import Store


def require_held_out(group_id: str, maker: str, fit_patients: FitPatients) -> None:
    """The maker of a later stage's input must not have been fitted on this patient group."""
    if group_id in fit_patients:
        raise LeakageError(f"{maker} was fitted on group {group_id}, whose slices it was to describe")


@dataclass(frozen=True)
class _Row:
    series: ContextInput
    target: np.ndarray
    group: str


def train_context(
    store: Store,
    embedded: Mapping[str, SliceEmbeddings],
    config: Config,
    fold: int,
    folder: Path,
    progress: Progress = quiet,
) -> tuple[ContextModel, FitPatients]:
    """A context model fitted on every fold but `fold`, and the patient groups behind it.

    `embedded` holds held-out embeddings by volume; LeakageError where an encoder saw its own rows.
    """
    seed, settings, groups, where = (
        derive(config.seed, "context", fold),
        config.context,
        store.groups,
        device(),
    )
    outside = [name for name, own in store.folds.items() if own != fold]
    for name in outside:
        require_held_out(groups[name], embedded[name].encoder_id, embedded[name].fit_patients)
    fitted_on, chosen_by = inner_split(
        store.bleeds(outside), settings.inner_share, stream(config.seed, "context inner", fold)
    )
    rows = {
        name: _Row(context_input(embedded[name], store.z_mm(name)), store.targets(name), groups[name])
        for name in outside
    }
    training = [rows[name] for name in outside if groups[name] in fitted_on]
    inner = [rows[name] for name in outside if groups[name] in chosen_by]
    torch.manual_seed(derive(seed, "init"))
    model = ContextModel(settings, training[0].series.vectors.shape[1]).to(where)

    def batches(epoch: int) -> Iterator[ContextBatch]:
        order = stream(seed, "order", epoch).permutation(len(training))
        for start in range(0, len(order), settings.series_per_batch):
            yield _collate([training[i] for i in order[start : start + settings.series_per_batch]])

    def loss(model: torch.nn.Module, batch: ContextBatch) -> torch.Tensor:
        moved = batch.to(where)
        return masked_log_loss(model(moved).flatten(0, 1), moved.target.flatten(0, 1))

    inner_batch = _collate(inner).to(where)
    inner_groups = np.repeat([row.group for row in inner], inner_batch.target.shape[1])

    @torch.no_grad()
    def inner_losses(model: torch.nn.Module) -> np.ndarray:
        return group_losses(model(inner_batch).flatten(0, 1), inner_batch.target.flatten(0, 1), inner_groups)

    task = Task(model, batches, loss, inner_losses, seed)
    steps = -(-len(training) // settings.series_per_batch)
    # The model starts as the encoder, so that the best epoch is safe to choose: an early one costs nothing.
    schedule = Schedule(
        settings.epochs, steps, settings.lr, settings.weight_decay, settings.patience, tolerance=0.0
    )
    fit(task, schedule, folder, f"context {fold}", progress)
    return model, FitPatients.of(groups[name] for name in outside)


def _collate(rows: list[_Row]) -> ContextBatch:
    return collate([row.series for row in rows], [row.target for row in rows])


@torch.no_grad()
def score_context(model: ContextModel, series: ContextInput) -> np.ndarray:
    """Probabilities float32 (Z, K) of one series."""
    empty = np.full((len(series), series.logits.shape[1]), np.nan, dtype=np.float32)
    batch = collate([series], [empty]).to(model.correct.weight.device)
    return sigmoid(model(batch)[0].cpu().numpy()).astype(np.float32)
