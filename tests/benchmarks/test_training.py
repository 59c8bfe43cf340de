"""The benchmark of a training step runs; its times mean nothing here."""

from ich3d.benchmarks.training import benchmark_training


def test_the_benchmark_runs() -> None:
    encoders = ["resnet10-half", "efficientnet-lite0"]
    fed = [("resnet10-half", 48)]
    table = "\n".join(
        benchmark_training(encoders, 32, 2, seconds=0.01, fed=fed, studies=6, rounds=1)
    )
    for text in (
        "| resnet10-half |",
        "| efficientnet-lite0 |",
        "2 stacks of three slices",
        "| 48 |",
    ):
        assert text in table
