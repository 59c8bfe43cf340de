"""Networks compute in bfloat16 only where it is asked for and native to the device."""

import pytest
import torch

from ich3d.training import device as module
from ich3d.training.device import autocast, device


@pytest.mark.parametrize("is_native", [True, False])
@pytest.mark.parametrize("precision", ["auto", "fp32"])
def test_only_auto_on_a_device_with_bfloat16_computes_in_it(
    precision: str, is_native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "bf16_is_native", lambda where: is_native)
    layer = torch.nn.Linear(2, 2)
    with autocast(torch.device("cpu"), precision):
        output = layer(torch.zeros(1, 2))
    use_bf16 = is_native and precision == "auto"
    assert output.dtype == (torch.bfloat16 if use_bf16 else torch.float32)


def test_the_device_can_hold_a_tensor() -> None:
    where = device()
    assert torch.zeros(1, device=where).device.type == where.type
