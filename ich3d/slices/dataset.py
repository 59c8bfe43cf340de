"""Slices with their neighbours, drawn from a store."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ich3d.prepare.store import Store


@dataclass(frozen=True)
class SliceBatch:
    """`hu` int16 (B, S, H, W), centre slice in the middle; `is_copy` (B, S) marks edge copies;
    `target` float32 (B, K), NaN where unlabelled."""

    hu: torch.Tensor
    is_copy: torch.Tensor
    target: torch.Tensor

    def to(self, device: torch.device) -> "SliceBatch":
        return SliceBatch(self.hu.to(device), self.is_copy.to(device), self.target.to(device))


def stack(hu: np.ndarray, index: int, neighbours: int) -> tuple[np.ndarray, np.ndarray]:
    """The slice at `index` of `hu` (Z, H, W) between its neighbours: (S, H, W), and which are copies (S,).

    Beyond an end the series' edge slice is repeated; an index never wraps to the other end.
    """
    wanted = np.arange(index - neighbours, index + neighbours + 1)
    inside = wanted.clip(0, len(hu) - 1)
    return hu[inside], wanted != inside


class Slices:
    """All labelled slices of some series, ready to be drawn in any order."""

    def __init__(self, store: Store, volume_ids: Sequence[str], neighbours: int) -> None:
        self._store = store
        self._neighbours = neighbours
        self._targets = {name: store.targets(name) for name in volume_ids}
        self.places = [
            (name, index)
            for name in volume_ids
            for index in np.flatnonzero(~np.isnan(self._targets[name]).all(axis=1))
        ]

    def __len__(self) -> int:
        return len(self.places)

    def targets(self) -> np.ndarray:
        """Labels float32 (N, K) of all places."""
        return np.stack([self._targets[name][index] for name, index in self.places])

    def batches(self, order: np.ndarray, size: int) -> Iterator[SliceBatch]:
        """Batches of the places in `order`; the last may be smaller."""
        for start in range(0, len(order), size):
            yield self._batch([self.places[i] for i in order[start : start + size]])

    def _batch(self, places: list[tuple[str, int]]) -> SliceBatch:
        drawn = [self._draw(name, int(index)) for name, index in places]
        return SliceBatch(
            hu=torch.from_numpy(np.stack([hu for hu, _ in drawn])),
            is_copy=torch.from_numpy(np.stack([copy for _, copy in drawn])),
            target=torch.from_numpy(
                np.stack([self._targets[name][index] for name, index in places])
            ),
        )

    def _draw(self, name: str, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Read only the slices that the stack needs: those at hand end where the series does."""
        start = max(0, index - self._neighbours)
        hu = self._store.hu(name, start, index + self._neighbours + 1)
        return stack(hu, index - start, self._neighbours)
