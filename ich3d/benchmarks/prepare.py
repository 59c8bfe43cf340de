"""Benchmark of preparation: rate beside the least that it can take, and memory as data grow.

The floor is a plain loop in one process: read, decode, resize, compress. Beside it stands the same
loop with the HU features that a store also holds, and MONAI's PersistentDataset on the same series.
Memory is that of all processes together, while many small series are prepared from one zip.
"""

import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from ich3d.benchmarks.studies import SLICES, round_head
from ich3d.benchmarks.timing import (
    Candidate,
    Timing,
    describe_machine,
    markdown_table,
    time_candidates,
)
from ich3d.config.root import Config
from ich3d.config.schema import PrepareConfig, SourceConfig
from ich3d.core.types import PreparedSeries, Rejected
from ich3d.dicom.index import index
from ich3d.dicom.validate import group_by_series_uid, load_group
from ich3d.dicom.write import write_series
from ich3d.prepare.build import prepare
from ich3d.prepare.head import crop_head, reorient
from ich3d.prepare.series import prepare_group
from ich3d.prepare.spread import Spread
from ich3d.prepare.store import compressed
from ich3d.prepare.store import write_series as write_to_store

RATE_SIZE: Final = 512
MEMORY_SIZE: Final = 64
"""Rows and columns of a slice, in pixels."""

FLOOR: Final = "floor: read, decode, resize, compress"
PACKAGES: Final = ("ich3d", "blosc2", "monai", "pydicom", "numpy")


def benchmark_prepare(
    series: int, counts: Sequence[int], workers: int, repeats: int
) -> Iterator[str]:
    """Two tables as markdown: the rate of each way, and memory by number of series. Each is given
    when it is made.

    Args:
        series: series of 512 x 512 whose preparation is timed.
        counts: numbers of series of 64 x 64 whose preparation's memory is measured.
        workers: processes.
        repeats: rounds that count.
    """
    with tempfile.TemporaryDirectory() as folder:
        timings = _timings(Path(folder), series, workers, repeats)
    rates = _rate_table(timings, series * SLICES, workers)
    yield (
        f"{rates}\n\n{series} series of {SLICES} slices of {RATE_SIZE} x {RATE_SIZE} "
        f"to 192 x 192; {repeats} rounds; {describe_machine(PACKAGES)}.\n"
    )

    rows = [_memory_row(count, workers) for count in counts]
    columns = ["series in one zip", "seconds", "slices a second", "memory, MB", "files written"]
    yield (
        f"{markdown_table(columns, rows)}\n\n{SLICES} slices of {MEMORY_SIZE} x {MEMORY_SIZE} "
        f"a series, {workers} workers; memory is the most that all processes together "
        "held (PSS, Linux)."
    )


def _timings(folder: Path, series: int, workers: int, repeats: int) -> list[Timing]:
    images = folder / "in"
    for number in range(series):
        write_series(round_head(number, RATE_SIZE), images / str(number))
    os.sync()  # else the first files that are synced wait for these
    ways = {
        FLOOR: _floor,
        "the same with HU features": _floor_with_features,
        "MONAI PersistentDataset": _persistent_dataset,
        f"ich3d, {workers} workers": partial(_prepare, workers=workers),
    }
    candidates = [
        Candidate(name, partial(_in_new_folder, work, folder), (images,))
        for name, work in ways.items()
    ]
    return time_candidates(candidates, FLOOR, repeats)


def _rate_table(timings: Sequence[Timing], n_slices: int, workers: int) -> str:
    rows = [
        [
            timing.name,
            f"{n_slices / timing.seconds:.0f}",
            f"{1 / timing.ratio:.2f}",
            f"{1 / timing.ratio / workers:.2f}" if "workers" in timing.name else "",
        ]
        for timing in timings
    ]
    columns = ["way", "slices a second", "of the floor's rate", "of the floor's rate x workers"]
    return markdown_table(columns, rows)


