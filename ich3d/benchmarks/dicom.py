"""Benchmark of reading DICOM: a series to HU, two volumes of one series UID, a thousand headers.

Compared with pydicom, SimpleITK and MONAI, or with version 0.1's way, on the same files in the same
run.
"""

import tempfile
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import numpy as np
import pydicom
from pydicom.uid import UID, RLELossless

from ich3d.benchmarks.timing import (
    Candidate,
    Timing,
    Work,
    describe_machine,
    markdown_table,
    peak_mib,
    time_candidates,
)
from ich3d.core.types import Rejected, Series, Volume
from ich3d.dicom.index import index_all
from ich3d.dicom.uids import uid
from ich3d.dicom.validate import check_pixels, load_volumes
from ich3d.dicom.volume import load_volume
from ich3d.dicom.write import SeriesToWrite, write_series

SLICES: Final = 34
"""Slices of the series that is loaded."""

SIZE: Final = 512
"""Its rows and columns, in pixels."""

HEADERS: Final = 1000
"""Number of files whose headers are read."""

HEADER_SIZE: Final = 64
"""Rows and columns of these files; small, because their pixels are not read."""

WORKERS: Final = 2
"""Processes that read headers side by side, in addition to a run with one process."""

PACKAGES: Final = ("ich3d", "numpy", "pydicom", "SimpleITK", "monai")


def benchmark_dicom(repeats: int) -> str:
    """All tables as markdown, after one line about the machine.

    Times are in milliseconds a slice or file, medians over `repeats` rounds; memory is in MiB.
    """
    with tempfile.TemporaryDirectory() as folder:
        slice_files = _write_noise_series(Path(folder) / "series", SLICES, SIZE)
        sibling_files = _write_siblings(Path(folder) / "siblings")
        header_files = _write_noise_series(Path(folder) / "headers", HEADERS, HEADER_SIZE)
        return "\n\n".join(
            (
                describe_machine(PACKAGES),
                _loading_table(slice_files, repeats),
                _siblings_table(sibling_files, repeats),
                _headers_table(header_files, repeats),
            )
        )


def raw_read(files: Sequence[Path]) -> object:
    """Read the bytes of each file and do nothing with them: the lower limit."""
    return [len(file.read_bytes()) for file in files]


def ich3d_load(files: Sequence[Path]) -> object:
    """HU of an indexed series with ich3d: int16 (Z, Y, X)."""
    return load_volume(_indexed_series(tuple(files)))


def ich3d_index_and_load(files: Sequence[Path]) -> object:
    """HU of a series from unsorted files with ich3d: int16 (Z, Y, X)."""
    return load_volume(index_all(files).series[0])


def ich3d_load_together(files: Sequence[Path]) -> list[Volume | Rejected]:
    """HU of all volumes in some files, each decoded once: int16 (Z, Y, X) each."""
    return list(load_volumes(index_all(files).series))


def ich3d_check_then_load(files: Sequence[Path]) -> list[Volume | Rejected]:
    """The same as version 0.1 read it: decoded to be checked, and again to be used."""
    checked = check_pixels(index_all(files))
    return [load_volume(series) for series in checked.series]


def pydicom_pixels(files: Sequence[Path]) -> object:
    """Stored values (Z, Y, X) with pydicom, without sorting, rescale or checks."""
    return np.stack([pydicom.dcmread(file).pixel_array for file in files])


def simpleitk_series(files: Sequence[Path]) -> object:
    """A SimpleITK image from files in the given order."""
    import SimpleITK as sitk

    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(file) for file in files])
    return reader.Execute()


def monai_load_image(files: Sequence[Path]) -> object:
    """A MONAI MetaTensor with `LoadImage` and its reader for pydicom."""
    from monai.transforms import LoadImage

    # LoadImage takes a series by its folder, and a single file by its own path.
    path = files[0].parent if len(files) > 1 else files[0]
    return LoadImage(reader="PydicomReader", image_only=True)(path)


def ich3d_headers(files: Sequence[Path]) -> object:
    """Index the files with ich3d: parse, group, sort and check their headers."""
    return index_all(files).n_files


def pydicom_headers(files: Sequence[Path]) -> object:
    """Parse the headers with pydicom."""
    return len([pydicom.dcmread(file, stop_before_pixels=True) for file in files])


