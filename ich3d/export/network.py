"""The encoder and context stages of all folds as one TorchScript network.

The networks themselves are traced, so what is exported is what training and prediction call.
What is around them (neighbours, batches of one shape, the mean over folds) is scripted, for a
series of any length.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from ich3d.config.root import Config
from ich3d.context.bigru import ContextEnsemble
from ich3d.core.errors import ModelError
from ich3d.core.labels import LABELS
from ich3d.model.fold_model import FoldModel
from ich3d.model.folder import Model
from ich3d.prepare.hu_features import MIN_BRAIN_CM2, NO_BRAIN_PROB
from ich3d.slices.dataset import GPU_BATCH
from ich3d.slices.encoder import FoldBatchEncoder

_jit: Any = torch.jit  # most of it has no types

_TRACED_SLICES: Final = 3
"""Slices of the example that is traced. Any number serves: the trace holds for all."""


def torchscript(model: Model) -> torch.jit.ScriptModule:
    """The network of all folds on the CPU, in fp32, without gradients.

    Returns:
        A module that takes HU (Z, H, W) on the model's grid, slices inferior to superior, and
        their positions `z_mm` (Z,) and areas of brain `brain_cm2` (Z,), and returns probabilities
        (Z, 2, K) of the encoder and the context stage.

    Raises:
        ModelError: the context models read windows instead of the whole series.
    """
    if not model.config.context.reads_whole_series:
        raise ModelError(
            "a model whose context reads a window of slices cannot be exported as one network"
        )
    with _quiet_jit():
        folds = [_fold_network(fold, model.config) for fold in model.fold_models]
        network: torch.jit.ScriptModule = _jit.script(
            _SeriesNetwork(folds).eval().requires_grad_(False)
        )
    return network


def save(network: torch.jit.ScriptModule, path: Path) -> None:
    """Write the network as TorchScript."""
    content = BytesIO()  # torch does not say why a file cannot be written
    with _quiet_jit():
        _jit.save(network, content)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.getbuffer())


@contextmanager
def _quiet_jit() -> Iterator[None]:
    """TorchScript without two kinds of warnings.

    One says that it is deprecated, though bundles ask for it. The other says that checks inside
    GRU and packing are not traced; they hold for every series.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)
        warnings.simplefilter("ignore", _jit.TracerWarning)
        yield


class _SeriesNetwork(nn.Module):
    """The mean of all folds' probabilities."""

    def __init__(self, folds: list["_FoldNetwork"]) -> None:
        super().__init__()
        self.folds = nn.ModuleList(folds)

    def forward(
        self, hu: torch.Tensor, z_mm: torch.Tensor, brain_cm2: torch.Tensor
    ) -> torch.Tensor:
        """HU (Z, H, W), positions (Z,) and areas (Z,) to probabilities (Z, 2, K)."""
        scores = []
        for fold in self.folds:
            scores.append(fold(hu.float(), z_mm.double(), brain_cm2))
        return torch.stack(scores).mean(dim=0)


class _FoldNetwork(nn.Module):
    """One fold's encoder over batches of one shape, on either device, then its context models."""

    def __init__(self, encoder: nn.Module, context: nn.Module, config: Config) -> None:
        super().__init__()
        self.encoder, self.context = encoder, context
        self.neighbours, self.batch_size = config.slices.neighbours, GPU_BATCH
        self.min_brain_cm2, self.no_brain_prob = MIN_BRAIN_CM2, NO_BRAIN_PROB

    def forward(
        self, hu: torch.Tensor, z_mm: torch.Tensor, brain_cm2: torch.Tensor
    ) -> torch.Tensor:
        """HU (Z, H, W), positions (Z,) and areas (Z,) to probabilities (Z, 2, K)."""
        shows_brain = (brain_cm2 >= self.min_brain_cm2)[:, None]
        no_brain_prob = torch.full_like(shows_brain, self.no_brain_prob, dtype=torch.float32)
        embeddings, logits = self.embed(hu)
        logits = torch.where(shows_brain, logits, no_brain_prob.logit())
        length = torch.tensor([hu.shape[0]])
        context = self.context(embeddings, logits, z_mm, length, brain_cm2.float()).sigmoid()
        context = torch.where(shows_brain, context, no_brain_prob)
        return torch.stack([logits.sigmoid(), context], dim=1)

    def embed(self, hu: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings (Z, D) and logits (Z, K); the last batch is filled with the last slice."""
        count, embeddings, logits = hu.shape[0], [], []
        offsets = torch.arange(-self.neighbours, self.neighbours + 1, device=hu.device)  # (S,)
        for start in range(0, count, self.batch_size):
            centre = torch.arange(start, start + self.batch_size, device=hu.device)
            wanted = centre.clamp(max=count - 1)[:, None] + offsets  # (B, S)
            inside = wanted.clamp(0, count - 1)
            batch_embeddings, batch_logits = self.encoder(hu[inside], wanted != inside)
            embeddings.append(batch_embeddings)
            logits.append(batch_logits)
        return torch.cat(embeddings)[:count], torch.cat(logits)[:count]


class _OneSeries(nn.Module):
    """Context models over one series instead of a batch: tensors (Z, ...) to logits (Z, K)."""

    def __init__(self, models: ContextEnsemble) -> None:
        super().__init__()
        self.models = models

    def forward(
        self,
        embeddings: torch.Tensor,
        logits: torch.Tensor,
        z_mm: torch.Tensor,
        length: torch.Tensor,
        brain_cm2: torch.Tensor,
    ) -> torch.Tensor:
        """Embeddings (Z, D), logits (Z, K), positions (Z,), the length (1,) and areas of brain (Z,)
        to logits (Z, K).
        """
        context_logits: torch.Tensor = self.models(
            embeddings[None], logits[None], z_mm[None], length, brain_cm2[None]
        )
        return context_logits[0]


def _fold_network(fold: FoldModel, config: Config) -> _FoldNetwork:
    """The networks of one fold, traced on a copy of them on the CPU."""
    encoder, context = _export_copy(fold.encoder), _export_copy(fold.context)
    side = config.prepare.matrix
    hu = torch.zeros(_TRACED_SLICES, encoder.num_slices, side, side)
    flags = torch.zeros(hu.shape[:2], dtype=torch.bool)
    averaged = FoldBatchEncoder([encoder], config.slices.tta_flip).eval()
    traced_encoder = _trace(averaged, hu, flags)

    embeddings = torch.zeros(_TRACED_SLICES, encoder.embedding_width)
    logits = torch.zeros(_TRACED_SLICES, len(LABELS))
    z_mm = torch.arange(_TRACED_SLICES, dtype=torch.float64)
    length = torch.tensor([_TRACED_SLICES])
    brain_cm2 = torch.full((_TRACED_SLICES,), 100.0)
    traced_context = _trace(_OneSeries(context).eval(), embeddings, logits, z_mm, length, brain_cm2)
    return _FoldNetwork(traced_encoder, traced_context, config)


def _trace(network: nn.Module, *example: torch.Tensor) -> nn.Module:
    """The network traced; torch's own check, which takes several more passes, is left out."""
    traced: nn.Module = _jit.trace(network, example, check_trace=False)
    return traced


def _export_copy(network: Any) -> Any:
    """A copy on the CPU in evaluation mode, without gradients."""
    copy = deepcopy(network).cpu().eval().requires_grad_(False)
    for module in copy.modules():
        # MONAI's EfficientNet has a memory-saving form that no trace can hold.
        if hasattr(module, "set_swish"):
            module.set_swish(memory_efficient=False)
    return copy