def _in_new_folder(work: Any, folder: Path, files: Sequence[Path]) -> None:
    """Do the work into a folder that is removed after it."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        work(files[0], Path(out))


def _prepare(images: Path, out: Path, workers: int) -> None:
    source = SourceConfig(kind="folder", path=str(images))
    prepare(Config(workspace=str(out), source=source, prepare=PrepareConfig(folds=3)),
            spread=Spread(workers))  # fmt: skip


def _floor(images: Path, out: Path) -> None:
    for group in group_by_series_uid(index(images).series):
        loaded = load_group(group)
        if isinstance(loaded, Rejected):
            raise RuntimeError(loaded.detail)
        for volume in loaded:
            reoriented = reorient(volume)
            if isinstance(reoriented, Rejected):
                raise RuntimeError(reoriented.detail)
            hu = crop_head(reoriented, PrepareConfig())
            if hu is None:
                raise RuntimeError("no head")
            (out / f"{volume.series.volume_id}.b2nd").write_bytes(compressed(hu).to_cframe())


def _floor_with_features(images: Path, out: Path) -> None:
    for group in group_by_series_uid(index(images).series):
        for prepared in prepare_group(group, group, PrepareConfig()):
            if not isinstance(prepared, PreparedSeries):
                raise RuntimeError(prepared.detail)
            write_to_store(out, prepared)


def _persistent_dataset(images: Path, out: Path) -> None:
    """Each series read by MONAI, resampled to 1.2 mm in plane and kept on disk as a tensor."""
    from monai.data.dataset import PersistentDataset
    from monai.transforms.compose import Compose
    from monai.transforms.croppad.array import ResizeWithPadOrCrop
    from monai.transforms.io.array import LoadImage
    from monai.transforms.spatial.array import Spacing

    transform = Compose(
        [
            LoadImage(reader="PydicomReader", ensure_channel_first=True, image_only=True),
            Spacing(pixdim=(1.2, 1.2, -1.0)),
            ResizeWithPadOrCrop((192, 192, -1)),
        ]
    )
    folders = sorted(path for path in images.iterdir())
    for _ in PersistentDataset(folders, transform, cache_dir=out):
        pass


def _memory_row(count: int, workers: int) -> list[str]:
    """Prepare so many small series from one zip in a process of its own, and watch its memory."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_zip(folder / "in.zip", count)
        (folder / "config.yaml").write_text(
            f"workspace: {folder / 'run'}\nsource: {{kind: folder, path: {folder / 'in.zip'}}}\n"
            "prepare: {folds: 3, matrix: 64, pixel_mm: 4.0}\n"
        )
        command = [sys.executable, "-m", "ich3d", "prepare", "--workers", str(workers)]
        start = time.perf_counter()
        with subprocess.Popen(
            [*command, "--config", str(folder / "config.yaml")], stderr=subprocess.DEVNULL
        ) as process:
            peak_kib = 0
            while process.poll() is None:
                peak_kib = max(peak_kib, _tree_kib(process.pid))
                time.sleep(0.2)
        if process.returncode != 0:
            raise RuntimeError(f"prepare ended with {process.returncode}")
        seconds = time.perf_counter() - start
        n_files = sum(path.is_file() for path in (folder / "run").rglob("*"))
    n_slices = count * SLICES
    return [
        f"{count:,}",
        f"{seconds:.0f}",
        f"{n_slices / seconds:.0f}",
        f"{peak_kib * 1024 / 1e6:.0f}",
        f"{n_files:,}",
    ]


def _write_zip(archive: Path, count: int) -> None:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as opened:
        for number in range(count):
            with tempfile.TemporaryDirectory() as folder:
                for path in write_series(round_head(number, MEMORY_SIZE), Path(folder)):
                    opened.write(path, f"images/{number}_{path.name}")


def _tree_kib(pid: int) -> int:
    """Memory of a process and all its children in KiB, where what they share counts once (PSS)."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has just ended
        return 0
    own = int(rollup.partition("\nPss:")[2].split()[0])
    return own + sum(_tree_kib(int(child)) for child in children)
