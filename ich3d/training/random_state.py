"""The state of torch's random streams, as a training keeps it within an epoch."""

from collections.abc import Mapping

import torch


def of_this_process() -> dict[str, torch.Tensor]:
    """The state of the streams that training draws from: the CPU's, and the accelerator's."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def restore(states: Mapping[str, torch.Tensor]) -> None:
    """Continue from what `of_this_process` gave; a device that is not here is left out."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
