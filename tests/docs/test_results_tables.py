"""The tables of docs/results.md agree with the scores that the repository keeps."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ich3d.ablation.run import rebuild
from ich3d.config.load import load_config
from ich3d.config.schema import ReportConfig
from ich3d.evaluation.table import ResultRow

ROOT = Path(__file__).parents[2]
AUC_LABELS = ("epidural", "intraparenchymal", "any")


@pytest.mark.parametrize(
    ("config_name", "folder", "heading", "fewest_rows"),
    [
        ("seeds", "ct_ich", "## CT-ICH: ", 6),
        ("feeding", "ct_ich_feeding", "## Ways to feed", 15),
        ("context", "ct_ich_context", "## What context is worth on CT-ICH", 33),
        ("cut", "ct_ich_cut", "## Cut series of CT-ICH", 9),
        ("stacker", "ct_ich_stacker", "## The stacker of CT-ICH", 8),
    ],
)
def test_a_table_on_ct_ich_is_rebuilt_from_its_kept_scores(
    config_name: str,
    folder: str,
    heading: str,
    fewest_rows: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without the data. Two resamples are enough, because intervals are not compared."""
    monkeypatch.delenv("ICH3D_CT_ICH", raising=False)
    shutil.copytree(ROOT / "docs" / "evidence" / folder, tmp_path / "scores")
    config = load_config(ROOT / "configs" / "ablations" / f"{config_name}.yaml")
    result = rebuild(replace(config, report=ReportConfig(resamples=2)), tmp_path / "scores")
    has_seeds = any(row.seeds > 1 for row in result.rows)
    rebuilt = {row.name: cells(row, has_seeds) for row in result.rows}

    documented = documented_rows(section(heading))
    assert len(documented) >= fewest_rows
    assert {name: rebuilt[name] for name in documented} == documented


def cells(row: ResultRow, has_seeds: bool) -> list[str]:
    """The values of a row without their intervals, as the documents show them.

    A table whose rows have several seeds has a column for the SD over them.
    """
    spread = "" if np.isnan(row.spread) else f"{row.spread:.4f}"
    return [
        f"{row.weighted_log_loss.value:.4f}",
        *([spread] if has_seeds else []),
        "" if row.difference is None else f"{row.difference.value:+.4f}",
        *(f"{row.auc[label].value:.3f}" for label in AUC_LABELS),
    ]


def section(heading: str) -> str:
    """The section of docs/results.md under a heading that starts with `heading`."""
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    return text[text.index(heading) :].removeprefix("##").partition("\n## ")[0]


def documented_rows(text: str) -> dict[str, list[str]]:
    """The rows of the tables in `text`: by name, the first word of each further cell."""
    lines = [line for line in text.splitlines() if re.match(r"\| [^|]+ \| \d", line)]
    rows = [line.strip("| ").split("|") for line in lines]
    return {row[0].strip(): [cell.strip().partition(" ")[0] for cell in row[1:]] for row in rows}
