"""The explanation of one label of one slice, over all folds and stages.

Everything is in logits, one row a part, and the parts add up to the logit that they explain. A
model has a fold model for each fold, and predicting averages their probabilities. Parts can
only be averaged as logits, so they add up to the mean of the folds' logits, which is close to
the logit of the predicted score but not equal to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from ich3d.core.arguments import require_type
from ich3d.core.errors import DataError
from ich3d.core.labels import label_index
from ich3d.explain.grad_cam import heat_maps
from ich3d.explain.integrated_gradients import context_contributions
from ich3d.inference.scoring import SeriesPrediction
from ich3d.model.fold_model import FoldModel, StageOutputs
from ich3d.model.folder import Model
from ich3d.prepare.head import TISSUE_HU
from ich3d.prepare.hu_features import shows_brain
from ich3d.stack.booster import AVERAGE, START
from ich3d.stack.features import describe_column

BASELINE: Final = "baseline"
SLICE: Final = "slice"
"""The two kinds of parts of a context model's logit."""

HEAT_FROM: Final = 0.1
"""A slice to which the encoder or the stack gives a lower probability of the label has no heat map:
the strongest spot of a faint map would look like a finding.
"""

_COLUMNS: Final = ["what", "offset_mm", "slice_index", "contribution"]


@dataclass(frozen=True)
class Explanation:
    """Why `label` has the probability `prob` in one slice.

    The tables `context` and `stacker` have the columns `what`, `offset_mm` (from the explained
    slice, positive toward superior), `slice_index` and `contribution` (in logits).

    Attributes:
        volume_id: the series.
        sop_uid: SOPInstanceUID of the slice.
        slice_index: its index, 0 for the lowest slice.
        n_slices: slices in the series.
        label: the label that is explained.
        prob: its probability by the stack stage.
        context: parts of the context model's logit: the `baseline`, its logit where every slice is
            average, and each `slice`, zero outside the model's window.
        stacker: parts of the stacker's logit before calibration, before the model's recalibration
            if it has one, and before `any` is raised to the largest subtype: the context logit
            (`start`), the trees' mean (`average`), the slice's `own` scores, a `neighbour` at each
            offset (also beyond the series' end: that it is missing is read too), the slices `near`,
            the whole `series`, the `place`, and what HU say (`hu`).
        shows_brain: False where the slice shows no brain; then every stage gives it next to
            nothing, and the parts tell what the models said before that.
        folds: the model's folds.
        kept: those whose stacker was kept for the label; the others' added nothing.
        hu: the slice, int16 (H, W).
        heat: where the encoders saw signs of the label, float32 (H, W), as a share of the strongest
            sign in the series (`explain_slices`). Zero in air, and everywhere where they saw none
            or where their probability or `prob` is below `HEAT_FROM`.
    """

    volume_id: str
    sop_uid: str
    slice_index: int
    n_slices: int
    label: str
    prob: float
    context: pd.DataFrame
    stacker: pd.DataFrame
    shows_brain: bool
    folds: tuple[int, ...]
    kept: tuple[int, ...]
    hu: np.ndarray
    heat: np.ndarray


def explain(
    model: Model, prediction: SeriesPrediction, slice_index: int, label: str
) -> Explanation:
    """Explain the score of `label` in one slice of a predicted series.

    Raises:
        DataError: there is no such slice or label, or an argument is of another type.

    Examples:
        >>> from ich3d.inference.scoring import predict
        >>> from ich3d.model.folder import load_model
        >>> model = load_model("runs/demo/model")
        >>> (prediction,) = predict(model, "study").series
        >>> explanation = explain(model, prediction, 2, "subdural")
        >>> explanation.context["what"].tolist()[:2]
        ['baseline', 'slice']
    """
    (explanation,) = explain_slices(model, prediction, [(slice_index, label)])
    return explanation


def explain_slices(
    model: Model, prediction: SeriesPrediction, slices_and_labels: Sequence[tuple[int, str]]
) -> list[Explanation]:
    """As `explain`, for several pairs of a slice and a label; the series is embedded once.

    All heat maps of a label in a series have one scale: 1 is the strongest sign in the slice that
    the encoder scores highest for the label. A stronger sign elsewhere counts as 1 too.
    """
    require_type("model", model, Model, hint="; load it with ich3d.load_model(folder)")
    require_type("prediction", prediction, SeriesPrediction)
    series = prediction.series
    n_slices = len(series.keys)
    for index, _ in slices_and_labels:
        if not isinstance(index, int | np.integer):
            raise DataError(f"slice_index must be a whole number, got {index!r}")
        if not 0 <= index < n_slices:
            raise DataError(
                f"no slice {index} in {series.volume_id}, which has slices 0 to {n_slices - 1}"
            )

    pairs = [(index, label_index(label)) for index, label in slices_and_labels]
    outputs = model.stage_outputs(series.hu, series.z_mm, series.hu_features)
    heats = series_heat(model, prediction, pairs)
    return [
        _explain_slice(model, outputs, prediction, index, label, heats[index, label_index(label)])
        for index, label in slices_and_labels
    ]


