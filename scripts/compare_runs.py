"""Compare the out-of-fold scores of two finished runs on the same patients, stage by stage.

Both runs have to hold the same slices in the same folds; their grids and models may differ.

    python scripts/compare_runs.py runs/ct_ich runs/ct_ich_scratch
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from ich3d.core.errors import DataError
from ich3d.core.ground_truth import GroundTruth
from ich3d.core.labels import STAGES
from ich3d.core.workspace import Workspace
from ich3d.crossfit.out_of_fold import probabilities, read_oof
from ich3d.evaluation.claims import claim
from ich3d.evaluation.table import compare, markdown

DRAWS = 1000
KEYS = ["sop_uid", "frame", "group_id", "fold"]


def compare_runs(run: Path, other: Path) -> str:
    """The table as markdown, each stage of `run` and of `other` against it, and what they show.

    Raises:
        DataError: the runs do not hold the same slices in the same folds.
    """
    prob: dict[str, np.ndarray] = {}
    against: dict[str, str] = {}
    table = pd.DataFrame()
    for stage in STAGES:
        table, others = (read_oof(Workspace(folder), stage) for folder in (run, other))
        if not table[KEYS].equals(others[KEYS]):
            raise DataError(f"{run} and {other} do not hold the same slices in the same folds")
        own_name, other_name = f"{stage}, {run.name}", f"{stage}, {other.name}"
        prob |= {own_name: probabilities(table)[None], other_name: probabilities(others)[None]}
        against |= {own_name: own_name, other_name: own_name}

    truth = GroundTruth(table)
    rows = compare(prob, against, truth, DRAWS, seed=0)
    claims = [
        claim("Weighted log loss", row.name, str(row.against), row.difference, row.verdict)
        for row in rows
        if row.difference is not None and row.verdict is not None
    ]
    return "\n".join((markdown(rows, truth), "", *claims))


def main() -> None:
    """Print the table of two run folders."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a run folder")
    parser.add_argument("other", type=Path, metavar="OTHER", help="the run folder to compare")
    arguments = parser.parse_args()
    try:
        sys.stdout.write(compare_runs(arguments.run, arguments.other) + "\n")
    except DataError as error:
        sys.exit(f"compare_runs: {error}")


if __name__ == "__main__":
    main()
