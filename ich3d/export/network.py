"""The encoder and context stages of all folds as one TorchScript network.

The networks themselves are traced, so what is exported is what training and prediction call; what stands
round them (neighbours, batches of one shape, geometry, the mean of the folds) is scripted for a series of
any length.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ich3d.config.root import Config
from ich3d.context.bigru import ContextEnsemble
from ich3d.context.dataset import ContextBatch
from ich3d.context.geometry import GAP_MM, GEOMETRY, POSITION_MM
from ich3d.core.errors import ModelError
from ich3d.core.labels import LABELS
from ich3d.model.fold_model import FoldModel
from ich3d.model.folder import Model

_jit: Any = torch.jit  # most of it bears no types
_TRACED_SLICES = 3  # any number serves: what is traced holds for all


def torchscript(model: Model) -> torch.jit.ScriptModule:
    """HU (Z, H, W), slices inferior to superior on the model's grid, at `z_mm` (Z,), to probabilities
    (Z, 2, K) of the encoder and context stage. On the CPU, in fp32, without gradients.

    ModelError where the context models read less than the whole series.
    """
    if not model.config.context.reads_whole_series:
        raise ModelError(
            "a model whose context reads a window of slices cannot be exported as one network"
        )
    with _quiet_jit():
        folds = [_fold(fold_model, model.config) for fold_model in model.fold_models]
        network: torch.jit.ScriptModule = _jit.script(
            _SeriesNetwork(folds).eval().requires_grad_(False)
        )
    return network


def save(network: torch.jit.ScriptModule, path: Path) -> None:
    """Write the network as TorchScript."""
    with _quiet_jit():
        _jit.save(network, str(path))


@contextmanager
def _quiet_jit() -> Iterator[None]:
    """TorchScript without two kinds of remarks: that it is deprecated, though bundles ask for it, and that
    checks inside GRU and packing are not traced, which hold for every series."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)
        warnings.simplefilter("ignore", _jit.TracerWarning)
        yield


class _SeriesNetwork(nn.Module):
    """The mean of all folds' probabilities."""

    def __init__(self, folds: list["_FoldNetwork"]) -> None:
        super().__init__()
        self.folds = nn.ModuleList(folds)
        self.gap_mm, self.position_mm = GAP_MM, POSITION_MM

    def forward(self, hu: torch.Tensor, z_mm: torch.Tensor) -> torch.Tensor:
        geometry = self.geometry(z_mm.double())
        scores = []
        for fold in self.folds:
            scores.append(fold(hu.float(), geometry))
        return torch.stack(scores).mean(dim=0)

    def geometry(self, z_mm: torch.Tensor) -> torch.Tensor:
        """`context.batch.geometry` in torch: float32 (Z, GEOMETRY) of slices at `z_mm` (Z,) float64."""
        count = z_mm.shape[0]
        gaps, end = (z_mm[1:] - z_mm[:-1]) / self.gap_mm, torch.zeros_like(z_mm[:1])
        from_top, from_bottom = (
            (z_mm[-1] - z_mm) / self.position_mm,
            (z_mm - z_mm[0]) / self.position_mm,
        )
        index = torch.arange(count, device=z_mm.device).double() / max(1, count - 1)
        columns = [torch.cat([end, gaps]), torch.cat([gaps, end]), from_top, from_bottom, index]
        return torch.stack(columns, dim=1).float()


class _FoldNetwork(nn.Module):
    """One fold's encoder over batches of one shape, as `slices.embed` runs it, then its context models."""

    def __init__(self, encoder: nn.Module, context: nn.Module, config: Config) -> None:
        super().__init__()
        self.encoder, self.context = encoder, context
        self.neighbours, self.batch_size = config.slices.neighbours, config.slices.batch_size
        self.mirror = config.slices.tta_flip

    def forward(self, hu: torch.Tensor, geometry: torch.Tensor) -> torch.Tensor:
        embeddings, logits = self.embed(hu)
        length = torch.tensor([hu.shape[0]])
        context = self.context(embeddings, logits, geometry, length)
        return torch.stack([logits.sigmoid(), context.sigmoid()], dim=1)

    def embed(self, hu: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors (Z, D) and logits (Z, K) of HU (Z, H, W); the last batch is filled with the last slice."""
        count, embeddings, logits = hu.shape[0], [], []
        around = torch.arange(-self.neighbours, self.neighbours + 1, device=hu.device)
        for start in range(0, count, self.batch_size):
            own = torch.arange(start, start + self.batch_size, device=hu.device).clamp(
                max=count - 1
            )
            wanted = own[:, None] + around
            inside = wanted.clamp(0, count - 1)
            slices, copies = hu[inside], wanted != inside
            vector, logit = self.encoder(slices, copies)
            if self.mirror:
                mirrored = self.encoder(slices.flip(-1), copies)
                vector, logit = (vector + mirrored[0]) / 2, (logit + mirrored[1]) / 2
            embeddings.append(vector)
            logits.append(logit)
        return torch.cat(embeddings)[:count], torch.cat(logits)[:count]


class _OneSeries(nn.Module):
    """Context models over one series instead of a batch: tensors (Z, ...) and their `length` (1,) to
    logits (Z, K)."""

    def __init__(self, models: ContextEnsemble) -> None:
        super().__init__()
        self.models = models

    def forward(
        self,
        embeddings: torch.Tensor,
        logits: torch.Tensor,
        geometry: torch.Tensor,
        length: torch.Tensor,
    ) -> torch.Tensor:
        batch = ContextBatch(
            embeddings=embeddings[None],
            logits=logits[None],
            geometry=geometry[None],
            order=torch.arange(embeddings.shape[0], device=embeddings.device)[None],
            lengths=length,
            target=logits[None],
        )
        scores: torch.Tensor = self.models(batch)[0]
        return scores


def _fold(fold_model: FoldModel, config: Config) -> _FoldNetwork:
    """The chain's networks, traced on a copy of them that stands on the CPU."""
    encoder, models = _for_export(fold_model.encoder), _for_export(fold_model.context)
    side = config.prepare.matrix
    hu = torch.zeros(_TRACED_SLICES, encoder.slices, side, side)
    traced_encoder = _trace(encoder, hu, torch.zeros(hu.shape[:2], dtype=torch.bool))
    rows = [
        torch.zeros(_TRACED_SLICES, width)
        for width in (encoder.embedding_width, len(LABELS), GEOMETRY)
    ]
    traced_context = _trace(_OneSeries(models).eval(), *rows, torch.tensor([_TRACED_SLICES]))
    return _FoldNetwork(traced_encoder, traced_context, config)


def _trace(network: nn.Module, *example: torch.Tensor) -> nn.Module:
    traced: nn.Module = _jit.trace(
        network, example, check_trace=False
    )  # a check takes several more passes
    return traced


def _for_export(network: Any) -> Any:
    copy = deepcopy(network).cpu().eval().requires_grad_(False)
    for part in copy.modules():
        if hasattr(
            part, "set_swish"
        ):  # MONAI's EfficientNet has a memory-saving form that no trace holds
            part.set_swish(memory_efficient=False)
    return copy
