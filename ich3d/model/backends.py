"""The encoders of all folds as predictions run them, in the fastest way that the machine has.

The input of a slice is made once for all folds and members, and goes through each network once
together with its mirror image. Batches have one fixed shape, the last one filled with copies,
so that no slice's score depends on what else is scored.
"""

import sys
import warnings
from collections.abc import Iterator, Sequence
from copy import deepcopy
from functools import cache, cached_property
from types import ModuleType
from typing import Any, Final, Protocol, cast

import numpy as np
import torch
from torch import nn
from torch.fx import GraphModule, Node, symbolic_trace
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ich3d.config.root import Config
from ich3d.slices.dataset import fixed_batches, scoring_batch
from ich3d.slices.encoder import EncoderEnsemble, FoldBatchEncoder
from ich3d.training.device import autocast, bf16_is_native

OPENVINO_BATCH: Final = 1
"""OpenVINO keeps every core busy by several requests at a time instead."""

_PRECISION_HINTS: Final = {"bf16": "bf16", "fp32": "f32"}
"""OpenVINO's words for a precision."""

Batches = Iterator[tuple[np.ndarray, np.ndarray]]
"""HU (B, S, H, W) and edge-copy flags (B, S), as `slices.dataset.fixed_batches` yields them."""

Outputs = list[np.ndarray]
"""Embeddings (B, D) and logits (B, K) of each fold in turn, for one batch."""


