"""The benchmark of prediction runs, on a model so small that its times mean nothing."""

import pytest

from ich3d.benchmarks.predict import benchmark_predict
from ich3d.config.root import Config
from ich3d.config.schema import ContextConfig, PrepareConfig, SlicesConfig


@pytest.mark.slow
def test_the_benchmark_runs() -> None:
    config = Config(
        prepare=PrepareConfig(matrix=48, pixel_mm=4.8),
        slices=SlicesConfig(encoder="resnet10-half", neighbours=0, symmetry=False, tta_flip=False),
        context=ContextConfig(ensemble_size=1),
    )
    table = benchmark_predict(repeats=1, studies=2, config=config)
    for name in (
        "plain loop",
        "ich3d predict, torch",
        "network alone",
        "a study of 2",
        "Peak memory",
    ):
        assert name in table
