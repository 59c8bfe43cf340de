"""Benchmark of prediction: from a study on disk to its tables.

Compared with a plain loop over files, as in the code of the RSNA 2019 contest: pydicom, resize,
network, one slice after the other.

The model is SE-ResNeXt50 at 384 x 384 pixels with random weights, one fold and one network; it
reads single slices without their mirror images, as the loop does. Its scores mean nothing, but
computing them costs the same as with trained weights.
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

from ich3d.benchmarks.studies import SLICES, round_head
from ich3d.benchmarks.timing import (
    Candidate,
    Timing,
    describe_machine,
    markdown_table,
    peak_kib,
    time_candidates,
)
from ich3d.config.root import Config
from ich3d.config.schema import ContextConfig, PrepareConfig, SlicesConfig
from ich3d.context.bigru import ContextEnsemble
from ich3d.core.labels import LABELS
from ich3d.core.types import Rejected, TrainingGroups
from ich3d.core.windows import window
from ich3d.dicom.index import index
from ich3d.dicom.volume import load_volume
from ich3d.dicom.write import write_series
from ich3d.inference.run import predict_to_folder
from ich3d.model.fold_model import FoldModel
from ich3d.model.folder import Model
from ich3d.prepare.series import prepare_series
from ich3d.slices.encoder import EncoderEnsemble, SliceEncoder
from ich3d.stack.booster import Stacker

SIZE: Final = 512
"""Rows and columns of a slice, in pixels."""

MEMORY_STUDIES: Final = 3
"""Studies that are predicted to measure memory: one is read while another is scored."""

CONFIG: Final = Config(
    prepare=PrepareConfig(matrix=384, pixel_mm=0.65),
    slices=SlicesConfig(encoder="seresnext50", neighbours=0, symmetry=False, tta_flip=False),
    context=ContextConfig(ensemble_size=1),
)

STARTER: Final = Config(
    slices=SlicesConfig(
        encoder="efficientnet-lite0",
        windows=("brain", "blood", "soft"),
        neighbours=0,
        symmetry=False,
        tta_flip=False,
    ),
    context=ContextConfig(ensemble_size=1),
)
"""The network and the grid of the starter model, without mirror images, as the plain loop."""

CONFIGS: Final = {"seresnext50": CONFIG, "starter": STARTER}

PACKAGES: Final = ("ich3d", "torch", "monai", "openvino", "pydicom", "numpy")


@dataclass(frozen=True)
class ModelWork:
    """The work that is timed, for one model; tables are written below the folder `out`."""

    model: Model
    out: Path

    @property
    def path(self) -> str:
        """Library and precision that the encoder runs in, e.g. `openvino bf16`."""
        return self.model.encoders.runtime

    def predict(self, folders: Sequence[Path]) -> object:
        """Predict with ich3d: from DICOM files to tables."""
        with tempfile.TemporaryDirectory(dir=self.out) as out:
            return predict_to_folder(self.model, folders, Path(out))

    def encode(self, folders: Sequence[Path], hu: np.ndarray) -> object:
        """Run the encoder alone on prepared pixels `hu` int16 (Z, H, W)."""
        return self.model.encoders.embed(hu)

    def plain_loop(self, folders: Sequence[Path]) -> object:
        """Predict file by file with pydicom and the network, in float32."""
        files = [file for folder in folders for file in sorted(folder.iterdir())]
        rows = [_score_file(self.model, file) for file in files]
        table = pd.DataFrame(rows, columns=["sop_uid", *LABELS])
        table.to_csv(self.out / "plain.csv", index=False)
        return table


def benchmark_predict(repeats: int, studies: int, config: Config = CONFIG) -> str:
    """All tables as markdown: against the plain loop, by parts, and peak memory.

    Args:
        repeats: rounds that count.
        studies: number of studies in the folder of several.
        config: describes the model, which has random weights.
    """
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        folder = _write_studies(out / "studies", studies)
        first_study = min(folder.iterdir())
        works = _works_by_path(config, out)

        has_openvino = len(works) > 1
        packages = [package for package in PACKAGES if package != "openvino" or has_openvino]
        sections = [describe_machine(packages)]
        sections.append(_plain_loop_table(works, first_study, repeats))
        sections += [_parts_table(work, first_study, folder, repeats) for work in works]

        with get_context("spawn").Pool(1) as pool:
            peak_mib = pool.apply(_peak_mib, (config, folder))
        sections.append(f"Peak memory of {works[0].path}: {peak_mib:.0f} MiB")
        return "\n\n".join(sections)


def _works_by_path(config: Config, out: Path) -> list[ModelWork]:
    """The fastest path on this machine; if that is OpenVINO, torch as well."""
    fastest = ModelWork(_random_model(config), out)
    if not fastest.path.startswith("openvino"):
        return [fastest]

    with_torch = ModelWork(_random_model(config), out)
    with _without_openvino():
        assert with_torch.path.startswith("torch")  # a model chooses its path once
    return [fastest, with_torch]


def _plain_loop_table(works: Sequence[ModelWork], study: Path, repeats: int) -> str:
    """One study to tables: ich3d on each path, and the plain loop."""
    candidates = [Candidate("plain loop", works[0].plain_loop, (study,))]
    for work in works:
        candidates.append(Candidate(f"ich3d predict, {work.path}", work.predict, (study,)))

    timings = time_candidates(candidates, "plain loop", repeats)
    title = f"{SLICES} slices of {SIZE} x {SIZE} to tables"
    rows = [(timing.name, f"{timing.seconds:.2f}", f"{1 / timing.ratio:.1f}") for timing in timings]
    return markdown_table((title, "s", "rate / plain loop"), rows)


def _parts_table(work: ModelWork, study: Path, folder: Path, repeats: int) -> str:
    """The encoder alone, one study, and a study among several that are predicted together."""
    hu = _prepared_hu(study, work.model.config)
    count = len(list(folder.iterdir()))
    candidates = [
        Candidate("network alone", partial(work.encode, hu=hu), (study,)),
        Candidate("one study", work.predict, (study,)),
        Candidate(f"a study of {count}", work.predict, (folder,)),
    ]
    network, single, several = time_candidates(candidates, "one study", repeats)

    # The ratios are relative to one study; the table shows them relative to the network alone.
    rows = [
        _study_cells(network, 1, 1.0),
        _study_cells(single, 1, 1 / network.ratio),
        _study_cells(several, count, several.ratio / count / network.ratio),
    ]
    return markdown_table((work.path, "s a study", "time / network alone"), rows)


def _study_cells(timing: Timing, studies: int, ratio: float) -> tuple[str, str, str]:
    """Name, seconds a study, and ratio to the network alone."""
    return timing.name, f"{timing.seconds / studies:.2f}", f"{ratio:.2f}"


def _prepared_hu(study: Path, config: Config) -> np.ndarray:
    """Prepared pixels int16 (Z, H, W) of the one series in a study."""
    (series,) = index(study).series
    volume = load_volume(series)
    assert not isinstance(volume, Rejected)
    prepared = prepare_series(volume, config.prepare)
    assert not isinstance(prepared, Rejected)
    return prepared.hu


def _score_file(model: Model, file: Path) -> list[object]:
    """SOPInstanceUID and six probabilities of one file, by the plain loop."""
    config = model.config
    encoder = cast(SliceEncoder, model.fold_models[0].encoder.members[0])

    ds = pydicom.dcmread(file)
    hu = ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept)  # (Y, X)
    windows = [window(name) for name in config.slices.windows]
    planes = [np.clip((hu - w.low) / w.width, 0, 1) - 0.5 for w in windows]
    image = torch.from_numpy(np.stack(planes)[None]).float()  # (1, W, Y, X)

    size = (config.prepare.matrix, config.prepare.matrix)
    with torch.no_grad():
        image = nn.functional.interpolate(
            image, size=size, mode="bilinear", align_corners=False
        )  # (1, W, H, H)
        _, logits = encoder.encode(image)  # (1, K)
    return [ds.SOPInstanceUID, *torch.sigmoid(logits)[0].tolist()]


def _random_model(config: Config) -> Model:
    """A model of one fold with random weights, without a stacker."""
    torch.manual_seed(0)
    encoder = EncoderEnsemble.from_config(config.slices).eval().requires_grad_(False)
    context = ContextEnsemble.from_config(config.context, encoder.embedding_width).eval()
    fold_model = FoldModel(0, encoder, context, Stacker.empty(), TrainingGroups.of([]))
    fingerprint = {"ranges": {}, "prevalence": dict.fromkeys(LABELS, 0.1)}
    return Model(config, [fold_model], fingerprint, "random")


def _write_studies(folder: Path, studies: int) -> Path:
    """Write studies of a round head, each to a folder of its own."""
    for number in range(studies):
        write_series(round_head(number, SIZE), folder / f"{number:03d}")
    return folder


def _peak_mib(config: Config, folder: Path) -> float:
    """Peak memory in MiB of a process that predicts a few studies, with libraries and model."""
    with tempfile.TemporaryDirectory() as out:
        work = ModelWork(_random_model(config), Path(out))
        work.predict(sorted(folder.iterdir())[:MEMORY_STUDIES])
    return peak_kib() / 1024


@contextmanager
def _without_openvino() -> Iterator[None]:
    """Let imports of OpenVINO fail inside the block, as if it was not installed."""
    modules: Any = sys.modules
    package = modules["openvino"]
    modules["openvino"] = None
    try:
        yield
    finally:
        modules["openvino"] = package
