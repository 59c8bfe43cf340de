"""The encoders of all folds as predictions run them: on the fastest path that this machine has.

An image is made once for all folds, and with its mirror image once through each network. Batches have one
fixed shape, the last one filled up, so that no slice's score depends on what else is scored.
"""

import sys
import warnings
from collections.abc import Iterator, Sequence
from copy import deepcopy
from functools import cached_property
from types import ModuleType
from typing import Any, Final, Protocol, cast

import numpy as np
import torch
from torch import nn
from torch.fx import GraphModule, Node, symbolic_trace
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ich3d.config.root import Config
from ich3d.slices.embed import batches
from ich3d.slices.encoder import EncoderEnsemble
from ich3d.training.device import autocast, bf16_is_native

CPU_BATCH: Final = 2
GPU_BATCH: Final = 16
OPENVINO_BATCH: Final = 1
"""Slices that are scored at once: on a CPU few, so that maps stay in its caches and little is filled up.
OpenVINO keeps every core busy with several requests beside."""

Batches = Iterator[tuple[np.ndarray, np.ndarray]]
Outputs = list[np.ndarray]


class _Path(Protocol):
    """A way to run the networks: batches of `slices.embed.batches` to their outputs, in order."""

    batch: int

    def run(self, drawn: Batches) -> list[Outputs]: ...


class FoldEncoders:
    """The encoders of one model's folds. What they are run with is made when the first series is embedded."""

    def __init__(self, encoders: Sequence[EncoderEnsemble], config: Config) -> None:
        self._network = FoldBatchEncoder(encoders, config.slices.tta_flip).eval()
        self._config = config
        self._where = next(encoders[0].parameters()).device
        self._neighbours = encoders[0].slices // 2

    @cached_property
    def path(self) -> str:
        """What the networks run in: `openvino` or `torch`, then `bf16` or `fp32`."""
        if self._config.precision == "fp32":
            return "torch fp32"
        openvino = _openvino() if self._where.type == "cpu" else None
        if openvino is None:
            return f"torch {'bf16' if bf16_is_native(self._where) else 'fp32'}"
        has_bf16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return f"openvino {'bf16' if has_bf16 else 'fp32'}"

    def embed(self, hu: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Each fold's vectors float32 (Z, D) and logits float32 (Z, K) of one series, HU int16 (Z, H, W)."""
        parts = self._runner.run(batches(hu, self._neighbours, self._runner.batch))
        joined = [np.concatenate(part)[: len(hu)] for part in zip(*parts, strict=True)]
        return list(zip(joined[0::2], joined[1::2], strict=True))

    @cached_property
    def _runner(self) -> _Path:
        library, precision = self.path.split()
        if library == "openvino":
            side = self._config.prepare.matrix
            return _OpenVino(
                self._network.folded(), (2 * self._neighbours + 1, side, side), precision
            )
        network = (
            _with_bf16_weights(self._network.folded()) if precision == "bf16" else self._network
        )
        return _Torch(network, self._where, self._config.precision)


class FoldBatchEncoder(nn.Module):
    """Encoders over the same slices: HU (B, S, H, W) and which are copies (B, S) to the vectors (B, D) and
    logits (B, K) of each in turn, where `mirror` says so their means over both mirror images."""

    def __init__(self, encoders: Sequence[EncoderEnsemble], mirror: bool) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)
        self.mirror = mirror

    def forward(self, hu: torch.Tensor, is_copy: torch.Tensor) -> tuple[torch.Tensor, ...]:
        encoders: Any = self.encoders
        views = (
            (torch.cat([hu, hu.flip(-1)]), torch.cat([is_copy, is_copy]))
            if self.mirror
            else (hu, is_copy)
        )
        image = encoders[0].image(*views)
        outputs = [output for encoder in encoders for output in encoder.encode(image)]
        if self.mirror:
            outputs = [(output[: len(hu)] + output[len(hu) :]) / 2 for output in outputs]
        return tuple(outputs)

    def folded(self) -> "FoldBatchEncoder":
        """A copy with its normalisations folded into convolutions: it says the same, and has less to do."""
        copy = deepcopy(self)
        encoders: Any = copy.encoders
        for member in (member for encoder in encoders for member in encoder.members):
            member.backbone = _folded(member.backbone)
        return copy


