"""Series of embeddings as what the GRU reads: a row a slice, padded to the longest of a batch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ich3d.core.config import ContextConfig
from ich3d.core.types import SliceEmbeddings

GEOMETRY = 5
GAP_MM = 5.0  # the common step of head CT; gaps and positions are given in units of about one
POSITION_MM = 100.0
FROM_BOTTOM = 3  # the column of `geometry` that says how far a slice lies above the lowest
SLACK_MM = 0.1  # headers round positions: a neighbour may lie this much farther off than its step


@dataclass(frozen=True)
class ContextInput:
    """One series: `vectors` (Z, D), `logits` (Z, K), `geometry` (Z, GEOMETRY), all
    float32; `order` (Z,) says which slice is read at each place, the slice itself but in a control."""

    vectors: np.ndarray
    logits: np.ndarray
    geometry: np.ndarray
    order: np.ndarray

    def __len__(self) -> int:
        return len(self.vectors)


@dataclass(frozen=True)
class ContextBatch:
    """Padded to (B, T, ...); `lengths` (B,) on the CPU as packing wants them; beyond them `target` is NaN
    and `order` (B, T) each place's own."""

    vectors: torch.Tensor
    logits: torch.Tensor
    geometry: torch.Tensor
    order: torch.Tensor
    lengths: torch.Tensor
    target: torch.Tensor

    def to(self, device: torch.device) -> "ContextBatch":
        return ContextBatch(
            self.vectors.to(device), self.logits.to(device), self.geometry.to(device), self.order.to(device),
            self.lengths, self.target.to(device),
        )  # fmt: skip


def geometry(z_mm: np.ndarray) -> np.ndarray:
    """Where each slice lies (Z, GEOMETRY): gap to the slice below and above in units of 5 mm (zero at
    the ends), distance from the top slice and from the bottom one in units of 100 mm, relative index."""
    count = len(z_mm)
    gaps = np.diff(z_mm) / GAP_MM
    below, above = np.concatenate([[0.0], gaps]), np.concatenate([gaps, [0.0]])
    from_top, from_bottom = (z_mm[-1] - z_mm) / POSITION_MM, (z_mm - z_mm[0]) / POSITION_MM
    index = np.arange(count) / max(1, count - 1)
    return np.stack([below, above, from_top, from_bottom, index], axis=1).astype(np.float32)


def context_input(embedded: SliceEmbeddings, z_mm: np.ndarray) -> ContextInput:
    """What the GRU reads of one series whose slices lie at `z_mm` (Z,)."""
    return ContextInput(embedded.vectors, embedded.logits, geometry(z_mm), np.arange(len(z_mm)))


def shuffled(series: ContextInput, rng: np.random.Generator) -> ContextInput:
    """The series with its slices read in random order, while position and gaps stay in place."""
    return replace(series, order=rng.permutation(len(series)))


def scattered(series: ContextInput, rng: np.random.Generator) -> tuple[ContextInput, np.ndarray]:
    """A series whose slices have changed places, as if they had been scanned so: their differences are to the
    new neighbours. With it the slice (Z,) that lies at each place."""
    order = rng.permutation(len(series))
    return replace(series, vectors=series.vectors[order], logits=series.logits[order]), order


def surroundings(series: ContextInput, config: ContextConfig) -> list[tuple[ContextInput, int]]:
    """For each slice a series of its own, as far as the config's window reaches on each side, and its place
    in that."""
    at, reach = np.arange(len(series), dtype=float), float(config.window or 0)
    if config.window_mm is not None:
        at, reach = series.geometry[:, FROM_BOTTOM] * POSITION_MM, config.window_mm + SLACK_MM
    parts = []
    for index, own in enumerate(at):
        start, stop = np.searchsorted(at, own - reach), np.searchsorted(at, own + reach, "right")
        vectors, logits, where = (a[start:stop] for a in (series.vectors, series.logits, series.geometry))
        parts.append((ContextInput(vectors, logits, where, np.arange(stop - start)), int(index - start)))
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
        vectors=padded([s.vectors for s in series], 0.0),
        logits=padded([s.logits for s in series], 0.0),
        geometry=padded([s.geometry for s in series], 0.0),
        order=torch.from_numpy(order),
        lengths=torch.tensor([len(s) for s in series]),
        target=padded(targets, np.nan),
    )
