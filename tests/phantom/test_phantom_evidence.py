"""The phantom is hard for the right reason: look-alikes fool one slice, and its neighbours tell."""

from pathlib import Path

import pandas as pd
import pytest

from ich3d.ablation.run import ablate
from ich3d.config.root import Config
from ich3d.config.schema import PhantomConfig, PrepareConfig, SlicesConfig, StackConfig
from ich3d.core.labels import SUBTYPES
from ich3d.core.metrics import weighted_log_loss
from ich3d.core.workspace import Workspace, read_csv
from ich3d.evaluation.run import OutOfFold, out_of_fold

BLEEDS = {
    **dict.fromkeys(SUBTYPES, 0.0),
    "intraparenchymal": 0.6,
}  # what an encoder learns in minutes


def trained(folder: Path, lookalikes: float) -> Config:
    from ich3d.crossfit.train import train

    config = Config(
        workspace=str(folder),
        phantom=PhantomConfig(studies=60, matrix=128, lookalikes=lookalikes, prevalence=BLEEDS),
        prepare=PrepareConfig(matrix=96, pixel_mm=2.3, folds=3),
        slices=SlicesConfig(
            encoder="resnet10", neighbours=0, epochs=8, batch_size=16, lr=2e-3, mixup=0.0
        ),
        stack=StackConfig(num_trees=40),
    )
    train(config)
    return config


def gain_of_context(result: OutOfFold) -> float:
    encoder, context = (
        weighted_log_loss(result.rows[name], result.truth.target) for name in ("encoder", "context")
    )
    return encoder - context


@pytest.fixture(scope="module")
def with_lookalikes(tmp_path_factory: pytest.TempPathFactory) -> tuple[OutOfFold, pd.DataFrame]:
    config = trained(tmp_path_factory.mktemp("with"), lookalikes=1.0)
    workspace = Workspace(Path(config.workspace))
    result = out_of_fold(workspace)
    ablate(config)
    table = read_csv(workspace.lookalikes)
    return result, table.pivot(index="slices without a bleed", columns="row", values="loss")


@pytest.mark.slow
def test_a_look_alike_fools_the_encoder_and_context_mends_it(
    with_lookalikes: tuple[OutOfFold, pd.DataFrame],
) -> None:
    loss = with_lookalikes[1]
    assert loss.loc["look-alike", "encoder"] > 1.5 * loss.loc["none", "encoder"]
    assert loss.loc["look-alike", "context"] < loss.loc["look-alike", "encoder"]
    mended = loss["encoder"] - loss["context"]
    assert mended["look-alike"] > mended["none"]


@pytest.mark.slow
def test_without_look_alikes_context_gains_less(
    with_lookalikes: tuple[OutOfFold, pd.DataFrame], tmp_path: Path
) -> None:
    plain = out_of_fold(Workspace(Path(trained(tmp_path, lookalikes=0.0).workspace)))
    assert 0 < gain_of_context(plain) < gain_of_context(with_lookalikes[0])