def _with_bf16_weights(network: Any) -> nn.Module:
    """A folded `FoldBatchEncoder`, changed to hold its weights as autocast would cast them at every step."""
    for member in (member for encoder in network.encoders for member in encoder.members):
        for module in member.backbone.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.bfloat16()
    made: nn.Module = network.to(memory_format=torch.channels_last)
    return made


def _folded(network: nn.Module) -> GraphModule:
    """The network, which is in evaluation mode, with no normalisation left that follows a convolution."""
    traced = symbolic_trace(network)
    modules: dict[Any, nn.Module] = dict(traced.named_modules())
    for node in traced.graph.nodes:
        before, norm = node.args[0] if node.args else None, modules.get(node.target)
        if (
            not isinstance(before, Node)
            or not isinstance(norm, nn.BatchNorm2d)
            or len(before.users) > 1
        ):
            continue
        if isinstance(convolution := modules.get(before.target), nn.Conv2d):
            traced.set_submodule(str(before.target), fuse_conv_bn_eval(convolution, norm))
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
    traced.recompile()
    return traced


class _Torch:
    """PyTorch on any device, mixed precision as `learn.autocast` has it."""

    def __init__(self, network: nn.Module, where: torch.device, precision: str) -> None:
        self.batch = CPU_BATCH if where.type == "cpu" else GPU_BATCH
        self._network, self._where, self._precision = network, where, precision

    def run(self, drawn: Batches) -> list[Outputs]:
        with torch.inference_mode(), autocast(self._where, self._precision):
            return [self._one(*batch) for batch in drawn]

    def _one(self, slices: np.ndarray, copies: np.ndarray) -> Outputs:
        hu, is_copy = (
            torch.from_numpy(slices).to(self._where),
            torch.from_numpy(copies).to(self._where),
        )
        return [output.float().cpu().numpy() for output in self._network(hu, is_copy)]


class _OpenVino:
    """OpenVINO on the CPU: compiled for one shape, as many requests at once as it asks for."""

    batch = OPENVINO_BATCH

    def __init__(self, network: nn.Module, image: tuple[int, int, int], precision: str) -> None:
        """`image` is the shape (S, H, W) of what one slice is scored from."""
        openvino, trace = _openvino(), cast(Any, torch.jit.trace)
        slices = torch.zeros(self.batch, *image, dtype=torch.int16)
        copies = torch.zeros(slices.shape[:2], dtype=torch.bool)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # torch calls tracing deprecated; the shapes are fixed
            model = openvino.convert_model(trace(network, (slices, copies), check_trace=False))
        model.reshape(
            dict(zip(model.inputs, [list(slices.shape), list(copies.shape)], strict=True))
        )
        hints = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": _HINTS[precision]}
        self._requests = openvino.AsyncInferQueue(
            openvino.Core().compile_model(model, "CPU", hints)
        )

    def run(self, drawn: Batches) -> list[Outputs]:
        found: dict[int, Outputs] = {}

        def keep(request: Any, number: int) -> None:
            found[number] = [output.data.copy() for output in request.output_tensors]

        self._requests.set_callback(keep)
        for number, (slices, copies) in enumerate(drawn):
            self._requests.start_async({0: slices, 1: copies}, userdata=number)
        self._requests.wait_all()
        return [found[number] for number in range(len(found))]


_HINTS: Final = {"bf16": "bf16", "fp32": "f32"}


def _openvino() -> Any:
    """The package, None where it is not installed. It reports its use to its maker where it finds
    `openvino_telemetry`, so an empty module stands in for that: no word leaves a hospital's machine."""
    sys.modules.setdefault("openvino_telemetry", ModuleType("openvino_telemetry"))
    try:
        import openvino
    except ImportError:
        return None
    return openvino
