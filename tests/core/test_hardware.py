"""Cores, memory and CPU features, compared with what the system and torch report."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ich3d.core import hardware
from ich3d.core.hardware import cpu_has_bf16, memory_gb, usable_cores


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="only Linux binds processes to cores"
)
def test_only_cores_that_the_process_may_use_are_counted() -> None:
    assert usable_cores() == len(os.sched_getaffinity(0))
    script = (
        "import os\nfrom ich3d.core.hardware import usable_cores\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\nprint(usable_cores())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout.strip() == "1"


@pytest.mark.skipif(not os.path.exists("/proc/meminfo"), reason="needs /proc")
def test_memory_is_what_the_system_reports() -> None:
    memory = memory_gb()
    assert memory is not None
    total, free = memory
    assert total == pytest.approx(
        os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, abs=0.1
    )
    assert 0 < free <= total


@pytest.mark.parametrize(
    ("cpuinfo", "has_bf16"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx512_bf16 ssse3\n", True),
        ("processor\t: 0\nflags\t\t: fpu amx_bf16\n", True),
        ("processor\t: 0\nFeatures\t: fp asimd bf16\n", True),
        ("processor\t: 0\nflags\t\t: fpu avx512f avx2\n", False),
        (None, False),
    ],
)
def test_bf16_is_read_from_the_flags_of_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpuinfo: str | None, has_bf16: bool
) -> None:
    """Flags of Intel, AMD and Arm CPUs; the last case has no /proc/cpuinfo."""
    path = tmp_path / "cpuinfo"
    if cpuinfo is not None:
        path.write_text(cpuinfo)
    monkeypatch.setattr(hardware, "Path", lambda name: path)
    assert cpu_has_bf16() is has_bf16


def test_torch_supports_bf16_where_the_flags_promise_it() -> None:
    import torch

    assert torch.ops.mkldnn._is_mkldnn_bf16_supported() or not cpu_has_bf16()
