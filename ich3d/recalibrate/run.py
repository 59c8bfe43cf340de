"""`ich3d recalibrate`: adapt a model to a hospital, and write the new model where it is better."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from ich3d.context.train import require_held_out
from ich3d.core.errors import DataError, ModelError
from ich3d.core.labels import LABELS
from ich3d.core.outputs import refusal
from ich3d.core.path_kinds import PathKind, kind_of
from ich3d.core.progress import Progress, quiet
from ich3d.core.text import pluralize
from ich3d.crossfit.retrain import MemoryStore, retrain
from ich3d.inference.embeddings import EmbeddedSeries, embeddings_file, read_embeddings
from ich3d.model.folder import Model, load_model, write_model
from ich3d.model.manifest import read_manifest
from ich3d.prepare.folds import link
from ich3d.prepare.store import preprocessing_sha256, slice_rows
from ich3d.recalibrate.cases import STUDY, Cases, read_cases, with_folds
from ich3d.recalibrate.fit import NOT_KEPT, fit_recalibration
from ich3d.recalibrate.gains import WEIGHTED, claim_of, label_gain, markdown, weighted_gain
from ich3d.stack.booster import where_it_helps

OLD: Final = "the model as it was"
"""The old scores in a sentence."""

MAX_LISTED: Final = 5
"""Most pseudonyms that a message lists."""


@dataclass(frozen=True)
class Recalibrated:
    """What `recalibrate` found.

    Attributes:
        table: the gains, in Markdown.
        claim: what the gain over all labels shows, as one sentence (`evaluation.claims`).
        notes: sentences on who took part.
        is_written: whether the new model is better, and so was written.
    """

    table: str
    claim: str
    notes: tuple[str, ...]
    is_written: bool


def recalibrate(
    model_folder: Path,
    predictions: Path,
    labels: pd.DataFrame,
    out: Path,
    is_retrained: bool = False,
    progress: Progress = quiet,
    overwrite: bool = False,
) -> Recalibrated:
    """Adapt a model to labelled cases that it has scored and was not trained on.

    Without `is_retrained` each label's final logits get a scale and a shift. With it, context
    models and stackers are trained anew on the cases' embeddings. Either is judged on patients that
    it was not fitted on, against the model's own scores; where nothing is better by more than one
    standard error over patients, nothing is written.

    Args:
        model_folder: the model.
        predictions: an output folder of `ich3d predict` by this model.
        labels: the table of `sources.read_labels`.
        out: the folder of the new model.
        is_retrained: train anew on `predictions/embeddings`.
        progress: shows what is being trained.
        overwrite: whether a model folder `out` is replaced, where the new model is better.

    Raises:
        ModelError: the model is recalibrated already, does not record whom it was trained on, or,
            to train anew, its folds share no frozen network.
        DataError: `out` exists, and is no model folder or `overwrite` is not set; or the
            predictions or labels cannot be used, see `read_cases`.
    """
    require_new(out, overwrite)
    model = load_model(model_folder)
    _require_recalibratable(model, model_folder, is_retrained)
    cases = read_cases(model, predictions, labels)
    for patient_id in cases.table["patient_id"].unique():
        require_held_out(patient_id, str(model_folder), model.training_groups)

    work = _retrain if is_retrained else _fit
    return work(model, cases, out, progress)


def require_new(out: Path, overwrite: bool) -> None:
    """Raise DataError where `out` exists, but for a model folder that may be replaced."""
    if not out.exists():
        return
    if kind_of(out) is not PathKind.MODEL:
        raise DataError(f"{out} exists and is no model folder: name a new folder")
    if not overwrite:
        raise refusal(out, "a model")


def _require_recalibratable(model: Model, folder: Path, is_retrained: bool) -> None:
    if model.recalibration is not None:
        raise ModelError(f"{folder} is recalibrated already; give the model that it was made from")
    if not read_manifest(folder).training_groups_known:
        raise ModelError(
            f"{folder} does not record the patients that it was trained on, so nothing proves that "
            "these are new to it"
        )
    if is_retrained and not model.config.slices.frozen:
        raise ModelError(
            f"--retrain needs a model whose folds share one frozen network, which {folder} does "
            "not have; recalibrate it without --retrain"
        )


def _notes(cases: Cases) -> tuple[str, ...]:
    """Who takes part, and who does not."""
    slices = pluralize(cases.n_labelled, "labelled slice")
    groups = f"{cases.n_groups} {'studies' if cases.groups_are == STUDY else 'patients'}"
    notes = [f"{slices} of {groups}, in {len(np.unique(cases.fold))} folds"]
    if cases.groups_are == STUDY:
        notes.append(
            "some files have no PatientID: each of their studies counts as a patient, and nothing "
            "proves that the model was not trained on it"
        )
    if cases.known_patients:
        listed = ", ".join(cases.known_patients[:MAX_LISTED])
        more = ", ..." if len(cases.known_patients) > MAX_LISTED else ""
        patients = pluralize(len(cases.known_patients), "patient")
        notes.append(f"the model was trained on {patients}, who take no part: {listed}{more}")
    return tuple(notes)


def _fit(model: Model, cases: Cases, out: Path, progress: Progress) -> Recalibrated:
    """Fit scales and shifts, and write a new model where a label gains."""
    fitted = fit_recalibration(cases, model.sha256)
    is_written = bool(fitted.recalibration.kept)
    if is_written:
        recalibration = fitted.recalibration
        write_model(
            out, model.config, model.fingerprint, model.fold_models, recalibration=recalibration
        )
    kept = {**fitted.kept, WEIGHTED: f"{len(fitted.recalibration.kept)} of {len(LABELS)} labels"}
    (overall,) = (gain for gain in fitted.gains if gain.name == WEIGHTED)
    shown = claim_of(overall, cases.n_groups, OLD, "recalibrated")
    return Recalibrated(markdown(fitted.gains, kept), shown, _notes(cases), is_written)


def _retrain(model: Model, cases: Cases, out: Path, progress: Progress) -> Recalibrated:
    """Train context models and stackers anew, and write them where they gain."""
    store, embeddings = _embedded_store(model, cases)
    retrained = retrain(model, store, embeddings, progress)

    # The same slices, scored by the model as it was and by models that never saw their patients.
    table = store.table
    before = table[[f"stack_{label}" for label in LABELS]].to_numpy(float)  # (N, K)
    volumes = table["volume_id"].unique()
    after = np.concatenate([retrained.prob[name] for name in volumes]).astype(float)
    target, group = table[list(LABELS)].to_numpy(float), table["group_id"].to_numpy(str)
    gains = [
        label_gain(label, before[:, k], after[:, k], target[:, k], group)
        for k, label in enumerate(LABELS)
    ]
    overall = weighted_gain(before, after, target, group)

    is_written = where_it_helps(overall.value, overall.se, overall.n_groups)
    if is_written:
        fingerprint = {**store.meta["fingerprint"], "retrained_from": model.sha256}
        write_model(out, retrained.config, fingerprint, retrained.fold_models)
    answer = "yes" if is_written else NOT_KEPT
    kept = {**dict.fromkeys(LABELS, ""), WEIGHTED: answer}
    shown = claim_of(overall, cases.n_groups, OLD, "retrained")
    return Recalibrated(markdown([*gains, overall], kept), shown, _notes(cases), is_written)


def _embedded_store(model: Model, cases: Cases) -> tuple[MemoryStore, dict[str, np.ndarray]]:
    """The cases as a store, and their embeddings by volume_id.

    Patients who share an identical brain slice become one group.
    """
    folder = cases.folder / "embeddings"
    if not folder.is_dir():
        raise DataError(f"{folder} is missing; run `ich3d predict` with --embeddings")
    volumes = [(str(name), rows) for name, rows in cases.table.groupby("volume_id", sort=True)]
    read = {name: _read_volume(model, folder, name, rows) for name, rows in volumes}

    table = pd.concat([rows for _, rows in volumes], ignore_index=True)
    described = pd.concat([slice_rows(read[name].series) for name, _ in volumes])
    table["z_mm"] = described["z_mm"].to_numpy()  # not rounded
    group_of = link(table["group_id"].tolist(), described["hash"].tolist())
    table["group_id"] = table["group_id"].map(group_of)
    table = with_folds(table, model.config.prepare.folds, model.config.seed)
    store = MemoryStore([embedded.series for embedded in read.values()], table)
    return store, {name: embedded.embeddings for name, embedded in read.items()}


def _read_volume(model: Model, folder: Path, volume_id: str, rows: pd.DataFrame) -> EmbeddedSeries:
    """The embeddings of one series. DataError unless `model` made them of the slices of `rows`."""
    path = embeddings_file(folder, volume_id)
    embedded = read_embeddings(path)
    if embedded.model_sha256 != model.sha256:
        raise DataError(f"{path} was made by another model; run `ich3d predict` again")
    if embedded.series.preprocessing_sha256 != preprocessing_sha256(model.config.prepare):
        raise DataError(f"{path} was prepared in another way; run `ich3d predict` again")
    sop_uids = [key.sop_uid for key in embedded.series.keys]
    if embedded.series.volume_id != volume_id or sop_uids != rows["sop_uid"].tolist():
        raise DataError(f"{path} holds other slices than slices.csv; run `ich3d predict` again")
    return embedded
