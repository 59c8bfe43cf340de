"""The benchmark of a training step runs; its times mean nothing here."""

from ich3d.benchmarks.training import benchmark_training


def test_the_benchmark_runs() -> None:
    table = benchmark_training(["resnet10-half", "efficientnet-lite0"], 32, 2, seconds=0.01)
    for text in ("| resnet10-half |", "| efficientnet-lite0 |", "2 stacks of three slices"):
        assert text in table
