"""Why one slice scores as it does: which slices moved one of its labels, and where the encoder looked.

All is told in logits, a row a part, and the parts add up to the logit that they explain. A model has a
chain a fold, and serving averages their probabilities. Parts can be averaged as logits only, so they add up
to the mean of the chains' logits, which is close to the logit of the served score and not the same.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from monai.visualize import GradCAM
from torch import nn

from ich3d.context.batch import ContextInput, collate, surroundings
from ich3d.context.bigru import ContextEnsemble
from ich3d.core.config import Config
from ich3d.core.errors import DataError
from ich3d.core.labels import place_of
from ich3d.pipeline.chain import Chain, Reading
from ich3d.pipeline.model import Model
from ich3d.pipeline.predict import Predicted
from ich3d.slices.dataset import stack
from ich3d.slices.encoder import EncoderEnsemble, SliceEncoder
from ich3d.stack.booster import AVERAGE, START
from ich3d.stack.features import reads

STEPS = 32  # points on the path of the integrated gradients
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


def explain(model: Model, series: Predicted, index: int, label: str) -> Explanation:
    """Why slice `index` of a scored series has its score of `label`; DataError where there is no such slice
    or label."""
    (found,) = explain_slices(model, series, [(index, label)])
    return found


def explain_slices(model: Model, series: Predicted, asked: Sequence[tuple[int, str]]) -> list[Explanation]:
    """As `explain`, of several pairs of a slice and a label: the networks read the series once for all."""
    stored, config = series.stored, model.config
    for index, label in asked:
        place_of(label)
        if not 0 <= index < len(stored.keys):
            raise DataError(
                f"no slice {index} in {stored.volume_id}, which has slices 0 to {len(stored.keys) - 1}"
            )
    readings = model.read(series.hu, np.array(stored.z_mm))
    places = [(index, place_of(label)) for index, label in asked]
    by_chain = [heat_maps(chain.encoder, series.hu, config, places) for chain in model.chains]
    heats = [np.mean(maps, axis=0) for maps in zip(*by_chain, strict=True)]
    return [_explain(model, readings, series, *one, heat) for one, heat in zip(asked, heats, strict=True)]


def _explain(
    model: Model, readings: list[Reading], series: Predicted, index: int, label: str, heat: np.ndarray
) -> Explanation:
    k, stored = place_of(label), series.stored
    z_mm = np.array(stored.z_mm)
    pairs = list(zip(model.chains, readings, strict=True))
    context = np.mean([_context(chain, reading, index, k) for chain, reading in pairs], axis=0)
    stacker = pd.concat([_stacker(chain, reading, index, label) for chain, reading in pairs])
    return Explanation(
        volume_id=stored.volume_id,
        sop_uid=stored.keys[index].sop_uid,
        slice_index=index,
        n_slices=len(z_mm),
        label=label,
        prob=float(series.prob["stack"][index, k]),
        context=_context_table(context, z_mm, index),
        stacker=_stacker_table(stacker, len(pairs), index),
        folds=tuple(chain.fold for chain in model.chains),
        kept=tuple(chain.fold for chain in model.chains if chain.stack[label].is_kept),
        hu=series.hu[index],
        heat=(heat / (heat.max() or 1.0)).astype(np.float32),
    )


def pick_slice(series: Predicted, name: str | None, label: str) -> int:
    """The index of the slice called `name`, a SOPInstanceUID or a slice_index; without a name, of the one
    that the stack scores highest for `label`. DataError where no slice is called so, or several frames are.
    """
    if name is None:
        return int(series.prob["stack"][:, place_of(label)].argmax())
    keys, volume_id = series.stored.keys, series.stored.volume_id
    found = [index for index, key in enumerate(keys) if key.sop_uid == name]
    if len(found) > 1:
        raise DataError(f"{name} has slices {found[0]} to {found[-1]} of {volume_id}; give one by its index")
    if found:
        return found[0]
    if name.isdecimal() and int(name) < len(keys):
        return int(name)
    raise DataError(f"no slice {name} in {volume_id}; give 0 to {len(keys) - 1}, or a SOPInstanceUID of it")


def context_parts(
    model: ContextEnsemble, series: ContextInput, baseline: np.ndarray, index: int, k: int
) -> np.ndarray:
    """What logit `k` of slice `index` is the sum of (1 + Z,): the logit at the baseline, then what each slice
    moved it by.

    Integrated gradients (Sundararajan et al., ICML 2017) on the straight way to the series from one of
    average slices in the same places, each with the logits `baseline` (K,) and the series' mean embedding.
    The integral is Gauss and Legendre's sum over `STEPS` points.
    """
    points, weights = np.polynomial.legendre.leggauss(STEPS)
    whole, config = (series, index), model.config
    part, place = whole if config.reads_whole_series else surroundings(series, config)[index]
    logits, vectors = part.logits - baseline, part.vectors - series.vectors.mean(axis=0)
    shares = np.concatenate([[0.0], (points + 1) / 2])  # the baseline itself, then the way from it
    way = [
        replace(part, vectors=part.vectors - (1 - share) * vectors, logits=part.logits - (1 - share) * logits)
        for share in shares
    ]
    batch = collate(way, [np.full_like(part.logits, np.nan)] * len(way))
    batch = batch.to(next(model.parameters()).device)
    inputs = batch.logits.requires_grad_(), batch.vectors.requires_grad_()
    with torch.backends.cudnn.flags(enabled=False):  # cuDNN has no gradient of a GRU outside training
        out = model(batch)[:, place, k]
        gradients = torch.autograd.grad(out.sum(), inputs, materialize_grads=True)
    by_logits, by_vectors = (np.tensordot(weights / 2, g[1:].cpu().numpy(), axes=1) for g in gradients)
    moved = (by_logits * logits).sum(axis=1) + (by_vectors * vectors).sum(axis=1)
    below = index - place  # slices that the model's window leaves out
    return np.concatenate([[out[0].item()], np.pad(moved, (below, len(series) - below - len(part)))])


def heat_maps(
    encoder: EncoderEnsemble, hu: np.ndarray, config: Config, asked: Sequence[tuple[int, int]]
) -> list[np.ndarray]:
    """Where slices of HU (Z, H, W) speak for labels, float32 (H, W) a pair of slice and label, zero or more:
    Grad-CAM (Selvaraju et al., ICCV 2017), the mean over members and, as scores are, over both mirror images.
    """
    members = [member for member in encoder.members if isinstance(member, SliceEncoder)]
    watched = [_Watched(member) for member in members]
    cams = [GradCAM(one, one.layer, postprocessing=nn.Identity()) for one in watched]
    where = next(encoder.parameters()).device
    found = []
    for index, k in asked:
        slices, copies = stack(hu, index, encoder.slices // 2)
        here, is_copy = torch.from_numpy(slices)[None].to(where), torch.from_numpy(copies)[None].to(where)
        maps = []
        for cam, member in zip(cams, members, strict=True):
            maps.append(_grad_cam(cam, member, here, is_copy, k))
            if config.slices.mirror_at_test:
                maps.append(_grad_cam(cam, member, here.flip(-1), is_copy, k).flip(-1))
        found.append(np.asarray(torch.stack(maps).mean(dim=0).cpu().numpy()))
    return found


class _Watched(nn.Module):
    """A copy of an encoder, image (B, C, H, W) to logits (B, K), in which the last feature map has a layer of
    its own, `layer`: what the global pooling reads, the one place that every backbone has."""

    def __init__(self, encoder: SliceEncoder) -> None:
        super().__init__()
        self.encoder = deepcopy(encoder)  # MONAI's hooks stay, and the served encoder is to have none
        poolings = [n for n, m in self.encoder.named_modules() if isinstance(m, nn.AdaptiveAvgPool2d)]
        parent, _, own = poolings[-1].rpartition(".")
        pooling = self.encoder.get_submodule(poolings[-1])
        setattr(self.encoder.get_submodule(parent), own, nn.Sequential(nn.Identity(), pooling))
        self.layer = f"encoder.{poolings[-1]}.0"

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.encoder.encode(image)[1]
        return logits


def _grad_cam(
    cam: GradCAM, encoder: SliceEncoder, hu: torch.Tensor, is_copy: torch.Tensor, k: int
) -> torch.Tensor:
    """MONAI's map (H, W) of one stack of slices (1, S, H, W), resized to their grid and not yet scaled."""
    image = encoder.image(encoder.with_mirror(hu), is_copy).contiguous()  # MONAI flattens maps by `view`
    heat: torch.Tensor = cam(image, class_idx=k)
    return heat[0, 0].detach()


