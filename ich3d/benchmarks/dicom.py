"""DICOM: a series to HU, and a thousand headers, beside pydicom, SimpleITK and MONAI."""

import tempfile
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import numpy as np
import pydicom

from ich3d.benchmarks.timing import Candidate, Result, Work, machine, markdown, peak_mib, race
from ich3d.core.types import Series
from ich3d.dicom.index import index_all
from ich3d.dicom.uids import uid
from ich3d.dicom.volume import load_volume
from ich3d.dicom.write import SeriesToWrite, write_series

SLICES: Final = 34
SIZE: Final = 512
HEADERS: Final = 1000
HEADER_SIZE: Final = 64
"""Rows and columns of the files whose headers are scanned: nobody reads their pixels."""

WORKERS: Final = 2
PACKAGES: Final = ("ich3d", "numpy", "pydicom", "SimpleITK", "monai")


def dicom(repeats: int) -> str:
    """Both tables as markdown."""
    with tempfile.TemporaryDirectory() as folder:
        series = _written(Path(folder) / "series", SLICES, SIZE)
        headers = _written(Path(folder) / "headers", HEADERS, HEADER_SIZE)
        return "\n\n".join(
            (machine(PACKAGES), _loading(series, repeats), _scanning(headers, repeats))
        )


def _loading(files: tuple[Path, ...], repeats: int) -> str:
    works: dict[str, Work] = {
        "raw read": raw_read,
        "ich3d index and load": ich3d_index_and_load,
        "ich3d load": ich3d_load,
        "pydicom pixel_array": pydicom_pixels,
        "SimpleITK ImageSeriesReader": simpleitk_series,
        "MONAI LoadImage": monai_load_image,
    }
    contenders = [Candidate(name, work, files) for name, work in works.items()]
    results = race(contenders, "SimpleITK ImageSeriesReader", repeats)
    title = f"{SLICES} slices of {SIZE} x {SIZE} to memory"
    rows = [
        (*_row(result, len(files)), f"{peak_mib(contender):.0f}")
        for contender, result in zip(contenders, results, strict=True)
    ]
    return markdown((title, "ms a slice", "time / SimpleITK", "peak MiB"), rows)


def _scanning(files: tuple[Path, ...], repeats: int) -> str:
    works = {"pydicom stop_before_pixels": pydicom_headers, "ich3d index": ich3d_headers}
    rows = []
    for workers in (1, WORKERS):
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            contenders = [
                Candidate(
                    f"{name}, workers: {workers}", partial(_spread, pool, workers, work), files
                )
                for name, work in works.items()
            ]
            results = race(contenders, contenders[0].name, repeats)
        rows += [_row(result, len(files)) for result in results]
    return markdown((f"{HEADERS} headers", "ms a file", "time / pydicom"), rows)


def _row(result: Result, n_files: int) -> tuple[str, str, str]:
    return result.name, f"{1000 * result.seconds / n_files:.3f}", f"{result.ratio:.2f}"


def _written(folder: Path, n: int, size: int) -> tuple[Path, ...]:
    """A tilted series of noise, a file a slice, lowest first."""
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


def raw_read(files: Sequence[Path]) -> object:
    return [len(file.read_bytes()) for file in files]


def ich3d_load(files: Sequence[Path]) -> object:
    return load_volume(_series(tuple(files)))


def ich3d_index_and_load(files: Sequence[Path]) -> object:
    return load_volume(index_all(files).series[0])


def pydicom_pixels(files: Sequence[Path]) -> object:
    return np.stack([pydicom.dcmread(file).pixel_array for file in files])


def simpleitk_series(files: Sequence[Path]) -> object:
    import SimpleITK as sitk

    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(file) for file in files])
    return reader.Execute()


def monai_load_image(files: Sequence[Path]) -> object:
    from monai.transforms import LoadImage

    series = files[0].parent if len(files) > 1 else files[0]  # it takes a series by its folder
    return LoadImage(reader="PydicomReader", image_only=True)(series)


def ich3d_headers(files: Sequence[Path]) -> object:
    return index_all(files).n_files


def pydicom_headers(files: Sequence[Path]) -> object:
    return len([pydicom.dcmread(file, stop_before_pixels=True) for file in files])


@cache
def _series(files: tuple[Path, ...]) -> Series:
    """The series in `files`, found in the round that does not count."""
    return index_all(files).series[0]


def _spread(pool: Executor, workers: int, work: Work, files: Sequence[Path]) -> object:
    """`work` on an equal share of `files` in each worker."""
    return list(pool.map(work, [files[start::workers] for start in range(workers)]))
