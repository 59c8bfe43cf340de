"""Benchmark of training an encoder: how fast a device trains, and whether slices arrive as fast.

One batch of random HU is trained on again and again, with augmentation, so that nothing waits for a
disk. From it follow the hours of a run at RSNA's size. A second table compares the rate on slices
from a prepared store of phantoms with that on one of their batches, again and again.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Final

import numpy as np
import torch

from ich3d.benchmarks.timing import describe_machine, markdown_table
from ich3d.config.root import Config
from ich3d.config.schema import PhantomConfig, PrepareConfig, SlicesConfig, SourceConfig
from ich3d.core.hardware import usable_cores
from ich3d.core.labels import LABELS
from ich3d.phantom import write_phantoms
from ich3d.prepare.build import prepare
from ich3d.prepare.spread import Spread
from ich3d.slices.augment import augment
from ich3d.slices.dataset import in_batches
from ich3d.slices.encoder import SliceEncoder
from ich3d.slices.train import Share, encoder_task
from ich3d.training.device import autocast, device
from ich3d.training.loop import backward
from ich3d.training.losses import masked_log_loss

RSNA_SLICES: Final = 752_803
"""Labelled slices of the RSNA 2019 training set."""

RSNA_FOLDS: Final = 5
RSNA_EPOCHS: Final = 4
"""Folds and epochs of configs/rsna.yaml: each fold trains on the slices of the others."""

PACKAGES: Final = ("ich3d", "torch", "monai")


FED: Final = (("resnet18-half", 128), ("efficientnet-lite0", 192))
"""Encoders, and the rows and columns of the stored slices that they are fed."""

STUDIES: Final = 24
"""Phantoms in the store; where a GPU trains, more are needed to outlast what is read ahead."""

STORED_MM: Final = 230.4
"""Side of a stored slice."""


def benchmark_training(
    encoders: Sequence[str],
    matrix: int,
    batch_size: int,
    seconds: float,
    fed: Sequence[tuple[str, int]] = FED,
    studies: int = STUDIES,
    rounds: int = 3,
) -> Iterator[str]:
    """Two tables as markdown: images a second, memory, and hours at RSNA's size, for each encoder;
    and the rate on a store's slices over that on one repeated batch. Each is given when it is made.

    Args:
        encoders: names of `config.schema.ENCODERS`.
        matrix: rows and columns of an image, in pixels.
        batch_size: images a step.
        seconds: how long each encoder is measured, after a warm-up.
        fed: encoders of the second table, and the rows and columns of their slices.
        studies: phantoms in the store.
        rounds: measurements of the second table, of which the median counts.
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
    yield (
        markdown_table(["encoder", "images a second", "memory, GB", hours_of], rows)
        + "\n\nForward, backward and optimizer with augmentation on one repeated batch of "
        f"{batch_size} stacks of three slices at {matrix} x {matrix}, in {_precision(where)} on "
        f"{_name(where)}; {describe_machine(PACKAGES)}.\n"
    )

    columns = ["encoder", "matrix", "one batch, images a second", "warm files", "cold files"]
    with TemporaryDirectory() as name:
        phantoms = Path(name) / "phantoms"
        drawn = PhantomConfig(studies=studies, matrix=256)
        list(write_phantoms(drawn, 0, phantoms, usable_cores()))
        fed_rows = [
            _fed_row(phantoms, encoder, side, batch_size, seconds, rounds, where)
            for encoder, side in fed
        ]
    yield (
        markdown_table(columns, fed_rows)
        + f"\n\nThe rates on slices of a store of {studies} series over that on one batch of "
        f"{batch_size}, again and again: median of {rounds} rounds."
    )


def _fed_row(
    phantoms: Path,
    name: str,
    matrix: int,
    batch_size: int,
    seconds: float,
    rounds: int,
    where: torch.device,
) -> list[str]:
    """The rate on one batch, and the shares of it that a store's slices reach."""
    with TemporaryDirectory() as folder:
        config = Config(
            workspace=folder,
            source=SourceConfig("folder", str(phantoms), labels=str(phantoms / "labels.csv")),
            prepare=PrepareConfig(matrix=matrix, pixel_mm=STORED_MM / matrix),
            slices=SlicesConfig(encoder=name, batch_size=batch_size),
        )
        store = prepare(config, spread=Spread(usable_cores())).store
        slices, _, task = encoder_task(store, config, fold=0)
        task.model.train()
        optimizer = torch.optim.AdamW(task.model.parameters(), lr=1e-4, fused=True)
        order = np.random.default_rng(0).permutation(len(slices))

        def rate(batches: Iterable[Share]) -> float:
            """Images a second, after the first batch."""
            n_images, start = 0, 0.0
            for batch in batches:
                backward(task, batch)
                optimizer.step()
                _wait_for(where)
                if start:
                    n_images += batch.whole
                else:
                    start = perf_counter()
            return n_images / (perf_counter() - start)

        def fed(n_steps: int) -> Iterator[Share]:
            indices = np.resize(order, n_steps * batch_size)
            for sample in slices.batches(in_batches(indices, batch_size), where):
                yield Share(sample, batch_size, slice(None))

        (batch,) = fed(1)
        batch = batch._replace(slices=batch.slices.to(where))
        rate([batch] * 4)  # warm-up
        n_steps = max(2, round(seconds * rate([batch] * 4) / batch_size))

        single, warm, cold = [], [], []
        for _ in range(rounds):
            single.append(rate([batch] * n_steps))
            warm.append(rate(fed(n_steps)) / single[-1])
            _forget_files(store.folder)
            cold.append(rate(fed(min(n_steps, len(order) // batch_size))) / single[-1])
    return [
        name, f"{matrix}", f"{median(single):.0f}", f"{median(warm):.2f}", f"{median(cold):.2f}",
    ]  # fmt: skip


def _forget_files(folder: Path) -> None:
    """Ask the system to drop the files of a folder from its memory, so that they are read anew."""
    for path in folder.glob("*.b2nd"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


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
