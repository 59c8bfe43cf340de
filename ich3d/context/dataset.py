"""Series of embeddings as what the GRU reads: a row a slice, padded to the longest of a batch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ich3d.config.schema import ContextConfig
from ich3d.context.geometry import FROM_BOTTOM, POSITION_MM, SLACK_MM, geometry
from ich3d.core.types import SliceEmbeddings


@dataclass(frozen=True)
class ContextInput:
    """One series: `embeddings` (Z, D), `logits` (Z, K), `geometry` (Z, GEOMETRY), all
    float32; `order` (Z,) says which slice is read at each place, the slice itself but in a control."""

    embeddings: np.ndarray
    logits: np.ndarray
    geometry: np.ndarray
    order: np.ndarray

    def __len__(self) -> int:
        return len(self.embeddings)


@dataclass(frozen=True)
class ContextBatch:
    """Padded to (B, T, ...); `lengths` (B,) on the CPU as packing wants them; beyond them `target` is NaN
    and `order` (B, T) each place's own."""

    embeddings: torch.Tensor
    logits: torch.Tensor
    geometry: torch.Tensor
    order: torch.Tensor
    lengths: torch.Tensor
    target: torch.Tensor

    def to(self, device: torch.device) -> "ContextBatch":
        return ContextBatch(
            self.embeddings.to(device), self.logits.to(device), self.geometry.to(device), self.order.to(device),
            self.lengths, self.target.to(device),
        )  # fmt: skip


def context_input(embedded: SliceEmbeddings, z_mm: np.ndarray) -> ContextInput:
    """What the GRU reads of one series whose slices lie at `z_mm` (Z,)."""
    return ContextInput(embedded.embeddings, embedded.logits, geometry(z_mm), np.arange(len(z_mm)))


def shuffled(series: ContextInput, rng: np.random.Generator) -> ContextInput:
    """The series with its slices read in random order, while position and gaps stay in place."""
    return replace(series, order=rng.permutation(len(series)))


def permute_slices(
    series: ContextInput, rng: np.random.Generator
) -> tuple[ContextInput, np.ndarray]:
    """A series whose slices have changed places, as if they had been scanned so: their differences are to the
    new neighbours. With it the slice (Z,) that lies at each place."""
    order = rng.permutation(len(series))
    return replace(series, embeddings=series.embeddings[order], logits=series.logits[order]), order


def window_series(series: ContextInput, config: ContextConfig) -> list[tuple[ContextInput, int]]:
    """For each slice a series of its own, as far as the config's window reaches on each side, and its place
    in that."""
    at, reach = np.arange(len(series), dtype=float), float(config.window or 0)
    if config.window_mm is not None:
        at, reach = series.geometry[:, FROM_BOTTOM] * POSITION_MM, config.window_mm + SLACK_MM
    parts = []
    for index, own in enumerate(at):
        start, stop = np.searchsorted(at, own - reach), np.searchsorted(at, own + reach, "right")
        embeddings, logits, where = (
            a[start:stop] for a in (series.embeddings, series.logits, series.geometry)
        )
        parts.append(
            (ContextInput(embeddings, logits, where, np.arange(stop - start)), int(index - start))
        )
    return parts


def collate(series: Sequence[ContextInput], targets: Sequence[np.ndarray]) -> ContextBatch:
    """Some series as one padded batch; `targets` are (Z, K) each."""
    longest = max(map(len, series))

    def padded(arrays: Sequence[np.ndarray], fill: float) -> torch.Tensor:
        out = np.full((len(arrays), longest, arrays[0].shape[1]), fill, dtype=np.float32)
        for row, array in zip(out, arrays, strict=True):
            row[: len(array)] = array
        return torch.from_numpy(out)

    order = np.tile(np.arange(longest), (len(series), 1))
    for row, one in zip(order, series, strict=True):
        row[: len(one)] = one.order
    return ContextBatch(
        embeddings=padded([s.embeddings for s in series], 0.0),
        logits=padded([s.logits for s in series], 0.0),
        geometry=padded([s.geometry for s in series], 0.0),
        order=torch.from_numpy(order),
        lengths=torch.tensor([len(s) for s in series]),
        target=padded(targets, np.nan),
    )
