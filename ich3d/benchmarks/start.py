"""Benchmark of the first prediction: from the start of the program to a study's tables.

Compared with starting Python and importing the three libraries that any such program needs. Both
run in a process of their own, one after the other.
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ich3d.benchmarks.timing import Candidate, describe_machine, markdown_table, time_candidates
from ich3d.config.schema import PhantomConfig
from ich3d.inference.run import predict_to_folder
from ich3d.model.folder import load_model
from ich3d.phantom import write_phantoms

IMPORTS: Final = "import torch, monai, lightgbm"
PREDICT: Final = """
import sys
sys.modules["openvino"] = None
from ich3d.cli.parser import main
sys.exit(main(sys.argv[1:]))
"""
"""The command line with torch alone, as if OpenVINO was not installed."""

SEED: Final = 5
PACKAGES: Final = ("ich3d", "torch", "monai", "lightgbm")


def benchmark_start(repeats: int, model: Path) -> str:
    """The table as markdown: libraries alone, a prediction from the start, and with the model
    loaded.

    Args:
        repeats: rounds that count.
        model: the model folder.
    """
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        list(write_phantoms(PhantomConfig(studies=1, matrix=512), SEED, out / "phantoms"))
        study = out / "phantoms" / "study-0000"
        loaded = load_model(model)

        def imports(files: Sequence[Path]) -> object:
            return _run(IMPORTS)

        def from_start(files: Sequence[Path]) -> object:
            with tempfile.TemporaryDirectory(dir=out) as tables:
                return _run(PREDICT, "predict", str(study), "-o", tables, "--model", str(model))

        def with_model(files: Sequence[Path]) -> object:
            with tempfile.TemporaryDirectory(dir=out) as tables:
                return predict_to_folder(loaded, [study], Path(tables))

        candidates = [
            Candidate(f"python -c '{IMPORTS}'", imports, ()),
            Candidate("ich3d predict, torch alone", from_start, ()),
            Candidate(f"the model loaded, {loaded.encoders.runtime}", with_model, ()),
        ]
        timings = time_candidates(candidates, candidates[0].name, repeats)
        n_slices = len(list(study.rglob("*.dcm")))
    rows = [(timing.name, f"{timing.seconds:.2f}", f"{timing.ratio:.2f}") for timing in timings]
    title = f"a study of {n_slices} slices of 512 x 512"
    return "\n\n".join([describe_machine(PACKAGES), markdown_table((title, "s", "ratio"), rows)])


def _run(code: str, *arguments: str) -> object:
    """Run Python code in a process of its own."""
    return subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)
