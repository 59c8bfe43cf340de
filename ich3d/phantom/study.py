"""Phantom studies on disk: DICOM files, RSNA's label table, and the truth that no real data has."""

import csv
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from ich3d.config.schema import PhantomConfig
from ich3d.core.labels import ANY, LABELS, SUBTYPES
from ich3d.core.seeds import stream
from ich3d.core.text import pluralize
from ich3d.dicom.uids import uid
from ich3d.dicom.write import SeriesToWrite, write_series
from ich3d.phantom.bleeds import Bleed, draw_bleed, lattice
from ich3d.phantom.head import Head, draw_head
from ich3d.phantom.lookalikes import Lookalike, draw_lookalikes
from ich3d.phantom.prevalence import draw_subtypes
from ich3d.phantom.scanner import (
    Exposure,
    Geometry,
    Optics,
    add_noise,
    draw_geometry,
    draw_optics,
    expose,
)

VISIBLE_MM2: Final = 10.0
TRUTH_COLUMNS: Final = (
    "sop_uid",
    "volume_id",
    "index",
    "z_mm",
    "lookalike",
    *(f"{name}_mm2" for name in SUBTYPES),
)
_TURNED_SHARE: Final = 0.15
_TOP_FIRST_SHARE: Final = 0.4

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """All that one study shows, before any pixel is made."""

    head: Head
    bleeds: tuple[Bleed, ...]
    lookalikes: tuple[Lookalike, ...]
    geometry: Geometry
    optics: Optics


@dataclass(frozen=True)
class SliceTruth:
    """One slice's truth. `area_mm2` holds five areas in the order of `SUBTYPES`, each of pixels that the
    subtype fills to at least a half; `lookalikes` the kinds that show as much as a bleed must."""

    sop_uid: str
    series_uid: str
    index: int
    z_mm: float
    area_mm2: tuple[float, ...]
    lookalikes: tuple[str, ...]

    @property
    def labels(self) -> dict[str, int]:
        """Six labels: a subtype is there where it fills at least `VISIBLE_MM2`; `any` is their maximum."""
        own = {
            name: int(area >= VISIBLE_MM2)
            for name, area in zip(SUBTYPES, self.area_mm2, strict=True)
        }
        return {**own, ANY: max(own.values())}


def draw_plan(config: PhantomConfig, rng: np.random.Generator) -> Plan:
    """One study drawn at random."""
    subtypes = draw_subtypes(config.prevalence, rng)
    head = draw_head(rng)
    geometry, optics = draw_geometry(config, head, rng), draw_optics(config, rng)
    coarse = lattice(head)
    bleeds = tuple(draw_bleed(head, coarse, name, rng) for name in subtypes)
    lookalikes = draw_lookalikes(head, coarse, geometry.slabs(head), config.lookalikes, rng)
    return Plan(head, bleeds, lookalikes, geometry, optics)


def write_phantoms(config: PhantomConfig, seed: int, folder: Path) -> Iterator[int]:
    """Write `config.studies` studies into `folder`, yielding how many are done after each.

    Layout: `<study>/<series>/<name>.dcm` with names that carry no order; `labels.csv` in RSNA's form
    (`ID,Label`, six rows a slice in the order of `LABELS`); `truth.csv`, a row a slice. A study appears
    whole or not at all, and the tables come last. A study depends on the seed and its number alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    truths: list[SliceTruth] = []
    for number in range(config.studies):
        truths += _write_study(config, seed, number, folder)
        yield number + 1
    rows = ((f"{t.sop_uid}_{label}", t.labels[label]) for t in truths for label in LABELS)
    _write_csv(folder / "labels.csv", ("ID", "Label"), rows)
    _write_csv(folder / "truth.csv", TRUTH_COLUMNS, map(_truth_row, truths))


def _write_study(config: PhantomConfig, seed: int, number: int, folder: Path) -> list[SliceTruth]:
    rng = stream(seed, "phantom", number)
    plan = draw_plan(config, rng)
    findings = (*plan.bleeds, *plan.lookalikes)
    exposure = expose(plan.head, findings, plan.geometry, plan.optics)
    hu = add_noise(exposure.hu, plan.geometry, plan.optics, rng)
    series = _series(plan, hu, seed, number, rng)

    place = folder / f"study-{number:04d}"
    partial = folder / f".{place.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    write_series(series, partial / "head")
    shutil.rmtree(place, ignore_errors=True)
    os.replace(partial, place)
    log.debug(
        "study %d: %s, %s",
        number,
        pluralize(len(hu), "slice"),
        [bleed.subtype for bleed in plan.bleeds],
    )
    return _truths(plan, exposure, series)


def _series(
    plan: Plan, hu: np.ndarray, seed: int, number: int, rng: np.random.Generator
) -> SeriesToWrite:
    """The stack as its scanner stores it: some turned by half a turn in the plane, some top slice first."""
    geometry, n = plan.geometry, len(hu)
    position = geometry.position_mm
    row, col = np.array(geometry.row_dir), np.array(geometry.col_dir)
    if rng.random() < _TURNED_SHARE:
        hu = hu[:, ::-1, ::-1]
        position = position + (geometry.matrix - 1) * geometry.pixel_mm * (row + col)
        row, col = 0.0 - row, 0.0 - col
    numbers = np.arange(1, n + 1)
    if rng.random() < _TOP_FIRST_SHARE:
        numbers = numbers[::-1]
    return SeriesToWrite(
        hu=hu,
        position_mm=position,
        row_dir=(float(row[0]), float(row[1]), float(row[2])),
        col_dir=(float(col[0]), float(col[1]), float(col[2])),
        pixel_spacing_mm=(geometry.pixel_mm, geometry.pixel_mm),
        slice_thickness_mm=geometry.thickness_mm,
        patient_id=f"phantom-{seed}-{number:04d}",
        study_uid=uid("phantom", seed, number, "study"),
        series_uid=uid("phantom", seed, number, "series"),
        sop_uids=[uid("phantom", seed, number, "slice", index) for index in range(n)],
        file_names=[
            f"{uid('phantom', seed, number, 'file', index)[-12:]}.dcm" for index in range(n)
        ],
        instance_numbers=[int(v) for v in numbers],
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


def _truths(plan: Plan, exposure: Exposure, series: SeriesToWrite) -> list[SliceTruth]:
    z_mm = plan.geometry.position_mm @ plan.geometry.normal
    names = [finding.name for finding in (*plan.bleeds, *plan.lookalikes)]
    truths = []
    for index, area in enumerate(exposure.area_mm2.T):
        by_name = {name: float(a) for name, a in zip(names, area, strict=True) if name in SUBTYPES}
        shown = {
            name
            for name, a in zip(names, area, strict=True)
            if name not in SUBTYPES and a >= VISIBLE_MM2
        }
        areas = tuple(by_name.get(name, 0.0) for name in SUBTYPES)
        uids = series.sop_uids[index], series.series_uid
        truths.append(SliceTruth(*uids, index, float(z_mm[index]), areas, tuple(sorted(shown))))
    return truths


def _truth_row(truth: SliceTruth) -> tuple[object, ...]:
    areas = (f"{area:.1f}" for area in truth.area_mm2)
    kinds = "|".join(truth.lookalikes)
    return (truth.sop_uid, truth.series_uid, truth.index, f"{truth.z_mm:.3f}", kinds, *areas)


def _write_csv(path: Path, columns: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    """A whole table or none: written beside its place, then moved there."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    os.replace(partial, path)