class FoldEncoders:
    """The encoders of one model's folds, made ready when the first series is embedded."""

    def __init__(self, encoders: Sequence[EncoderEnsemble], config: Config) -> None:
        """Take `encoders`, one a fold; `config` gives the precision, the grid and
        `slices.tta_flip`.
        """
        self._network = FoldBatchEncoder(encoders, config.slices.tta_flip).eval()
        self._config = config
        self._device = next(encoders[0].parameters()).device
        self._neighbours = encoders[0].neighbours

    @cached_property
    def runtime(self) -> str:
        """What the networks run in: `openvino` or `torch`, then `bf16` or `fp32`."""
        if self._config.precision == "fp32":
            return "torch fp32"

        if self._device.type != "cpu" or _import_openvino() is None:
            return f"torch {'bf16' if bf16_is_native(self._device) else 'fp32'}"
        has_bf16 = "BF16" in _openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return f"openvino {'bf16' if has_bf16 else 'fp32'}"

    def embed(self, hu: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Each fold's embeddings float32 (Z, D) and logits float32 (Z, K) of one series.

        `hu` is int16 (Z, H, W) on the model's grid, slices inferior to superior.
        """
        batches = fixed_batches(hu, self._neighbours, self._backend.batch_size)
        by_output = zip(*self._backend.run(batches), strict=True)
        outputs = [np.concatenate(batch_outputs)[: len(hu)] for batch_outputs in by_output]

        # Each fold has two outputs, one after the other.
        embeddings, logits = outputs[0::2], outputs[1::2]
        return list(zip(embeddings, logits, strict=True))

    @cached_property
    def _backend(self) -> "_Backend":
        library, precision = self.runtime.split()
        if library == "openvino":
            side = self._config.prepare.matrix
            stack_shape = (2 * self._neighbours + 1, side, side)
            return _OpenVinoBackend(_folded_copy(self._network), stack_shape, precision)

        network: nn.Module = self._network
        if precision == "bf16":
            network = _with_bf16_weights(_folded_copy(self._network))
        return _TorchBackend(network, self._device, self._config.precision)


class _Backend(Protocol):
    """A way to run a `FoldBatchEncoder` over batches of `batch_size` slices."""

    batch_size: int

    def run(self, batches: Batches) -> list[Outputs]:
        """The outputs of each batch, in order."""
        ...


class _TorchBackend:
    """PyTorch on any device, in the precision that `training.device.autocast` chooses."""

    def __init__(self, network: nn.Module, device: torch.device, precision: str) -> None:
        self.batch_size = scoring_batch(device)
        self._network, self._device, self._precision = network, device, precision

    def run(self, batches: Batches) -> list[Outputs]:
        with torch.inference_mode(), autocast(self._device, self._precision):
            return [self._run_batch(stacks, is_copy) for stacks, is_copy in batches]

    def _run_batch(self, stacks: np.ndarray, is_copy: np.ndarray) -> Outputs:
        hu = torch.from_numpy(stacks).to(self._device)
        flags = torch.from_numpy(is_copy).to(self._device)
        return [output.float().cpu().numpy() for output in self._network(hu, flags)]


class _OpenVinoBackend:
    """OpenVINO on the CPU: compiled for one shape, with as many requests at once as it asks for."""

    batch_size = OPENVINO_BATCH

    def __init__(
        self, network: nn.Module, stack_shape: tuple[int, int, int], precision: str
    ) -> None:
        """Compile `network` for slices whose stack has the shape (S, H, W)."""
        openvino, trace = _import_openvino(), cast(Any, torch.jit.trace)
        hu = torch.zeros(self.batch_size, *stack_shape, dtype=torch.int16)
        flags = torch.zeros(hu.shape[:2], dtype=torch.bool)
        network.requires_grad_(False)

        def outputs(hu: torch.Tensor, flags: torch.Tensor) -> tuple[torch.Tensor, ...]:
            """A function is traced faster than a module: weights are constants of its graph."""
            traced: tuple[torch.Tensor, ...] = network(hu, flags)
            return traced

        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # torch calls tracing deprecated; the shapes are fixed
            model = openvino.convert_model(trace(outputs, (hu, flags), check_trace=False))

        shapes = [list(hu.shape), list(flags.shape)]
        model.reshape(dict(zip(model.inputs, shapes, strict=True)))
        hints = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "INFERENCE_PRECISION_HINT": _PRECISION_HINTS[precision],
        }
        compiled = _openvino_core().compile_model(model, "CPU", hints)
        self._requests = openvino.AsyncInferQueue(compiled)

    def run(self, batches: Batches) -> list[Outputs]:
        outputs: dict[int, Outputs] = {}

        def keep(request: Any, number: int) -> None:
            """Copy a finished request's outputs; requests may finish in any order."""
            outputs[number] = [tensor.data.copy() for tensor in request.output_tensors]

        self._requests.set_callback(keep)
        for number, (stacks, is_copy) in enumerate(batches):
            self._requests.start_async({0: stacks, 1: is_copy}, userdata=number)
        self._requests.wait_all()
        return [outputs[number] for number in range(len(outputs))]


def _folded_copy(network: FoldBatchEncoder) -> FoldBatchEncoder:
    """A copy whose normalisations are folded into convolutions: equal results with less work."""
    copy = deepcopy(network)
    folded: dict[int, nn.Module] = {}  # by the identity of a network: folds may share one
    for member in _members(copy):
        backbone = member.backbone
        if id(backbone) not in folded:
            folded[id(backbone)] = _fold_normalisations(backbone)
        member.backbone = folded[id(backbone)]
    return copy


def _with_bf16_weights(network: FoldBatchEncoder) -> nn.Module:
    """`network` with its weights kept in bfloat16, where autocast would cast them at every step."""
    for member in _members(network):
        for module in member.backbone.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.bfloat16()
    channels_last: nn.Module = cast(Any, network).to(memory_format=torch.channels_last)
    return channels_last


def _members(network: FoldBatchEncoder) -> list[Any]:
    """Every single encoder of all folds."""
    return [member for encoder in cast(Any, network).encoders for member in encoder.members]


def _fold_normalisations(network: nn.Module) -> GraphModule:
    """`network` in evaluation mode, without batch normalisations that follow a convolution."""
    graph_module = symbolic_trace(network)
    modules: dict[Any, nn.Module] = dict(graph_module.named_modules())
    for node in graph_module.graph.nodes:
        before, normalisation = node.args[0] if node.args else None, modules.get(node.target)
        if not isinstance(before, Node) or not isinstance(normalisation, nn.BatchNorm2d):
            continue

        # A convolution that others read too must keep its own output.
        convolution = modules.get(before.target)
        if not isinstance(convolution, nn.Conv2d) or len(before.users) > 1:
            continue
        fused = fuse_conv_bn_eval(convolution, normalisation)
        graph_module.set_submodule(str(before.target), fused)
        node.replace_all_uses_with(before)
        graph_module.graph.erase_node(node)
    graph_module.recompile()
    return graph_module


def _import_openvino() -> Any:
    """The package `openvino`, or None where it is not installed.

    It reports its use to its vendor if it finds `openvino_telemetry`. An empty module takes
    that name, so that nothing leaves a hospital's machine.
    """
    sys.modules.setdefault("openvino_telemetry", ModuleType("openvino_telemetry"))
    try:
        import openvino
    except ImportError:
        return None
    return openvino


@cache
def _openvino_core() -> Any:
    """OpenVINO's `Core`: one for this process, kept to its end.

    Each core loads a CPU plugin, which gives its thread another stack for signal handlers and puts
    the former back when it ends. A core that ends in another thread, or before a younger one,
    leaves its thread a stack that is no longer there: the next signal kills the process, and no
    handler can tell.
    """
    return _import_openvino().Core()
