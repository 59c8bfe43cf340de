"""What the machine offers, against what the system and torch say of it."""

import os
import subprocess
import sys

import pytest

from ich3d.core.hardware import cpu_has_bf16, memory_gb, usable_cores


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="only Linux binds processes to cores"
)
def test_only_cores_that_the_process_may_use_count() -> None:
    assert usable_cores() == len(os.sched_getaffinity(0))
    script = (
        "import os\nfrom ich3d.core.hardware import usable_cores\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\nprint(usable_cores())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout.strip() == "1"


@pytest.mark.skipif(not os.path.exists("/proc/meminfo"), reason="only Linux tells")
def test_memory_is_what_the_system_says() -> None:
    memory = memory_gb()
    assert memory is not None
    total, free = memory
    assert total == pytest.approx(
        os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, abs=0.1
    )
    assert 0 < free <= total


def test_what_the_flags_promise_torch_can_do() -> None:
    import torch

    if cpu_has_bf16():
        assert torch.ops.mkldnn._is_mkldnn_bf16_supported()
