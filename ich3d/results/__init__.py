"""What rows of scores are worth: every figure of one table, for a run's stages as for an ablation's rows."""

from ich3d.results.run import OutOfFold, out_of_fold
from ich3d.results.table import FEW_PATIENTS, Line, Result, as_served, auc_cell, compare, markdown, tidy
from ich3d.results.truth import Truth

__all__ = [
    "FEW_PATIENTS",
    "Line",
    "OutOfFold",
    "Result",
    "Truth",
    "as_served",
    "auc_cell",
    "compare",
    "markdown",
    "out_of_fold",
    "tidy",
]
