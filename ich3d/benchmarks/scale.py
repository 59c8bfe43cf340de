"""Benchmark of the late stages at RSNA's size: time and memory of each step.

Each step runs in a process of its own. Labels and positions are real label sequences, repeated
under new names until there are as many series as asked for; without such sequences they are made
up. Embeddings are random numbers in half precision on disk. Repeats serve time and memory alone: no
score is shown.
"""

import multiprocessing
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Final

import numpy as np
import pandas as pd
import torch
from torch import nn

from ich3d.ablation.simulation.sequences import SequenceStore, read_sequences
from ich3d.benchmarks.timing import describe_machine, markdown_table, peak_kib
from ich3d.config.root import Config
from ich3d.config.schema import ContextConfig, PrepareConfig, SourceConfig, StackConfig
from ich3d.context.align import fit_alignment
from ich3d.context.dataset import collate, series_sample
from ich3d.context.train import train_context
from ich3d.core.ground_truth import GroundTruth
from ich3d.core.labels import ANY, LABELS
from ich3d.core.seeds import stream
from ich3d.core.types import SliceEmbeddings, SliceScores, TrainingGroups
from ich3d.crossfit.stack_rows import ScoredPart, build_stack_rows, stack_features
from ich3d.evaluation.table import compare
from ich3d.prepare.folds import assign_folds
from ich3d.prepare.hu_features import HU_FEATURES
from ich3d.stack.booster import fit_stacker
from ich3d.training.losses import masked_log_loss

EMBEDDING_WIDTH: Final = 1532
"""With six logits, 1,538 inputs of the context model."""

FOLDS: Final = 5
CONTEXT: Final = ContextConfig(
    hidden_size=256, num_layers=2, dropout=0.3, ensemble_size=1, epochs=1, series_per_batch=32
)
STACK: Final = StackConfig(learning_rate=0.03, num_leaves=31, min_data_in_leaf=200, reach_mm=25.0)
PACKAGES: Final = ("ich3d", "torch", "lightgbm", "numpy")


_NAMES: Final = ("volume_id", "group_id", "sop_uid")
"""Columns that a repeat has other values in."""


@dataclass(frozen=True)
class Scale:
    """What the steps are measured on.

    Attributes:
        sequences: the folder of real label sequences; None for made-up ones.
        folder: where embeddings are kept.
        series: how many series there are.
        trees: boosting rounds of the stacker.
        draws: resamples of patients behind the intervals.
    """

    sequences: Path | None
    folder: Path
    series: int
    trees: int
    draws: int


def benchmark_scale(
    sequences: Path | None, series: int, trained_series: int, trees: int, draws: int
) -> str:
    """The table as markdown: seconds and memory of each step.

    Args:
        sequences: the folder of real label sequences; None for made-up ones.
        series: series of the steps that train nothing.
        trained_series: series of those that train.
        trees: boosting rounds of the stacker.
        draws: resamples of patients behind the intervals.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        whole = Scale(sequences, Path(folder), series, trees, draws)
        for name, step in _STEPS.items():
            is_trained = step in _TRAINED
            scale = replace(whole, series=trained_series) if is_trained else whole
            seconds, mib, slices = _in_new_process(step, scale)
            rows.append([name, f"{scale.series:,}", f"{slices:,}", f"{seconds:.1f}", f"{mib:,.0f}"])
    columns = ["step", "series", "slices", "seconds", "memory, MiB"]
    labels = "made-up" if sequences is None else "real label"
    return (
        f"{markdown_table(columns, rows)}\n\nOn {labels} sequences, repeated; embeddings of "
        f"{EMBEDDING_WIDTH} numbers in half precision on disk; {trees} trees, {draws} resamples. "
        "Memory is the largest resident size of the step's process, of which pages of the file of "
        f"embeddings are a part. {describe_machine(PACKAGES)}."
    )


def _in_new_process(step: "Step", scale: Scale) -> tuple[float, float, int]:
    """Seconds, largest memory in MiB, and number of slices."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (step, scale))


