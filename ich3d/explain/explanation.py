"""Why one slice scores as it does: which slices moved one of its labels, and where the encoder looked.

All is told in logits, a row a part, and the parts add up to the logit that they explain. A model has a
chain a fold, and serving averages their probabilities. Parts can be averaged as logits only, so they add up
to the mean of the chains' logits, which is close to the logit of the served score and not the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ich3d.core.errors import DataError
from ich3d.core.labels import label_index
from ich3d.explain.grad_cam import heat_maps
from ich3d.explain.integrated_gradients import context_parts
from ich3d.inference.scoring import SeriesPrediction
from ich3d.model.fold_model import FoldModel, StageOutputs
from ich3d.model.folder import Model
from ich3d.stack.booster import AVERAGE, START
from ich3d.stack.features import reads

BASELINE, SLICE = "baseline", "slice"
_COLUMNS = ["what", "offset_mm", "slice_index", "contribution"]


@dataclass(frozen=True)
class Explanation:
    """Why `label` scores `prob`, the stack's probability, in slice `slice_index` of a series.

    `context` and `stacker` are tables `what, offset_mm, slice_index, contribution`: logits, and offsets from
    the slice in mm, positive toward superior. The context model's parts are the `baseline`, its logit where
    every slice looks average, and each `slice`, zero beyond its window. The stacker's are the context logit
    that it takes as its `start`, the trees' mean answer (`average`), the slice's `own` scores, a `neighbour`
    at each offset (also one beyond the series' end: that it is missing is read too), the slices `near`, the
    whole `series` and the `place`; they add up to its logit before calibration, and before `any` is lifted
    to the largest subtype. `kept` are those of `folds` whose stacker was kept; the others' added nothing.

    `hu` int16 (H, W) is the slice. `heat` float32 (H, W) is where the encoders saw signs of the label, as a
    share of the strongest one: it says where, not how much, and is zero all over where they saw none.
    """

    volume_id: str
    sop_uid: str
    slice_index: int
    n_slices: int
    label: str
    prob: float
    context: pd.DataFrame
    stacker: pd.DataFrame
    folds: tuple[int, ...]
    kept: tuple[int, ...]
    hu: np.ndarray
    heat: np.ndarray


def explain(model: Model, series: SeriesPrediction, index: int, label: str) -> Explanation:
    """Why slice `index` of a scored series has its score of `label`; DataError where there is no such slice
    or label."""
    (found,) = explain_slices(model, series, [(index, label)])
    return found


def explain_slices(
    model: Model, series: SeriesPrediction, asked: Sequence[tuple[int, str]]
) -> list[Explanation]:
    """As `explain`, of several pairs of a slice and a label: the networks read the series once for all."""
    stored, config = series.stored, model.config
    for index, label in asked:
        label_index(label)
        if not 0 <= index < len(stored.keys):
            raise DataError(
                f"no slice {index} in {stored.volume_id}, which has slices 0 to {len(stored.keys) - 1}"
            )
    readings = model.read(series.hu, np.array(stored.z_mm))
    places = [(index, label_index(label)) for index, label in asked]
    by_chain = [
        heat_maps(fold_model.encoder, series.hu, config, places) for fold_model in model.fold_models
    ]
    heats = [np.mean(maps, axis=0) for maps in zip(*by_chain, strict=True)]
    return [
        _explain(model, readings, series, *one, heat)
        for one, heat in zip(asked, heats, strict=True)
    ]


def _explain(
    model: Model,
    readings: list[StageOutputs],
    series: SeriesPrediction,
    index: int,
    label: str,
    heat: np.ndarray,
) -> Explanation:
    k, stored = label_index(label), series.stored
    z_mm = np.array(stored.z_mm)
    pairs = list(zip(model.fold_models, readings, strict=True))
    context = np.mean(
        [_context(fold_model, reading, index, k) for fold_model, reading in pairs], axis=0
    )
    stacker = pd.concat(
        [_stacker(fold_model, reading, index, label) for fold_model, reading in pairs]
    )
    return Explanation(
        volume_id=stored.volume_id,
        sop_uid=stored.keys[index].sop_uid,
        slice_index=index,
        n_slices=len(z_mm),
        label=label,
        prob=float(series.prob["stack"][index, k]),
        context=_context_table(context, z_mm, index),
        stacker=_stacker_table(stacker, len(pairs), index),
        folds=tuple(fold_model.fold for fold_model in model.fold_models),
        kept=tuple(
            fold_model.fold for fold_model in model.fold_models if fold_model.stack[label].is_kept
        ),
        hu=series.hu[index],
        heat=(heat / (heat.max() or 1.0)).astype(np.float32),
    )


def pick_slice(series: SeriesPrediction, name: str | None, label: str) -> int:
    """The index of the slice called `name`, a SOPInstanceUID or a slice_index; without a name, of the one
    that the stack scores highest for `label`. DataError where no slice is called so, or several frames are.
    """
    if name is None:
        return int(series.prob["stack"][:, label_index(label)].argmax())
    keys, volume_id = series.stored.keys, series.stored.volume_id
    found = [index for index, key in enumerate(keys) if key.sop_uid == name]
    if len(found) > 1:
        raise DataError(
            f"{name} has slices {found[0]} to {found[-1]} of {volume_id}; give one by its index"
        )
    if found:
        return found[0]
    if name.isdecimal() and int(name) < len(keys):
        return int(name)
    raise DataError(
        f"no slice {name} in {volume_id}; give 0 to {len(keys) - 1}, or a SOPInstanceUID of it"
    )


def _context(fold_model: FoldModel, reading: StageOutputs, index: int, k: int) -> np.ndarray:
    """`context_parts` of one chain; an average slice has the mean logits of the patients that were held back
    in the encoder's training."""
    return context_parts(
        fold_model.context,
        reading.series,
        fold_model.encoder.mean_validation_logits.cpu().numpy(),
        index,
        k,
    )


def _context_table(parts: np.ndarray, z_mm: np.ndarray, index: int) -> pd.DataFrame:
    count = len(z_mm)
    table = pd.DataFrame(
        {
            "what": [BASELINE, *[SLICE] * count],
            "offset_mm": [np.nan, *(z_mm - z_mm[index])],
            "slice_index": pd.array([None, *range(count)], dtype="Int64"),
            "contribution": parts,
        }
    )
    return table[_COLUMNS]


def _stacker(fold_model: FoldModel, reading: StageOutputs, index: int, label: str) -> pd.DataFrame:
    """One chain's parts `what, offset_mm, contribution`, a row a column that its trees read."""
    row = slice(index, index + 1)
    start = reading.prob["context"][row, label_index(label)]
    parts = fold_model.stack[label].contributions(reading.features[row], start).iloc[0]
    kinds = [
        (str(name), np.nan) if name in (START, AVERAGE) else reads(str(name))
        for name in parts.index
    ]
    return pd.DataFrame(kinds, columns=["what", "offset_mm"]).assign(
        contribution=parts.to_numpy(float)
    )


def _stacker_table(parts: pd.DataFrame, fold_models: int, index: int) -> pd.DataFrame:
    """The chains' parts summed by what they read, over the number of chains."""
    sums = parts.groupby(["what", "offset_mm"], dropna=False)["contribution"].sum() / fold_models
    table = sums.reset_index()
    own = pd.array([index if offset == 0 else None for offset in table["offset_mm"]], dtype="Int64")
    return table.assign(slice_index=own)[_COLUMNS]