def _context(chain: Chain, reading: Reading, index: int, k: int) -> np.ndarray:
    """`context_parts` of one chain; an average slice has the mean logits of the patients that were held back
    in the encoder's training."""
    return context_parts(chain.context, reading.series, chain.encoder.level.cpu().numpy(), index, k)


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


def _stacker(chain: Chain, reading: Reading, index: int, label: str) -> pd.DataFrame:
    """One chain's parts `what, offset_mm, contribution`, a row a column that its trees read."""
    row = slice(index, index + 1)
    start = reading.prob["context"][row, place_of(label)]
    parts = chain.stack[label].contributions(reading.features[row], start).iloc[0]
    kinds = [(str(name), np.nan) if name in (START, AVERAGE) else reads(str(name)) for name in parts.index]
    return pd.DataFrame(kinds, columns=["what", "offset_mm"]).assign(contribution=parts.to_numpy(float))


def _stacker_table(parts: pd.DataFrame, chains: int, index: int) -> pd.DataFrame:
    """The chains' parts summed by what they read, over the number of chains."""
    sums = parts.groupby(["what", "offset_mm"], dropna=False)["contribution"].sum() / chains
    table = sums.reset_index()
    own = pd.array([index if offset == 0 else None for offset in table["offset_mm"]], dtype="Int64")
    return table.assign(slice_index=own)[_COLUMNS]
