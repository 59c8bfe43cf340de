"""The scores that the repository keeps give the table that its documents show."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ich3d.ablation.run import rebuild
from ich3d.config.load import load_config
from ich3d.config.schema import ReportConfig

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "heading", "least"),
    [
        ("context", "## CT-ICH: ", 20),
        ("seeds", "## CT-ICH with", 3),
        ("learning_curve", "## What more patients", 6),
        ("pretraining", "## Are phantoms worth", 6),
    ],
)
def test_a_ct_ich_table_is_what_its_kept_scores_give(
    name: str, heading: str, least: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the data: only scores and labels. Few resamples, for the values do not depend on them."""
    monkeypatch.delenv("ICH3D_CT_ICH", raising=False)
    shutil.copytree(ROOT / "docs" / "evidence" / "ct_ich", tmp_path / "scores")
    config = load_config(ROOT / "configs" / "ablations" / f"{name}.yaml")
    lines = rebuild(replace(config, report=ReportConfig(resamples=2)), tmp_path / "scores").lines
    text = (ROOT / "docs" / "results.md").read_text()
    table = text[text.index(heading) :].removeprefix("##").partition("\n## ")[0]
    shown = {cells[0]: cells[1:] for cells in _rows(table)}
    labels = ("epidural", "intraparenchymal", "any")
    made = {
        line.name: [
            f"{line.weighted_log_loss.value:.4f}",
            "" if np.isnan(line.spread) else f"{line.spread:.4f}",
            "" if line.difference is None else f"{line.difference.value:+.4f}",
            *(f"{line.auc[label].value:.3f}" for label in labels),
        ]
        for line in lines
    }
    assert len(shown) > least
    assert {name: made[name] for name in shown} == shown


def _rows(text: str) -> list[list[str]]:
    """The table's rows: a name, and the first word of each further cell."""
    rows = [
        line.strip("| ").split("|")
        for line in text.splitlines()
        if re.match(r"\| [^|]+ \| \d", line)
    ]
    return [[row[0].strip(), *(cell.strip().partition(" ")[0] for cell in row[1:])] for row in rows]