def series_heat(
    model: Model, prediction: SeriesPrediction, pairs: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], np.ndarray]:
    """By pair of a slice index and a label index its map float32 (H, W): `Explanation.heat`.

    Maps are means over folds, on one scale for each label of the series (`explain_slices`). All of
    a label are zero where the encoders see no sign in the slice that they score highest.

    Args:
        model: the model that scored the series.
        prediction: the scored series.
        pairs: the maps to make; each costs about as much as embedding ten slices.
    """
    hu, encoder_prob = prediction.series.hu, prediction.prob["encoder"]
    prob = np.minimum(encoder_prob, prediction.prob["stack"])  # (Z, K)
    likely = [pair for pair in pairs if prob[pair] >= HEAT_FROM]
    strongest = {k: (int(encoder_prob[:, k].argmax()), k) for _, k in likely}
    computed = list(dict.fromkeys([*likely, *strongest.values()]))
    maps_by_fold = [
        heat_maps(fold.encoder, hu, computed, model.config.slices.tta_flip)
        for fold in model.fold_models
    ]
    heats = {
        (index, k): np.where(hu[index] > TISSUE_HU, np.mean(maps, axis=0), 0.0)
        for (index, k), maps in zip(computed, zip(*maps_by_fold, strict=True), strict=True)
    }
    scale = {k: heats[pair].max() or np.inf for k, pair in strongest.items()}

    shown = {pair: np.zeros(hu.shape[1:], np.float32) for pair in pairs}
    for index, k in likely:
        shown[index, k] = (heats[index, k] / scale[k]).clip(max=1.0).astype(np.float32)
    return shown


def pick_slice(prediction: SeriesPrediction, name: str | None, label: str) -> int:
    """The index of the slice called `name`, a SOPInstanceUID or a slice_index.

    Without a name, the slice that the stack scores highest for `label`.

    Raises:
        DataError: no slice has that name, or several frames share it.
    """
    if name is None:
        return int(prediction.prob["stack"][:, label_index(label)].argmax())

    keys, volume_id = prediction.series.keys, prediction.series.volume_id
    indices = [index for index, key in enumerate(keys) if key.sop_uid == name]
    if len(indices) > 1:
        raise DataError(
            f"{name} has slices {indices[0]} to {indices[-1]} of {volume_id}; give one by its index"
        )
    if indices:
        return indices[0]
    if name.isdecimal() and int(name) < len(keys):
        return int(name)
    raise DataError(
        f"no slice {name} in {volume_id}; give 0 to {len(keys) - 1}, or a SOPInstanceUID of it"
    )


def _explain_slice(
    model: Model,
    outputs: list[StageOutputs],
    prediction: SeriesPrediction,
    index: int,
    label: str,
    heat: np.ndarray,
) -> Explanation:
    """One explanation, from every fold's outputs and the mean heat map (H, W)."""
    series, k = prediction.series, label_index(label)
    folds = list(zip(model.fold_models, outputs, strict=True))
    context = np.mean(
        [_context_parts(fold, output, series.z_mm, index, k) for fold, output in folds], axis=0
    )  # (1 + Z,)
    stacker = pd.concat([_stacker_parts(fold, output, index, label) for fold, output in folds])

    kept = (fold.fold for fold in model.fold_models if fold.stacker.by_label[label].is_kept)
    return Explanation(
        volume_id=series.volume_id,
        sop_uid=series.keys[index].sop_uid,
        slice_index=index,
        n_slices=len(series.z_mm),
        label=label,
        prob=float(prediction.prob["stack"][index, k]),
        context=_context_table(context, series.z_mm, index),
        stacker=_stacker_table(stacker, len(folds), index),
        shows_brain=bool(shows_brain(series.hu_features)[index]),
        folds=tuple(fold.fold for fold in model.fold_models),
        kept=tuple(kept),
        hu=series.hu[index],
        heat=heat,
    )


def _context_parts(
    fold: FoldModel, output: StageOutputs, z_mm: np.ndarray, index: int, k: int
) -> np.ndarray:
    """One fold's parts (1 + Z,); an average slice has the encoder's mean validation logits."""
    baseline_logits = fold.encoder.mean_validation_logits.cpu().numpy()
    return context_contributions(fold.context, output.embedded, z_mm, baseline_logits, index, k)


def _context_table(parts: np.ndarray, z_mm: np.ndarray, index: int) -> pd.DataFrame:
    """The table of a context model's parts (1 + Z,)."""
    n_slices = len(z_mm)
    table = pd.DataFrame(
        {
            "what": [BASELINE, *[SLICE] * n_slices],
            "offset_mm": [np.nan, *(z_mm - z_mm[index])],
            "slice_index": pd.array([None, *range(n_slices)], dtype="Int64"),
            "contribution": parts,
        }
    )
    return table[_COLUMNS]


def _stacker_parts(fold: FoldModel, output: StageOutputs, index: int, label: str) -> pd.DataFrame:
    """One fold's parts `what, offset_mm, contribution`, one row a column that its trees read."""
    row = slice(index, index + 1)
    start = output.prob["context"][row, label_index(label)]
    parts = fold.stacker.by_label[label].contributions(output.features[row], start).iloc[0]
    described = [
        (str(name), np.nan) if name in (START, AVERAGE) else describe_column(str(name))
        for name in parts.index
    ]
    table = pd.DataFrame(described, columns=["what", "offset_mm"])
    return table.assign(contribution=parts.to_numpy(float))


def _stacker_table(parts: pd.DataFrame, n_folds: int, index: int) -> pd.DataFrame:
    """All folds' parts, summed by what they read and divided by the number of folds."""
    sums = parts.groupby(["what", "offset_mm"], dropna=False)["contribution"].sum()
    table = (sums / n_folds).reset_index()
    own_index = [index if offset == 0 else None for offset in table["offset_mm"]]
    return table.assign(slice_index=pd.array(own_index, dtype="Int64"))[_COLUMNS]
