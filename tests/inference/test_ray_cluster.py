"""Prediction on a Ray cluster of two nodes on this machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ich3d.dicom.write import write_series
from tests.helpers.ray_cluster import running_cluster
from tests.helpers.series import head_series


@pytest.mark.slow
def test_a_tree_of_studies_is_scored_as_in_one_process(tmp_path: Path) -> None:
    for number in range(4):
        write_series(head_series(name=f"head{number}", n=6), tmp_path / "in" / str(number))
    tables = []
    with running_cluster() as cluster:
        for name, options in (("here", []), ("there", ["--ray", cluster.address])):
            out = tmp_path / name
            subprocess.run(
                [sys.executable, "-m", "ich3d", "predict", tmp_path / "in", "-o", out, *options],
                check=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},  # as Ray gives a process of one CPU
            )
            tables.append([(out / f"{table}.csv").read_bytes() for table in ("slices", "series")])
    assert tables[0] == tables[1]
    assert tables[0][0].count(b"\n") == 1 + 4 * 6
