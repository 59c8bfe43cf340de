"""Prediction: a study on disk to its tables, beside the plain loop that the contest's code runs.

SE-ResNeXt50 at 384 x 384 with random weights, one fold, one member, one slice, no mirror image: what is
scored means nothing, what it costs is the same.
"""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import pandas as pd
import pydicom
import torch
from torch import nn

from ich3d.benchmarks.timing import Candidate, Result, machine, markdown, peak_kib, race
from ich3d.config.root import Config
from ich3d.config.schema import ContextConfig, PrepareConfig, SlicesConfig
from ich3d.context.bigru import ContextEnsemble
from ich3d.core.labels import LABELS
from ich3d.core.types import TrainingGroups
from ich3d.core.windows import window
from ich3d.dicom.uids import uid
from ich3d.dicom.write import SeriesToWrite, write_series
from ich3d.inference.run import predict_to_folder
from ich3d.inference.scoring import find
from ich3d.model.fold_model import FoldModel
from ich3d.model.folder import Model
from ich3d.prepare.build import prepare_series
from ich3d.slices.encoder import EncoderEnsemble, SliceEncoder
from ich3d.stack.booster import LabelStack

SLICES: Final = 34
SIZE: Final = 512
MEMORY_STUDIES: Final = 3
"""Studies that are predicted to see how much memory it takes: one is read while another is scored."""

CONFIG: Final = Config(
    prepare=PrepareConfig(matrix=384, pixel_mm=0.65),
    slices=SlicesConfig(encoder="seresnext50", neighbours=0, symmetry=False, tta_flip=False),
    context=ContextConfig(ensemble_size=1),
)
PACKAGES: Final = ("ich3d", "torch", "monai", "openvino", "pydicom", "numpy")


@dataclass(frozen=True)
class _Work:
    """A model, and where its tables go."""

    model: Model
    out: Path

    @property
    def path(self) -> str:
        return self.model.encoders.path

    def served(self, folders: Sequence[Path]) -> object:
        """DICOM on disk to tables."""
        with tempfile.TemporaryDirectory(dir=self.out) as out:
            return predict_to_folder(self.model, folders, Path(out))

    def forward(self, folders: Sequence[Path], hu: np.ndarray) -> object:
        """The encoder alone, on pixels that are at hand."""
        return self.model.encoders.embed(hu)

    def plain(self, folders: Sequence[Path]) -> object:
        """File by file through pydicom and the network, in fp32."""
        rows = [
            _plain_slice(self.model, file)
            for folder in folders
            for file in sorted(folder.iterdir())
        ]
        table = pd.DataFrame(rows, columns=["sop_uid", *LABELS])
        table.to_csv(self.out / "plain.csv", index=False)
        return table


def benchmark(repeats: int, studies: int, config: Config = CONFIG) -> str:
    """The tables as markdown; a folder of several studies is `studies` of them. `config` makes the model."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        folder = _written(place / "studies", studies)
        one = min(folder.iterdir())
        works = _works(config, place)
        parts = [machine([name for name in PACKAGES if name != "openvino" or len(works) > 1])]
        parts.append(_beside_the_plain_loop(works, one, repeats))
        parts += [_parts_of(work, one, folder, repeats) for work in works]
        with get_context("spawn").Pool(1) as pool:
            peak = pool.apply(_peak_mib, (config, folder))
        return "\n\n".join([*parts, f"Peak memory of {works[0].path}: {peak:.0f} MiB"])


def _works(config: Config, out: Path) -> list[_Work]:
    """The fastest path here, and where that is OpenVINO's, what is taken without it."""
    fastest = _Work(_model(config), out)
    if not fastest.path.startswith("openvino"):
        return [fastest]
    other = _Work(_model(config), out)
    with _without_openvino():
        assert other.path.startswith("torch")  # settled here, for good
    return [fastest, other]


def _beside_the_plain_loop(works: Sequence[_Work], one: Path, repeats: int) -> str:
    contenders = [Candidate("plain loop", works[0].plain, (one,))]
    contenders += [Candidate(f"ich3d predict, {work.path}", work.served, (one,)) for work in works]
    results = race(contenders, "plain loop", repeats)
    title = f"{SLICES} slices of {SIZE} x {SIZE} to tables"
    rows = [(one.name, f"{one.seconds:.2f}", f"{1 / one.ratio:.1f}") for one in results]
    return markdown((title, "s", "rate / plain loop"), rows)