def _measured(step: "Step", scale: Scale) -> tuple[float, float, int]:
    store = repeated_store(scale)
    work = step(scale, store)
    start = perf_counter()
    work()
    return perf_counter() - start, peak_kib() / 1024, len(store.table)


def repeated_store(scale: Scale) -> SequenceStore:
    """The store of `scale.series` series: the sequences, repeated as those of new patients."""
    table = _sequences(scale)
    names = table["volume_id"].unique()
    parts = []
    for repeat in range(-(-scale.series // len(names))):
        chosen = names[: scale.series - repeat * len(names)]
        part = table[table["volume_id"].isin(chosen)]
        renamed = {name: f"{repeat}." + part[name] for name in _NAMES}
        parts.append(part.assign(**renamed))
    return SequenceStore(scale.folder, pd.concat(parts, ignore_index=True))


def _sequences(scale: Scale) -> pd.DataFrame:
    if scale.sequences is not None:
        source = SourceConfig(kind="sequences", path=str(scale.sequences))
        return read_sequences(Config(source=source, prepare=PrepareConfig(folds=FOLDS))).table
    rng = np.random.default_rng(0)
    n_series, n_slices = 40, 34
    target = np.zeros((n_series, n_slices, len(LABELS)), dtype=np.float32)
    target[::2, 10:18, 1] = target[::2, 10:18, LABELS.index(ANY)] = 1
    target[::4, 14:20, 4] = target[::4, 14:20, LABELS.index(ANY)] = 1
    series = np.repeat([f"{index:03d}" for index in range(n_series)], n_slices)
    table = pd.DataFrame(target.reshape(-1, len(LABELS)), columns=list(LABELS))
    return table.assign(
        volume_id=series,
        group_id=series,
        slice_index=np.tile(np.arange(n_slices), n_series),
        z_mm=np.tile(5.0 * np.arange(n_slices), n_series),
        sop_uid=[f"{name}.{index}" for index, name in enumerate(series)],
        fold=np.repeat(rng.permutation(n_series) % FOLDS, n_slices),
    )


def _folds(scale: Scale, store: SequenceStore) -> Callable[[], object]:
    bleeds = store.bleeds(store.volume_ids)
    return partial(assign_folds, bleeds, FOLDS, np.random.default_rng(0))


def _features(scale: Scale, store: SequenceStore) -> Callable[[], object]:
    embedded, before = _embedded(scale, store, width=1), _scores(store)

    def work() -> None:
        parts = [
            ScoredPart(embedded[name], "context", before[name].prob, store.z_mm(name))
            for name in store.volume_ids
        ]
        stack_features(parts, STACK.reach_mm)

    return work


def _metric(scale: Scale, store: SequenceStore) -> Callable[[], object]:
    truth = GroundTruth(store.table)
    prob = np.random.default_rng(0).random((1, *truth.target.shape))
    return partial(compare, {"row": prob}, {}, truth, scale.draws, 0)


def _alignment(scale: Scale, store: SequenceStore) -> Callable[[], object]:
    embedded = _embedded(scale, store)
    names = [name for name, fold in store.folds.items() if fold > 1]  # both encoders saw them
    return lambda: fit_alignment(
        (embedded[name] for name in names), (embedded[name] for name in names)
    )


def _plain_loop(scale: Scale, store: SequenceStore) -> Callable[[], object]:
    """An epoch of a GRU with as many units on the same series, and nothing else."""
    embedded = _embedded(scale, store)
    names = _training_names(store)
    order = np.random.default_rng(0).permutation(len(names))
    torch.manual_seed(0)
    gru = nn.GRU(
        EMBEDDING_WIDTH + len(LABELS), CONTEXT.hidden_size, CONTEXT.num_layers, batch_first=True,
        bidirectional=True, dropout=CONTEXT.dropout,
    )  # fmt: skip
    head = nn.Linear(2 * CONTEXT.hidden_size, len(LABELS))
    optimizer = torch.optim.AdamW([*gru.parameters(), *head.parameters()], fused=True)

    def work() -> None:
        for start in range(0, len(order), CONTEXT.series_per_batch):
            chosen = [names[index] for index in order[start : start + CONTEXT.series_per_batch]]
            batch = collate(
                [series_sample(embedded[n], store.z_mm(n), store.targets(n)) for n in chosen]
            )
            logits = head(gru(torch.cat([batch.embeddings, batch.logits], dim=2))[0])
            loss = masked_log_loss(logits.flatten(0, 1), batch.target.flatten(0, 1))
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()

    return work


def _context_epoch(scale: Scale, store: SequenceStore) -> Callable[[], object]:
    embedded = _embedded(scale, store)
    config = Config(prepare=PrepareConfig(folds=FOLDS), context=replace(CONTEXT, subseries=0.0))
    return lambda: train_context(store, embedded, config, 0, scale.folder / "context")


def _stacker(scale: Scale, store: SequenceStore) -> Callable[[], object]:
    embedded, before = _embedded(scale, store, width=1), _scores(store)
    config = replace(STACK, num_trees=scale.trees)

    def work() -> None:
        names, rng = _training_names(store), np.random.default_rng(0)
        rows = build_stack_rows(store, names, embedded, before, STACK.reach_mm, None, rng)
        fit_stacker(rows, config, seed=0)

    return work


Step = Callable[[Scale, SequenceStore], Callable[[], object]]

_STEPS: Final[dict[str, Step]] = {
    "folds": _folds,
    "stacker features of all slices": _features,
    "metric with intervals, one row": _metric,
    "alignment of two encoders": _alignment,
    "plain GRU loop, one epoch of one fold": _plain_loop,
    "context model, one epoch of one fold": _context_epoch,
    "stacker, one fold of whole series": _stacker,
}
_TRAINED: Final = (_alignment, _plain_loop, _context_epoch, _stacker)


def _training_names(store: SequenceStore) -> list[str]:
    return [name for name, fold in store.folds.items() if fold != 0]


def _embedded(
    scale: Scale, store: SequenceStore, width: int = EMBEDDING_WIDTH
) -> dict[str, SliceEmbeddings]:
    """Random embeddings by volume_id, views of one file in half precision, which is made once.

    Logits carry a weak sign of the labels, so that trees have something to find.
    """
    path, shape = scale.folder / f"{len(store.table)}x{width}.npy", (len(store.table), width)
    if not path.exists():
        rows = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
        rng = stream(0, "embeddings")
        for start in range(0, len(rows), 10_000):
            block = rows[start : start + 10_000]
            block[:] = rng.standard_normal(block.shape, dtype=np.float32)
        rows.flush()
    embeddings = np.load(path, mmap_mode="c")
    target = store.table[list(LABELS)].to_numpy(np.float32)
    noise = stream(0, "logits").standard_normal(target.shape, dtype=np.float32)
    logits = 3 * target - 4 + 1.5 * noise
    hu_features = stream(0, "hu").standard_normal((len(target), len(HU_FEATURES)), np.float32)
    hu_features[:, 0] = 100.0

    nobody = TrainingGroups.of(())
    embedded = {}
    for name, rows_of_name in store.table.groupby("volume_id", sort=True).indices.items():
        of_series = slice(rows_of_name[0], rows_of_name[-1] + 1)
        embedded[str(name)] = SliceEmbeddings(
            volume_id=str(name),
            embeddings=np.asarray(embeddings[of_series]),
            logits=logits[of_series],
            hu_features=hu_features[of_series],
            encoder_id="benchmark",
            training_groups=nobody,
        )
    return embedded


def _scores(store: SequenceStore) -> dict[str, SliceScores]:
    """Scores of a context model by volume_id: the labels, much blurred."""
    rng, nobody = stream(0, "scores"), TrainingGroups.of(())
    scores = {}
    for name in store.volume_ids:
        target = store.targets(name)
        prob = np.clip(0.3 * target + 0.4 * rng.random(target.shape), 0.001, 0.999)
        scores[name] = SliceScores(name, "context", prob.astype(np.float32), nobody)
    return scores
