"""The scores that the repository keeps give the table that its documents show."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ich3d.ablate import rebuild
from ich3d.core.config import ReportConfig, load_config

ROOT = Path(__file__).parents[2]


def test_the_ct_ich_table_is_what_its_kept_scores_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the data: only scores and labels. Few resamples, for the values do not depend on them."""
    monkeypatch.delenv("ICH3D_CT_ICH", raising=False)
    shutil.copytree(ROOT / "docs" / "evidence" / "ct_ich", tmp_path / "scores")
    config = load_config(ROOT / "configs" / "ablations" / "context.yaml")
    lines = rebuild(replace(config, report=ReportConfig(resamples=2)), tmp_path / "scores").lines
    text = (ROOT / "docs" / "results.md").read_text()
    table = text[text.index("## CT-ICH") : text.index("## Phantoms")]
    shown = dict(re.findall(r"^\| ([^|]+) \| (\d\.\d{4}) \(", table, flags=re.MULTILINE))
    made = {line.name: f"{line.weighted_log_loss.value:.4f}" for line in lines}
    assert len(shown) > 20
    assert {name: made[name] for name in shown} == shown