def _loading_table(files: tuple[Path, ...], repeats: int) -> str:
    works: dict[str, Work] = {
        "raw read": raw_read,
        "ich3d index and load": ich3d_index_and_load,
        "ich3d load": ich3d_load,
        "pydicom pixel_array": pydicom_pixels,
        "SimpleITK ImageSeriesReader": simpleitk_series,
        "MONAI LoadImage": monai_load_image,
    }
    candidates = [Candidate(name, work, files) for name, work in works.items()]
    timings = time_candidates(candidates, "SimpleITK ImageSeriesReader", repeats)

    title = f"{SLICES} slices of {SIZE} x {SIZE} to memory"
    rows = [
        (*_time_cells(timing, len(files)), f"{peak_mib(candidate):.0f}")
        for candidate, timing in zip(candidates, timings, strict=True)
    ]
    return markdown_table((title, "ms a slice", "time / SimpleITK", "peak MiB"), rows)


def _siblings_table(files: tuple[Path, ...], repeats: int) -> str:
    works: dict[str, Work] = {
        "checked, then loaded (0.1)": ich3d_check_then_load,
        "loaded together": ich3d_load_together,
    }
    candidates = [Candidate(name, work, files) for name, work in works.items()]
    timings = time_candidates(candidates, candidates[0].name, repeats)
    title = f"two volumes of {SLICES} slices under one SeriesInstanceUID, RLE, to memory"
    rows = [_time_cells(timing, len(files)) for timing in timings]
    return markdown_table((title, "ms a slice", "time / 0.1"), rows)


def _headers_table(files: tuple[Path, ...], repeats: int) -> str:
    works = {"pydicom stop_before_pixels": pydicom_headers, "ich3d index": ich3d_headers}
    rows = []
    for workers in (1, WORKERS):
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            candidates = [
                Candidate(
                    f"{name}, workers: {workers}",
                    partial(_work_in_parallel, pool, workers, work),
                    files,
                )
                for name, work in works.items()
            ]
            timings = time_candidates(candidates, candidates[0].name, repeats)
        rows += [_time_cells(timing, len(files)) for timing in timings]
    return markdown_table((f"{HEADERS} headers", "ms a file", "time / pydicom"), rows)


def _time_cells(timing: Timing, n_files: int) -> tuple[str, str, str]:
    """Name, milliseconds a file, and ratio to the baseline."""
    return timing.name, f"{1000 * timing.seconds / n_files:.3f}", f"{timing.ratio:.2f}"


def _write_siblings(folder: Path) -> tuple[Path, ...]:
    """Write two series of noise as two kernels of one series, in RLE Lossless."""
    files = []
    for kernel in ("soft", "bone"):
        for file in _write_noise_series(folder / kernel, SLICES, SIZE):
            ds = pydicom.dcmread(file)
            ds.ConvolutionKernel = kernel
            ds.SOPInstanceUID = uid(file.name, kernel)
            ds.file_meta.MediaStorageSOPInstanceUID = UID(ds.SOPInstanceUID)
            ds.compress(RLELossless, generate_instance_uid=False)
            ds.save_as(file)
            files.append(file)
    return tuple(files)


def _write_noise_series(folder: Path, n: int, size: int) -> tuple[Path, ...]:
    """Write a tilted series of noise, one file a slice; the paths, lowest slice first."""
    noise = np.random.default_rng(0).integers(-1000, 2000, (n, size, size), dtype=np.int16)
    series = SeriesToWrite(
        hu=noise,
        position_mm=np.array([(-125.0, -125.0, 5.1 * i) for i in range(n)]),
        row_dir=(1.0, 0.0, 0.0),
        col_dir=(0.0, 0.98, -0.199),
        pixel_spacing_mm=(250 / size, 250 / size),
        slice_thickness_mm=5.0,
        patient_id="benchmark",
        study_uid=uid("benchmark"),
        series_uid=uid("benchmark", n),
        sop_uids=[uid("benchmark", n, i) for i in range(n)],
        file_names=[f"{i:04d}.dcm" for i in range(n)],
        instance_numbers=list(range(1, n + 1)),
    )
    return tuple(write_series(series, folder))


@cache
def _indexed_series(files: tuple[Path, ...]) -> Series:
    """The series in `files`; indexed in the round that is not counted, and then kept."""
    return index_all(files).series[0]


def _work_in_parallel(
    pool: Executor, workers: int, work: Work, files: Sequence[Path]
) -> list[object]:
    """Do `work` in each worker on an equal share of `files`."""
    return list(pool.map(work, [files[start::workers] for start in range(workers)]))
