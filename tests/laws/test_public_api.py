"""`import ich3d`: what it offers, when it loads it, and that users' scripts pass a type checker."""

import subprocess
import sys
from pathlib import Path

import pytest

import ich3d
from ich3d.core import errors

ROOT = Path(__file__).parents[2]

USER_SCRIPT = """
import numpy as np
import torch
from torch.utils.data import DataLoader

import ich3d
from ich3d.prepare.store import Store


def train(store: Store) -> ich3d.SliceEncoder:
    encoder = ich3d.SliceEncoder("resnet18", windows=("brain", "bone"), neighbours=1)
    for batch in DataLoader(ich3d.SliceDataset(store, neighbours=1), batch_size=4):
        embeddings, logits = encoder(batch.hu, batch.is_copy)
    return encoder


def largest(folder: str, study: str) -> dict[str, float]:
    try:
        model = ich3d.load_model(folder)
    except ich3d.ModelError as error:
        raise SystemExit(str(error)) from None
    return {
        prediction.series.volume_id: float(prediction.prob["stack"].max())
        for prediction in ich3d.predict(model, study).series
    }


def save(store: Store, encoder: ich3d.SliceEncoder, context: ich3d.ContextModel) -> None:
    stacker: ich3d.Stacker = ich3d.Stacker.empty()
    ich3d.save_model("model", encoder, context, stacker, grid=store, training_groups=["p1"])
    lengths = torch.tensor([30])
    z_mm: torch.Tensor = torch.from_numpy(np.arange(30.0))[None]
    logits: torch.Tensor = context(torch.zeros(1, 30, 512), torch.zeros(1, 30, 6), z_mm, lengths)
    print(logits.shape, isinstance(ich3d.LeakageError("x"), ich3d.Ich3dError))
"""


def run_python(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, encoding="utf-8", check=False, cwd=folder
    )


@pytest.mark.parametrize("name", ich3d.__all__)
def test_every_public_name_is_there(name: str) -> None:
    thing = getattr(ich3d, name)
    assert thing.__doc__
    assert name in dir(ich3d)


def test_all_is_sorted_and_holds_every_error() -> None:
    assert sorted(ich3d.__all__) == ich3d.__all__
    error_names = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert error_names <= set(ich3d.__all__)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'ich3d' has no attribute 'load_modle'"):
        _ = ich3d.load_modle


def test_importing_it_loads_no_network_library() -> None:
    script = (
        "import sys, ich3d; ich3d.DataError; dir(ich3d)\n"
        "heavy = {'torch', 'monai', 'lightgbm', 'pandas', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = run_python("-c", script)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.trains  # it trains nothing, but takes as long
def test_a_users_script_passes_a_strict_type_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "script.py").write_text(USER_SCRIPT)

    # mypy does not follow an editable install.
    monkeypatch.setenv("MYPYPATH", str(ROOT))
    # With the strict settings and the cache of `make check`, torch need not be read again.
    options = (f"--config-file={ROOT / 'pyproject.toml'}", f"--cache-dir={ROOT / '.mypy_cache'}")
    done = run_python("-m", "mypy", *options, "script.py", folder=tmp_path)
    assert "Success" in done.stdout, done.stdout + done.stderr
