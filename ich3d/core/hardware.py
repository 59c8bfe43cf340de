"""CPU cores, CPU features and memory of this computer, read without importing torch."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

BF16_FLAGS: Final = frozenset({"amx_bf16", "avx512_bf16", "bf16"})
"""Flags in /proc/cpuinfo that mean native bfloat16 arithmetic: Intel, AMD and Intel, Arm."""


def usable_cores() -> int:
    """Number of CPU cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_has_bf16() -> bool:
    """Whether the CPU computes in bfloat16 natively. Always False where /proc/cpuinfo is absent."""
    fields = _proc_fields(Path("/proc/cpuinfo"))
    flags = f"{fields.get('flags', '')} {fields.get('Features', '')}".split()  # x86, Arm
    return not BF16_FLAGS.isdisjoint(flags)


def memory_gb() -> tuple[float, float] | None:
    """Total and available memory in GB (10^9 bytes); None where /proc/meminfo is absent."""
    fields = _proc_fields(Path("/proc/meminfo"))
    if "MemAvailable" not in fields:
        return None
    return _kib_to_gb(fields["MemTotal"]), _kib_to_gb(fields["MemAvailable"])


def _kib_to_gb(text: str) -> float:
    """`"16384 kB"`, in which the kernel's kB are 1024 bytes, as GB with one decimal."""
    return round(1024 * int(text.split()[0]) / 1e9, 1)


def _proc_fields(path: Path) -> Mapping[str, str]:
    """The `name: value` lines of a file in /proc; empty where the file is absent."""
    if not path.is_file():
        return {}
    lines = (line.partition(":") for line in path.read_text().splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}
