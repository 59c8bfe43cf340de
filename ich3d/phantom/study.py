"""Phantom studies on disk: DICOM files, a label table in RSNA's form, and the ground truth."""

import csv
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from ich3d.config.schema import PhantomConfig
from ich3d.core.errors import DataError
from ich3d.core.labels import ANY, LABELS, SUBTYPES
from ich3d.core.path_arguments import as_path
from ich3d.core.processes import run_tasks, useful_workers
from ich3d.core.seeds import stream
from ich3d.core.text import pluralize
from ich3d.core.types import Vector3
from ich3d.core.workspace import replacing
from ich3d.dicom.uids import uid
from ich3d.dicom.write import SeriesToWrite, write_series
from ich3d.phantom.bleeds import Bleed, coarse_brain, draw_bleed
from ich3d.phantom.head import Head, draw_head
from ich3d.phantom.lookalikes import Lookalike, draw_lookalikes
from ich3d.phantom.prevalence import draw_subtypes
from ich3d.phantom.scanner import (
    Acquisition,
    Finding,
    Geometry,
    Scanner,
    acquire,
    add_noise,
    draw_geometry,
    draw_scanner,
)

VISIBLE_MM2: Final = 10.0
"""Area that a bleed must fill in a slice for the slice to be labelled with it."""

TRUTH_COLUMNS: Final = (
    "sop_uid",
    "volume_id",
    "index",
    "z_mm",
    "lookalike",
    *(f"{name}_mm2" for name in SUBTYPES),
)
"""Columns of `truth.csv`; an area column for each subtype."""