def _parts_of(work: _Work, one: Path, folder: Path, repeats: int) -> str:
    """What is spent beside the network, and in company."""
    (series,) = find([one]).series
    made = prepare_series(series, work.model.config.prepare)
    assert isinstance(made, tuple)
    count = len(list(folder.iterdir()))
    contenders = [
        Candidate("network alone", partial(work.forward, hu=made[1]), (one,)),
        Candidate("one study", work.served, (one,)),
        Candidate(f"a study of {count}", work.served, (folder,)),
    ]
    alone, single, several = race(contenders, "one study", repeats)
    rows = [
        _row(alone, 1, 1.0),
        _row(single, 1, 1 / alone.ratio),
        _row(several, count, several.ratio / count / alone.ratio),
    ]
    return markdown((work.path, "s a study", "time / network alone"), rows)


def _row(result: Result, count: int, ratio: float) -> tuple[str, str, str]:
    return result.name, f"{result.seconds / count:.2f}", f"{ratio:.2f}"


def _plain_slice(model: Model, file: Path) -> list[object]:
    config, encoder = model.config, cast(SliceEncoder, model.fold_models[0].encoder.members[0])
    ds = pydicom.dcmread(file)
    hu = ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
    planes = [
        np.clip((hu - own.low) / own.width, 0, 1) - 0.5
        for own in map(window, config.slices.windows)
    ]
    image = torch.from_numpy(np.stack(planes)[None]).float()
    side = config.prepare.matrix
    with torch.no_grad():
        image = nn.functional.interpolate(
            image, size=(side, side), mode="bilinear", align_corners=False
        )
        _, logits = encoder.encode(image)
    return [ds.SOPInstanceUID, *torch.sigmoid(logits)[0].tolist()]


def _model(config: Config) -> Model:
    torch.manual_seed(0)
    encoder = EncoderEnsemble(config.slices).eval().requires_grad_(False)
    context = ContextEnsemble(config.context, encoder.embedding_width).eval()
    stack = {label: LabelStack(label, False, (), "", 1.0, 0.0, 0.0, 0.0, 0.0) for label in LABELS}
    fold_model = FoldModel(0, encoder, context, stack, TrainingGroups.of([]))
    return Model(
        config, [fold_model], {"ranges": {}, "prevalence": dict.fromkeys(LABELS, 0.1)}, "random"
    )


def _written(folder: Path, studies: int) -> Path:
    """Round heads of mottled brain in a skull, a folder each."""
    side = (np.arange(SIZE) - SIZE / 2) * 250 / SIZE
    radius = np.hypot(side[:, None], side[None])
    brain = np.random.default_rng(0).integers(20, 45, (SLICES, SIZE, SIZE))
    hu = np.where(radius < 80, brain, np.where(radius < 87, 900, -1000)).astype(np.int16)
    for number in range(studies):
        series = SeriesToWrite(
            hu=hu,
            position_mm=np.array([(-125.0, -125.0, 5.0 * i) for i in range(SLICES)]),
            row_dir=(1.0, 0.0, 0.0),
            col_dir=(0.0, 1.0, 0.0),
            pixel_spacing_mm=(250 / SIZE, 250 / SIZE),
            slice_thickness_mm=5.0,
            patient_id=f"benchmark {number}",
            study_uid=uid("benchmark study", number),
            series_uid=uid("benchmark series", number),
            sop_uids=[uid("benchmark slice", number, i) for i in range(SLICES)],
            file_names=[f"{i:04d}.dcm" for i in range(SLICES)],
            instance_numbers=list(range(1, SLICES + 1)),
        )
        write_series(series, folder / f"{number:03d}")
    return folder


def _peak_mib(config: Config, folder: Path) -> float:
    """The most memory that a fresh process takes for some studies, its libraries and model included."""
    with tempfile.TemporaryDirectory() as out:
        _Work(_model(config), Path(out)).served(sorted(folder.iterdir())[:MEMORY_STUDIES])
    return peak_kib() / 1024


@contextmanager
def _without_openvino() -> Iterator[None]:
    """As if OpenVINO were not installed."""
    modules: Any = sys.modules
    package = modules["openvino"]
    modules["openvino"] = None  # so its import fails
    try:
        yield
    finally:
        modules["openvino"] = package
