"""The device that networks run on, and the precision that it computes in."""

from contextlib import AbstractContextManager
from typing import Any

import torch

from ich3d.core.hardware import cpu_has_bf16


def device() -> torch.device:
    """The accelerator where there is one, else the CPU."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def bf16_is_native(where: torch.device) -> bool:
    """Whether `where` computes bfloat16 in hardware: a recent GPU, or a CPU with AMX or
    AVX512-BF16.
    """
    if where.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return where.type == "cpu" and cpu_has_bf16()


def autocast(where: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Mixed precision on `where`: bfloat16 for `precision` `auto` if native there, else float32."""
    use_bf16 = precision == "auto" and bf16_is_native(where)
    return torch.autocast(where.type, dtype=torch.bfloat16, enabled=use_bf16)


def is_tracing() -> bool:
    """Whether a network is being exported: a trace cannot hold checks of its arguments."""
    return torch._C._get_tracing_state() is not None