_ROTATED_FRACTION: Final = 0.15
_TOP_FIRST_FRACTION: Final = 0.4

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StudyPlan:
    """All that one study shows, drawn before any pixel is computed."""

    head: Head
    bleeds: tuple[Bleed, ...]
    lookalikes: tuple[Lookalike, ...]
    geometry: Geometry
    scanner: Scanner

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Bleeds, then look-alikes."""
        return (*self.bleeds, *self.lookalikes)


@dataclass(frozen=True)
class SliceTruth:
    """Ground truth of one slice.

    sop_uid, series_uid: SOPInstanceUID and SeriesInstanceUID.
    index: number of the slice in its series from inferior to superior, from 0.
    z_mm: position along the slice normal.
    area_mm2: five areas in the order of `SUBTYPES`, of the pixels that a subtype fills to at least
        a half.
    lookalikes: kinds of look-alike that fill at least `VISIBLE_MM2`, in alphabetical order.
    """

    sop_uid: str
    series_uid: str
    index: int
    z_mm: float
    area_mm2: tuple[float, ...]
    lookalikes: tuple[str, ...]

    @property
    def labels(self) -> dict[str, int]:
        """Six labels 0 or 1: a subtype is present from `VISIBLE_MM2` on; `any` is the maximum."""
        subtypes = {
            name: int(area >= VISIBLE_MM2)
            for name, area in zip(SUBTYPES, self.area_mm2, strict=True)
        }
        return {**subtypes, ANY: max(subtypes.values())}


def draw_plan(config: PhantomConfig, rng: np.random.Generator) -> StudyPlan:
    """The plan of one study, drawn at random from `config`."""
    subtypes = draw_subtypes(config.prevalence, rng)
    head = draw_head(rng)
    geometry, scanner = draw_geometry(config, head, rng), draw_scanner(config, rng)
    coarse = coarse_brain(head)
    bleeds = tuple(draw_bleed(head, coarse, name, rng) for name in subtypes)
    lookalikes = draw_lookalikes(head, coarse, geometry.slabs(head), config.lookalikes, rng)
    return StudyPlan(head, bleeds, lookalikes, geometry, scanner)


def write_phantoms(
    config: PhantomConfig, seed: int, folder: Path | str, workers: int = 1
) -> Iterator[int]:
    """Write `config.studies` studies into `folder`; after each, yield how many are written.

    The folder then holds `<study>/<series>/<name>.dcm`, with file names that carry no order;
    `labels.csv` in RSNA's form (`ID,Label`, six rows per slice in the order of `LABELS`); and
    `truth.csv`, one row per slice with `TRUTH_COLUMNS`. A study appears as a whole or not at all,
    and the tables come last. A study depends only on the seed and its number.

    Args:
        config: what heads and scanners are like, and how many studies.
        seed: the same seed writes the same files.
        folder: where they are written.
        workers: processes that write studies side by side.

    Raises:
        ConfigError: `config.prevalence` names an unknown subtype or a probability outside 0..1.
        DataError: a process that wrote a study was killed.
    """
    folder = as_path("folder", folder)
    folder.mkdir(parents=True, exist_ok=True)
    by_study: dict[int, list[SliceTruth]] = {}
    write_study = partial(_write_study, config, seed, folder)
    numbers = range(config.studies)
    for done in run_tasks(write_study, numbers, useful_workers(workers, config.studies)):
        if done.result is None:
            raise DataError(
                f"{folder}: the process that wrote phantom {done.task} was killed, as a system "
                "does that runs out of memory: use fewer --workers, and run the same command again"
            )
        by_study[done.task] = done.result
        yield len(by_study)

    truths = [truth for number in numbers for truth in by_study[number]]
    label_rows = (
        (f"{truth.sop_uid}_{label}", truth.labels[label]) for truth in truths for label in LABELS
    )
    _write_csv(folder / "labels.csv", ("ID", "Label"), label_rows)
    _write_csv(folder / "truth.csv", TRUTH_COLUMNS, map(_truth_row, truths))


def _write_study(config: PhantomConfig, seed: int, folder: Path, number: int) -> list[SliceTruth]:
    """Draw one study and write its DICOM files; the ground truth of its slices."""
    rng = stream(seed, "phantom", number)
    plan = draw_plan(config, rng)
    acquisition = acquire(plan.head, plan.findings, plan.geometry, plan.scanner)
    hu = add_noise(acquisition.hu, plan.geometry, plan.scanner, rng)
    series = _series_to_write(plan.geometry, hu, seed, number, rng)

    with replacing(folder / f"study-{number:04d}") as partial:
        write_series(series, partial / "head")

    subtypes = [bleed.subtype for bleed in plan.bleeds]
    log.debug("study %d: %s, %s", number, pluralize(len(hu), "slice"), subtypes)
    return _slice_truths(plan, acquisition, series)


def _series_to_write(
    geometry: Geometry, hu: np.ndarray, seed: int, number: int, rng: np.random.Generator
) -> SeriesToWrite:
    """The series as its scanner stores it, from `hu` int16 (Z, Y, X).

    Some series are rotated in the plane by 180 degrees, and some are numbered from the top.
    """
    n = len(hu)
    position_mm = geometry.position_mm
    row, col = np.array(geometry.row_dir), np.array(geometry.col_dir)
    if rng.random() < _ROTATED_FRACTION:
        hu = hu[:, ::-1, ::-1]
        position_mm = position_mm + (geometry.matrix - 1) * geometry.pixel_mm * (row + col)
        row, col = 0.0 - row, 0.0 - col

    instance_numbers = list(range(1, n + 1))
    if rng.random() < _TOP_FIRST_FRACTION:
        instance_numbers.reverse()

    # Names from a hash carry no order.
    file_names = [f"{uid('phantom', seed, number, 'file', index)[-12:]}.dcm" for index in range(n)]
    return SeriesToWrite(
        hu=hu,
        position_mm=position_mm,
        row_dir=_vector(row),
        col_dir=_vector(col),
        pixel_spacing_mm=(geometry.pixel_mm, geometry.pixel_mm),
        slice_thickness_mm=geometry.thickness_mm,
        patient_id=f"phantom-{seed}-{number:04d}",
        study_uid=uid("phantom", seed, number, "study"),
        series_uid=uid("phantom", seed, number, "series"),
        sop_uids=[uid("phantom", seed, number, "slice", index) for index in range(n)],
        file_names=file_names,
        instance_numbers=instance_numbers,
        extra={
            "BodyPartExamined": "HEAD",
            "Manufacturer": "ich3d phantom",
            "PatientPosition": "HFS",
            "GantryDetectorTilt": f"{geometry.tilt_deg:.4f}",
            "KVP": "120",
            "WindowCenter": "40",
            "WindowWidth": "80",
        },
    )


def _vector(values: np.ndarray) -> Vector3:
    x, y, z = values.tolist()
    return x, y, z


def _slice_truths(
    plan: StudyPlan, acquisition: Acquisition, series: SeriesToWrite
) -> list[SliceTruth]:
    """The ground truth of each slice, inferior to superior."""
    z_mm = plan.geometry.position_mm @ plan.geometry.normal
    names = [finding.name for finding in plan.findings]

    truths = []
    for index, areas in enumerate(acquisition.area_mm2.T):
        area_by_subtype = dict.fromkeys(SUBTYPES, 0.0)
        visible_lookalikes = set()
        for name, area in zip(names, areas, strict=True):
            if name in area_by_subtype:
                area_by_subtype[name] = float(area)
            elif area >= VISIBLE_MM2:
                visible_lookalikes.add(name)

        truth = SliceTruth(
            sop_uid=series.sop_uids[index],
            series_uid=series.series_uid,
            index=index,
            z_mm=float(z_mm[index]),
            area_mm2=tuple(area_by_subtype.values()),
            lookalikes=tuple(sorted(visible_lookalikes)),
        )
        truths.append(truth)
    return truths


def _truth_row(truth: SliceTruth) -> tuple[object, ...]:
    """One row of `truth.csv`, in the order of `TRUTH_COLUMNS`."""
    areas = (f"{area:.1f}" for area in truth.area_mm2)
    kinds = "|".join(truth.lookalikes)
    return (truth.sop_uid, truth.series_uid, truth.index, f"{truth.z_mm:.3f}", kinds, *areas)


def _write_csv(path: Path, columns: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
