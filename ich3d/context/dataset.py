"""Series of embedded slices, and batches of them padded to the longest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from ich3d.config.root import Config
from ich3d.core.arguments import as_names, require_type
from ich3d.core.errors import DataError
from ich3d.core.labels import LABELS
from ich3d.core.types import SliceEmbeddings, TrainingGroups
from ich3d.prepare.hu_features import BRAIN_CM2, silenced_logits
from ich3d.prepare.store import OPEN_STORE, Store
from ich3d.slices.embed import embed
from ich3d.slices.encoder import EncoderEnsemble, SliceEncoder


class SeriesSample(NamedTuple):
    """One series, slices inferior to superior.

    Attributes:
        embeddings: float32 or float16 (Z, D), one vector a slice.
        logits: the encoder's logits, float32 (Z, K).
        z_mm: positions along the slice normal, float64 (Z,).
        brain_cm2: area inside the skull, float32 (Z,).
        target: labels 0 or 1, float32 (Z, K); NaN where a slice has no label.
    """

    embeddings: torch.Tensor
    logits: torch.Tensor
    z_mm: torch.Tensor
    brain_cm2: torch.Tensor
    target: torch.Tensor


@dataclass(frozen=True)
class SeriesBatch:
    """B series padded to T slices.

    Attributes:
        embeddings: float32 (B, T, D), zero in the padding.
        logits: float32 (B, T, K), zero in the padding.
        z_mm: float64 (B, T), zero in the padding.
        brain_cm2: float32 (B, T), zero in the padding.
        lengths: slices of each series, int64 (B,). It stays on the CPU, where packing wants it.
        target: float32 (B, T, K), NaN in the padding and where a slice has no label.
    """

    embeddings: torch.Tensor
    logits: torch.Tensor
    z_mm: torch.Tensor
    brain_cm2: torch.Tensor
    lengths: torch.Tensor
    target: torch.Tensor

    def to(self, device: torch.device) -> "SeriesBatch":
        """The same batch on `device`."""
        z_mm = self.z_mm.float() if device.type == "mps" else self.z_mm  # Metal has no float64
        return SeriesBatch(
            embeddings=self.embeddings.to(device),
            logits=self.logits.to(device),
            z_mm=z_mm.to(device),
            brain_cm2=self.brain_cm2.to(device),
            lengths=self.lengths,
            target=self.target.to(device),
        )


class SeriesDataset(Dataset[SeriesSample]):
    """Embedded series of a prepared store, for `torch.utils.data.DataLoader`.

    Series differ in length: give the loader `collate_fn=SeriesDataset.collate`.

    Examples:
        >>> from torch.utils.data import DataLoader
        >>> store = Store("runs/demo/store")
        >>> encoder = SliceEncoder("resnet10-half", neighbours=0).eval()
        >>> series = SeriesDataset.from_encoder(store, encoder, store.volume_ids[:2])
        >>> batch = next(iter(DataLoader(series, batch_size=2, collate_fn=series.collate)))
        >>> batch.embeddings.shape[2] == encoder.embedding_width
        True
    """

    def __init__(self, store: Store, embedded: Mapping[str, SliceEmbeddings]) -> None:
        """Pair the series in `embedded`, by volume_id, with positions and labels of `store`.

        Raises:
            DataError: `store` is no `Store`, a series is not in it, or has other slices there.
        """
        require_type("store", store, Store, hint=OPEN_STORE)
        require_type("embedded", embedded, Mapping)
        as_names("embedded", list(embedded), store.volume_ids)
        self.volume_ids = list(embedded)
        self._samples = [
            series_sample(embedded[name], store.z_mm(name), store.targets(name))
            for name in self.volume_ids
        ]

    @classmethod
    def from_encoder(
        cls,
        store: Store,
        encoder: SliceEncoder | EncoderEnsemble,
        volume_ids: Sequence[str] | None = None,
    ) -> "SeriesDataset":
        """Embed the series of `store`, or those named, with `encoder` on its device.

        A context model that is trained on the embeddings of patients whom the encoder was
        trained on learns from scores that are better than they will be on new patients. To
        avoid that, embed other patients than those that the encoder saw.

        Raises:
            DataError: `store` is no `Store`, `encoder` no encoder, or a series is not in the store.
        """
        require_type("store", store, Store, hint=OPEN_STORE)
        require_type("encoder", encoder, SliceEncoder, EncoderEnsemble)
        config = Config(slices=encoder.config)
        embedded = {}
        for name in as_names("volume_ids", volume_ids, store.volume_ids):
            embeddings, logits = embed(encoder, store.hu(name), config)
            features = store.hu_features(name)
            logits = silenced_logits(logits, features)
            # The caller chose the patients, so no group is recorded and none is checked here.
            nobody = TrainingGroups.of(())
            embedded[name] = SliceEmbeddings(name, embeddings, logits, features, "encoder", nobody)
        return cls(store, embedded)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> SeriesSample:
        return self._samples[index]

    @staticmethod
    def collate(samples: Sequence[SeriesSample]) -> SeriesBatch:
        """The samples as one padded batch."""
        return collate(samples)


def series_sample(
    embedded: SliceEmbeddings, z_mm: np.ndarray, target: np.ndarray | None = None
) -> SeriesSample:
    """One embedded series at `z_mm` (Z,), with its labels (Z, K) where there are any."""
    if target is None:
        target = np.full((len(z_mm), len(LABELS)), np.nan, dtype=np.float32)
    if len(embedded) != len(z_mm):
        rows = f"{len(embedded)} rows for {len(z_mm)} slices"
        raise DataError(f"embedded has {rows} of {embedded.volume_id}")
    return SeriesSample(
        # Not copied: the embeddings of all series may fill most of the memory.
        embeddings=torch.from_numpy(embedded.embeddings),
        logits=torch.from_numpy(embedded.logits),
        z_mm=torch.tensor(z_mm, dtype=torch.float64),
        brain_cm2=torch.tensor(embedded.hu_features[:, BRAIN_CM2]),
        target=torch.tensor(target),
    )


def collate(samples: Sequence[SeriesSample]) -> SeriesBatch:
    """Some series as one batch, padded to the longest of them."""

    def padded(tensors: list[torch.Tensor], fill: float) -> torch.Tensor:
        """Tensors (Z, ...) of different Z as one (B, T, ...)."""
        return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=fill)

    return SeriesBatch(
        embeddings=padded([sample.embeddings.float() for sample in samples], 0.0),
        logits=padded([sample.logits for sample in samples], 0.0),
        z_mm=padded([sample.z_mm for sample in samples], 0.0),
        brain_cm2=padded([sample.brain_cm2 for sample in samples], 0.0),
        lengths=torch.tensor([len(sample.z_mm) for sample in samples]),
        target=padded([sample.target for sample in samples], float("nan")),
    )


def random_run(n_slices: int, share: float, rng: np.random.Generator) -> slice:
    """All slices of a series, or with a chance of `share` a random run of any length from 1."""
    if rng.random() >= share:
        return slice(0, n_slices)
    length = int(rng.integers(1, n_slices + 1))
    start = int(rng.integers(0, n_slices - length + 1))
    return slice(start, start + length)
