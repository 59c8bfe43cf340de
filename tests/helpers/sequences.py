"""Made-up label sequences, for tests of simulated scores."""

from pathlib import Path

import numpy as np
import pandas as pd

from ich3d.core.labels import ANY, LABELS, SUBTYPES


def made_up_sequences(n_series: int = 60, n_slices: int = 24, seed: int = 0) -> pd.DataFrame:
    """A table of label sequences: half of the series have one or two runs of bleeding slices.

    Two series in ten are of one patient.
    """
    rng = np.random.default_rng(seed)
    tables = []
    for number in range(n_series):
        labels = np.zeros((n_slices, len(LABELS)), dtype=int)
        for _ in range(int(rng.integers(1, 3)) if number % 2 else 0):
            start, length = int(rng.integers(n_slices - 4)), int(rng.integers(3, 9))
            labels[start : start + length, int(rng.integers(len(SUBTYPES)))] = 1
        labels[:, LABELS.index(ANY)] = labels[:, : len(SUBTYPES)].max(axis=1)
        table = pd.DataFrame(labels, columns=list(LABELS))
        table.insert(0, "z_mm", 5.0 * np.arange(n_slices))
        table.insert(0, "patient", number - number % 10 if number % 10 < 2 else number)
        table.insert(0, "series", number)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def write_sequences(folder: Path, table: pd.DataFrame) -> Path:
    """The table as `series.csv.gz` in `folder`, which is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / "series.csv.gz", index=False)
    return folder
