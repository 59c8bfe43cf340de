"""The phantom is hard for the right reason: look-alikes fool the encoder, context does not."""

from pathlib import Path

import pytest

from ich3d.ablation.run import ablate
from ich3d.config.root import Config
from ich3d.config.schema import PhantomConfig, PrepareConfig, SlicesConfig, StackConfig
from ich3d.core.labels import SUBTYPES
from ich3d.core.metrics import weighted_log_loss
from ich3d.core.workspace import Workspace, read_csv
from ich3d.evaluation.run import OutOfFold, out_of_fold

# Only a subtype that an encoder learns within minutes.
PREVALENCE = {**dict.fromkeys(SUBTYPES, 0.0), "intraparenchymal": 0.6}

LossTable = dict[tuple[str, str], float]
"""Log loss on slices without a bleed, by ("look-alike" or "none", stage)."""


def trained(folder: Path, lookalikes: float) -> Config:
    """A run trained on phantoms with the probability `lookalikes` of each kind."""
    from ich3d.crossfit.train import train

    config = Config(
        workspace=str(folder),
        phantom=PhantomConfig(studies=60, matrix=128, lookalikes=lookalikes, prevalence=PREVALENCE),
        prepare=PrepareConfig(matrix=96, pixel_mm=2.3, folds=3),
        slices=SlicesConfig(
            encoder="resnet10", neighbours=0, epochs=8, batch_size=16, lr=2e-3, mixup=0.0
        ),
        stack=StackConfig(num_trees=40),
    )
    train(config)
    return config


def gain_of_context(result: OutOfFold) -> float:
    """By how much context lowers the weighted log loss of the encoder."""
    encoder, context = (
        weighted_log_loss(result.prob[stage], result.truth.target)
        for stage in ("encoder", "context")
    )
    return encoder - context


@pytest.fixture(scope="module")
def with_lookalikes(tmp_path_factory: pytest.TempPathFactory) -> tuple[OutOfFold, LossTable]:
    config = trained(tmp_path_factory.mktemp("with"), lookalikes=1.0)
    workspace = Workspace(Path(config.workspace))
    result = out_of_fold(workspace)
    ablate(config)
    table = read_csv(workspace.lookalikes)
    keys = zip(table["slices without a bleed"], table["row"], strict=True)
    return result, {
        (str(subset), str(row)): float(loss)
        for (subset, row), loss in zip(keys, table["loss"], strict=True)
    }


@pytest.mark.slow
def test_a_lookalike_fools_the_encoder_and_context_corrects_it(
    with_lookalikes: tuple[OutOfFold, LossTable],
) -> None:
    _, loss = with_lookalikes
    assert loss["look-alike", "encoder"] > 1.5 * loss["none", "encoder"]
    assert loss["look-alike", "context"] < loss["look-alike", "encoder"]
    gain_with = loss["look-alike", "encoder"] - loss["look-alike", "context"]
    gain_without = loss["none", "encoder"] - loss["none", "context"]
    assert gain_with > gain_without


@pytest.mark.slow
def test_without_lookalikes_context_gains_less(
    with_lookalikes: tuple[OutOfFold, LossTable], tmp_path: Path
) -> None:
    plain = out_of_fold(Workspace(Path(trained(tmp_path, lookalikes=0.0).workspace)))
    assert 0 < gain_of_context(plain) < gain_of_context(with_lookalikes[0])
