"""The code of `docs/your_own_loop.md` runs as it stands there, and makes a model that predicts."""

import re
import shutil
from pathlib import Path

import pytest

import ich3d
from ich3d.ablation.run import ablate
from ich3d.config.load import with_overrides
from ich3d.config.root import Config
from ich3d.core.errors import ConfigError
from ich3d.core.workspace import Workspace
from ich3d.model.info import info

PAGE = Path(__file__).parents[2] / "docs" / "your_own_loop.md"
N_LABELS = 6


def page_code() -> str:
    """The page's only block of Python."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return str(code)


def test_the_loop_is_short() -> None:
    lines = [line for line in page_code().splitlines() if line.strip()]
    assert len(lines) < 30


def test_the_loop_trains_a_model_that_predicts(
    finished_run: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(Path(finished_run.workspace))
    shutil.copytree(workspace.store, tmp_path / "runs" / "demo" / "store")
    monkeypatch.chdir(tmp_path)
    exec(compile(page_code(), str(PAGE), "exec"), {"__name__": "__main__"})

    folder = tmp_path / "runs" / "demo" / "own_model"
    assert info(folder)["held_out"].startswith("not proven")
    model = ich3d.load_model(folder)
    study = workspace.source("phantom") / "unlabelled"
    (prediction,) = ich3d.predict(model, study).series
    assert prediction.prob["stack"].shape == (len(prediction.series.keys), N_LABELS)

    weights = folder / "encoder" / "fold0.safetensors"
    started_from_it = with_overrides(finished_run, [f"slices.weights={weights}"], "test")
    with pytest.raises(ConfigError, match="does not record its training patients"):
        ablate(started_from_it)
