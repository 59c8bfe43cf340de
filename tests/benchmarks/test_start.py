"""The benchmark of the first prediction runs; its times mean nothing here."""

import pytest

from ich3d.benchmarks.start import IMPORTS, benchmark_start
from ich3d.config.root import Config
from tests.helpers.runs import workspace_of


@pytest.mark.slow
def test_the_benchmark_runs(finished_run: Config) -> None:
    table = benchmark_start(1, workspace_of(finished_run).model)
    for name in (IMPORTS, "ich3d predict, torch alone", "the model loaded"):
        assert name in table
