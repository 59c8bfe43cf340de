"""A hospital's scored and labelled cases: as `ich3d predict` writes them, or as plain numbers."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ich3d.config.root import Config
from ich3d.config.schema import ContextConfig, PrepareConfig, SlicesConfig, StackConfig
from ich3d.context.bigru import ContextEnsemble
from ich3d.core.labels import ANY, LABELS, STAGES
from ich3d.core.metrics import logit, sigmoid
from ich3d.core.types import TrainingGroups
from ich3d.core.workspace import write_csv, write_json
from ich3d.inference.journal import ScoredSeries
from ich3d.inference.tables import slice_table
from ich3d.model.fold_model import FoldModel
from ich3d.model.folder import Model, load_model, write_model
from ich3d.slices.encoder import EncoderEnsemble, SliceEncoder
from ich3d.stack.booster import Stacker, coherent

N_SLICES = 12
FINGERPRINT = {
    "counts": {},
    "ranges": {},
    "transfer_syntaxes": {},
    "prevalence": dict.fromkeys(LABELS),
}


@dataclass(frozen=True)
class Hospital:
    """A model, its folder, and what it wrote for the phantoms of a hospital.

    `labels` say that the upper half of each head bleeds (`epidural` and `any`), which a model can
    learn from embeddings, and one with random weights does not know.
    """

    model: Model
    model_folder: Path
    out: Path
    labels: pd.DataFrame


def frozen_config() -> Config:
    """A small frozen network, and training that takes seconds."""
    return Config(
        precision="fp32",
        prepare=PrepareConfig(matrix=48, pixel_mm=4.8, folds=3),
        slices=SlicesConfig(
            encoder="resnet10-half", neighbours=0, weights="none.safetensors", frozen=True
        ),
        context=ContextConfig(hidden_size=8, epochs=3, ensemble_size=1),
        stack=StackConfig(num_trees=5),
    )


def write_frozen_model(folder: Path, training_groups: Iterable[str] = ("p1",)) -> Model:
    """A model of three folds with random weights, whose folds share a frozen network."""
    config = frozen_config()
    torch.manual_seed(0)
    network = SliceEncoder.from_config(config.slices)
    network.backbone.half().float()
    fold_models = []
    for fold in range(config.prepare.folds):
        encoder = EncoderEnsemble.from_config(config.slices, network).eval()
        context = ContextEnsemble.from_config(config.context, encoder.embedding_width).eval()
        groups = TrainingGroups.of(training_groups)
        fold_models.append(FoldModel(fold, encoder, context, Stacker.empty(), groups))
    write_model(folder, config, FINGERPRINT, fold_models)
    return load_model(folder)


Drawn = tuple[np.ndarray, np.ndarray]
"""Labels and probabilities (patients, Z, K)."""


def random_cases(n_patients: int, scale: float = 1.0, shift: float = 0.0, seed: int = 0) -> Drawn:
    """Patients of `N_SLICES` slices with labels that are drawn from their probabilities.

    The scores of a model are these probabilities, with logits of `scale` and `shift` in addition.
    """
    rng = np.random.default_rng(seed)
    of_patient = rng.normal(-1.0, 1.0, (n_patients, 1, len(LABELS)))
    logits = of_patient + rng.normal(0.0, 1.0, (n_patients, N_SLICES, len(LABELS)))
    true_prob = sigmoid(logits)
    true_prob[..., LABELS.index(ANY)] = 1 - np.prod(1 - true_prob[..., :-1], axis=-1)
    target = (rng.random(true_prob.shape) < true_prob).astype(float)
    target[..., LABELS.index(ANY)] = target[..., :-1].max(axis=-1)
    return target, coherent(sigmoid(scale * logit(true_prob) + shift))


def scored_series(patient_id: str, prob: np.ndarray) -> ScoredSeries:
    """A series of one patient with these final probabilities (Z, K)."""
    n_slices = len(prob)
    return ScoredSeries(
        study_uid=f"{patient_id}.study",
        series_uid=f"{patient_id}.series",
        volume_id=f"{patient_id}.series",
        patient_id=patient_id,
        sop_uids=tuple(f"{patient_id}.{index}" for index in range(n_slices)),
        frames=(None,) * n_slices,
        z_mm=5.0 * np.arange(n_slices),
        codes=(),
        out_of_range=(),
        brain_cm2=np.full(n_slices, 100.0),
        prob=dict.fromkeys(STAGES, prob),
        agreement=np.full(n_slices, np.nan),
    )


def write_predictions(folder: Path, model: Model, series: Iterable[ScoredSeries]) -> Path:
    """What recalibration reads of the output folder of a prediction by `model`."""
    write_csv(folder / "slices.csv", slice_table(series))
    folds = [fold.fold for fold in model.fold_models]
    write_json(folder / "run.json", {"model_sha256": model.sha256, "folds": folds})
    return folder


def labels_of(series: Iterable[ScoredSeries], target: np.ndarray) -> pd.DataFrame:
    """The label table of some series, from their labels (series, Z, K)."""
    sop_uids = [sop_uid for one_series in series for sop_uid in one_series.sop_uids]
    rows = target.reshape(-1, len(LABELS))
    return pd.DataFrame(rows, index=pd.Index(sop_uids, name="sop_uid"), columns=list(LABELS))


def write_hospital(
    folder: Path, model: Model, drawn: Drawn, prefix: str = "p9"
) -> tuple[Path, pd.DataFrame]:
    """The predictions and labels of the patients that `random_cases` drew."""
    target, prob = drawn
    series = [scored_series(f"{prefix}{index:02d}", rows) for index, rows in enumerate(prob)]
    return write_predictions(folder, model, series), labels_of(series, target)


def with_frames(series: ScoredSeries) -> ScoredSeries:
    """The same series as one multi-frame file."""
    n_slices = len(series)
    frames = tuple(range(1, n_slices + 1))
    return replace(series, sop_uids=(series.sop_uids[0],) * n_slices, frames=frames)
