"""What happens while a network trains, a row of JSON at a time."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch

from ich3d.core.workspace import replacing

STEPS_PER_ROW: Final = 50


class MetricsLog:
    """`metrics.jsonl` in the folder of a network.

    Rows of steps have `step`, `loss` (the mean since the row before), `lr` and
    `steps_per_second`; rows of epochs have `step`, `epoch`, `loss`, `validation_loss` and
    `is_kept`. Where `tensorboard` is installed (`pip install 'ich3d[tensorboard]'`) the same
    numbers are written as its event files.
    """

    def __init__(self, folder: Path, position: int) -> None:
        """The log in `folder`, which goes on after step `position`: later rows are dropped."""
        self._path = folder / "metrics.jsonl"
        self._row_start, self._row_time = position, time.monotonic()
        self._board = _tensorboard(folder, position)
        rows = self._path.read_text().splitlines() if self._path.exists() else []
        with replacing(self._path) as partial:
            kept = [row for row in rows if _step(row) <= position]
            partial.write_text("".join(f"{row}\n" for row in kept))

    def step(self, step: int, losses: Sequence[torch.Tensor], lr: float) -> None:
        """Note a step, its learning rate, and the losses of the epoch so far; each
        `STEPS_PER_ROW` steps are a row.
        """
        if step % STEPS_PER_ROW:
            return
        seconds, n_steps = time.monotonic() - self._row_time, step - self._row_start
        recent = [loss.cpu() for loss in losses[-n_steps:]]
        self._write(
            {
                "step": step,
                "loss": round(float(torch.stack(recent).mean()), 6),
                "lr": lr,
                "steps_per_second": round(n_steps / max(seconds, 1e-9), 3),
            }
        )
        self._row_start, self._row_time = step, time.monotonic()

    def epoch(self, step: int, losses: Mapping[str, float], is_kept: bool) -> None:
        """Note the end of an epoch at `step`; `losses` is its row of `history.json`."""
        self._write(
            {
                "step": step,
                "epoch": int(losses["epoch"]),
                "loss": round(losses["loss"], 6),
                "validation_loss": round(losses["inner_loss"], 6),
                "is_kept": is_kept,
            }
        )
        self._row_start, self._row_time = step, time.monotonic()

    def close(self) -> None:
        """Close what TensorBoard reads; the log itself is closed after each row."""
        if self._board is not None:
            self._board.close()

    def _write(self, row: Mapping[str, Any]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        if self._board is not None:
            kind = "epoch" if "epoch" in row else "step"
            for name in ("loss", "validation_loss", "lr", "steps_per_second"):
                if name in row:
                    self._board.add_scalar(f"{kind}/{name}", row[name], row["step"])
            self._board.flush()


def _step(row: str) -> float:
    """The step of a row; a row that was cut off by a kill counts as a later one."""
    try:
        return float(json.loads(row)["step"])
    except ValueError:
        return float("inf")


def _tensorboard(folder: Path, position: int) -> Any:
    """A writer of TensorBoard's event files, or None where it is not installed."""
    from importlib.util import find_spec

    if find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"), purge_step=position + 1)
