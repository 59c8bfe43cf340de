"""Slices with their neighbours, as encoders read them: of a store, or of one series in memory."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ich3d.config.validation import require_whole
from ich3d.core.arguments import as_names, require_type
from ich3d.core.hardware import usable_cores
from ich3d.prepare.store import OPEN_STORE, Store

MAX_READERS: Final = 16
"""Processes that read slices ahead for a GPU; each holds two batches in shared memory."""

CPU_BATCH: Final = 2
"""Slices that a CPU scores at once: few, so that feature maps stay in its caches."""

GPU_BATCH: Final = 16
"""Slices that a GPU scores at once: few, so that a series' last batch is filled up with few."""


class SliceSample(NamedTuple):
    """One slice between its neighbours, or a batch of B of them.

    Attributes:
        hu: Hounsfield units, int16 (S, H, W) or (B, S, H, W), the centre slice in the middle.
        is_copy: which slices only repeat the first or last slice of the series, bool (S,) or
            (B, S).
        target: labels 0 or 1, float32 (K,) or (B, K); NaN where there is no label.
    """

    hu: torch.Tensor
    is_copy: torch.Tensor
    target: torch.Tensor

    def to(self, device: torch.device) -> "SliceSample":
        """The same sample on `device`; pinned memory is copied while the device computes."""
        return SliceSample(*(tensor.to(device, non_blocking=True) for tensor in self))


class SliceDataset(Dataset[SliceSample]):
    """All labelled slices of some series of a store, for `torch.utils.data.DataLoader`.

    Examples:
        >>> from torch.utils.data import DataLoader
        >>> slices = SliceDataset(Store("runs/demo/store"), neighbours=1)
        >>> batch = next(iter(DataLoader(slices, batch_size=4, shuffle=True)))
        >>> batch.hu.shape[:2], batch.target.shape
        (torch.Size([4, 3]), torch.Size([4, 6]))
    """

    def __init__(
        self, store: Store, volume_ids: Sequence[str] | None = None, neighbours: int = 1
    ) -> None:
        """The labelled slices of `volume_ids`, or of the whole store.

        Args:
            store: a prepared store.
            volume_ids: the series to read; None reads all.
            neighbours: slices on each side of each slice.

        Raises:
            DataError: `store` is no `Store`, or a series is not in it.
            ConfigError: `neighbours` is no number from 0 on.
        """
        require_type("store", store, Store, hint=OPEN_STORE)
        require_whole("neighbours", neighbours, lowest=0)
        self._store = store
        self._neighbours = neighbours
        names = as_names("volume_ids", volume_ids, store.volume_ids)
        self._targets = {name: store.targets(name) for name in names}
        self.slice_indices = [
            (name, int(index))
            for name in names
            for index in np.flatnonzero(~np.isnan(self._targets[name]).all(axis=1))
        ]
        """Series and index in it of each labelled slice."""

    def __len__(self) -> int:
        return len(self.slice_indices)

    def __getitem__(self, index: int) -> SliceSample:
        name, slice_index = self.slice_indices[index]

        # Only the slices that the stack needs are read: they end where the series does.
        start = max(0, slice_index - self._neighbours)
        hu = self._store.hu(name, start, slice_index + self._neighbours + 1)
        stack, is_copy = neighbour_stack(hu, slice_index - start, self._neighbours)
        return SliceSample(
            hu=torch.from_numpy(stack),
            is_copy=torch.from_numpy(is_copy),
            target=torch.tensor(self._targets[name][slice_index]),
        )

    def targets(self) -> np.ndarray:
        """Labels of all slices, float32 (N, K)."""
        return np.stack([self._targets[name][index] for name, index in self.slice_indices])

    def batches(self, chosen: Sequence[np.ndarray], where: torch.device) -> Iterator[SliceSample]:
        """Batches (B, S, H, W) of slices, read for the device `where` but not moved to it.

        For a GPU, processes read ahead. A CPU computes far longer on a slice than it reads it.

        Args:
            chosen: the slices of each batch (B,), indices into the dataset.
            where: the device.
        """
        yield from DataLoader(
            self,
            batch_sampler=[batch.tolist() for batch in chosen],
            num_workers=_readers(where),
            pin_memory=where.type != "cpu",
            generator=torch.Generator(),  # otherwise it draws from the stream of the training
        )


class _Series(Dataset[np.ndarray]):
    """The HU int16 (Z, H, W) of whole series."""

    def __init__(self, store: Store, volume_ids: Sequence[str]) -> None:
        self._store, self._volume_ids = store, volume_ids

    def __len__(self) -> int:
        return len(self._volume_ids)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._store.hu(self._volume_ids[index])


def series_hu(store: Store, volume_ids: Sequence[str], where: torch.device) -> Iterator[np.ndarray]:
    """HU int16 (Z, H, W) of each series, read ahead for a GPU."""
    series = _Series(store, volume_ids)
    for hu in DataLoader(series, batch_size=None, num_workers=_readers(where)):
        yield hu.numpy()  # a DataLoader makes tensors


def _readers(where: torch.device) -> int:
    """Processes that read ahead for the device."""
    return 0 if where.type == "cpu" else min(MAX_READERS, usable_cores())


def in_batches(order: np.ndarray, size: int) -> list[np.ndarray]:
    """`order` (N,) in batches of `size`; the last one may have fewer."""
    return [order[start : start + size] for start in range(0, len(order), size)]


def neighbour_stack(hu: np.ndarray, index: int, neighbours: int) -> tuple[np.ndarray, np.ndarray]:
    """The slice at `index` of `hu` (Z, H, W) between its neighbours.

    Beyond an end the series' edge slice is repeated; an index never wraps to the other end.

    Returns:
        HU (S, H, W) of S = 2 * neighbours + 1 slices, and which of them are such copies, bool (S,).
    """
    wanted = np.arange(index - neighbours, index + neighbours + 1)
    inside = wanted.clip(0, len(hu) - 1)
    return hu[inside], wanted != inside


def scoring_batch(where: torch.device) -> int:
    """How many slices a network scores at once on `where`; no score depends on it."""
    return CPU_BATCH if where.type == "cpu" else GPU_BATCH


def fixed_batches(
    hu: np.ndarray, neighbours: int, size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every slice of HU (Z, H, W) between its neighbours, in batches of one fixed shape.

    The last batch is filled up with the last slice, so that the scores of a slice do not depend on
    how many slices are scored beside it. Who joins the batches cuts this filling off.

    Yields:
        HU (size, S, H, W), and which slices are edge copies, bool (size, S).
    """
    offsets = np.arange(-neighbours, neighbours + 1)  # (S,)
    for start in range(0, len(hu), size):
        centres = np.arange(start, start + size).clip(max=len(hu) - 1)  # (B,)
        wanted = centres[:, None] + offsets  # (B, S)
        inside = wanted.clip(0, len(hu) - 1)
        yield hu[inside], wanted != inside
