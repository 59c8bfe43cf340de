"""What this machine offers, read without a network library."""

import os
from collections.abc import Mapping
from pathlib import Path

BF16_FLAGS = frozenset({"amx_bf16", "avx512_bf16", "bf16"})  # Intel and AMD; the last is Arm's


def usable_cores() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware. Only Linux tells; elsewhere the answer is no."""
    flags = _fields(Path("/proc/cpuinfo"))
    return not BF16_FLAGS.isdisjoint(
        f"{flags.get('flags', '')} {flags.get('Features', '')}".split()
    )


def memory_gb() -> tuple[float, float] | None:
    """Memory in GB (10^9 bytes), all and free for a new process; None where the system has no /proc."""
    fields = _fields(Path("/proc/meminfo"))
    if "MemAvailable" not in fields:
        return None
    total, free = (
        1024 * int(fields[name].split()[0]) / 1e9 for name in ("MemTotal", "MemAvailable")
    )
    return round(total, 1), round(free, 1)


def _fields(path: Path) -> Mapping[str, str]:
    """`name: value` lines of a file of /proc; nothing where there is none."""
    if not path.is_file():
        return {}
    lines = (line.partition(":") for line in path.read_text().splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}
