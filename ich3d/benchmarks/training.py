"""Benchmark of a training step of the encoder: the most images a second that a device can train on.

One batch of random HU is trained on again and again, with augmentation, so that nothing waits for a
disk. From it follow the hours of a run at RSNA's size, if the images arrive as fast.
"""

from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter
from typing import Final

import torch

from ich3d.benchmarks.timing import describe_machine, markdown_table
from ich3d.config.schema import SlicesConfig
from ich3d.core.labels import LABELS
from ich3d.slices.augment import augment
from ich3d.slices.encoder import SliceEncoder
from ich3d.training.device import autocast, device
from ich3d.training.losses import masked_log_loss

RSNA_SLICES: Final = 752_803
"""Labelled slices of the RSNA 2019 training set."""

RSNA_FOLDS: Final = 5
RSNA_EPOCHS: Final = 4
"""Folds and epochs of configs/rsna.yaml: each fold trains on the slices of the others."""

PACKAGES: Final = ("ich3d", "torch", "monai")


def benchmark_training(
    encoders: Sequence[str], matrix: int, batch_size: int, seconds: float
) -> str:
    """The table as markdown: images a second, memory, and hours at RSNA's size, for each encoder.

    Args:
        encoders: names of `config.schema.ENCODERS`.
        matrix: rows and columns of an image, in pixels.
        batch_size: images a step.
        seconds: how long each encoder is measured, after a warm-up.
    """
    where = device()
    rows = []
    for name in encoders:
        settings = SlicesConfig(encoder=name, batch_size=batch_size)
        per_second = _images_a_second(_step(settings, matrix, where), batch_size, seconds, where)
        images = RSNA_SLICES * RSNA_EPOCHS * (RSNA_FOLDS - 1)
        hours = images / per_second / 3600
        rows.append([name, f"{per_second:.0f}", _peak_memory(where), f"{hours:.1f}"])

    hours_of = f"hours for {RSNA_FOLDS} RSNA folds of {RSNA_EPOCHS} epochs"
    table = markdown_table(["encoder", "images a second", "memory, GB", hours_of], rows)
    return (
        f"{table}\n\nForward, backward and optimizer with augmentation on one repeated batch of "
        f"{batch_size} stacks of three slices at {matrix} x {matrix}, in {_precision(where)} on "
        f"{_name(where)}; {describe_machine(PACKAGES)}."
    )


def _step(settings: SlicesConfig, matrix: int, where: torch.device) -> Callable[[], None]:
    """A function that trains on one batch of random HU once."""
    torch.manual_seed(0)
    encoder = SliceEncoder.from_config(settings).to(where).train()
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-4, fused=True)
    shape = (settings.batch_size, encoder.num_slices, matrix, matrix)
    hu = torch.randint(-1000, 1000, shape, dtype=torch.int16).to(where)
    is_copy = torch.zeros(shape[:2], dtype=torch.bool, device=where)
    target = torch.randint(0, 2, (settings.batch_size, len(LABELS))).float().to(where)
    draw = partial(augment, generator=torch.default_generator)

    def step() -> None:
        network_input = encoder.network_input(hu, is_copy, draw)
        with autocast(where, "auto"):
            _, logits = encoder.encode(network_input)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(masked_log_loss(logits, target))
        optimizer.step()

    return step


def _images_a_second(
    step: Callable[[], None], batch_size: int, seconds: float, where: torch.device
) -> float:
    for _ in range(3):  # warm-up
        step()
    _wait_for(where)
    if where.type == "cuda":
        torch.cuda.reset_peak_memory_stats()

    n_steps, start = 0, perf_counter()
    while perf_counter() - start < seconds:
        step()
        _wait_for(where)
        n_steps += 1
    return n_steps * batch_size / (perf_counter() - start)


def _wait_for(where: torch.device) -> None:
    if where.type != "cpu":
        torch.accelerator.synchronize()


def _peak_memory(where: torch.device) -> str:
    """Most memory of the GPU that the measured steps had allocated, in GB; nothing elsewhere."""
    return f"{torch.cuda.max_memory_allocated() / 1e9:.1f}" if where.type == "cuda" else ""


def _precision(where: torch.device) -> str:
    with autocast(where, "auto"):
        return "bfloat16" if torch.is_autocast_enabled(where.type) else "float32"


def _name(where: torch.device) -> str:
    return torch.cuda.get_device_name() if where.type == "cuda" else where.type.upper()
