"""The run folder: every path and file name in it, and how files get there whole.

inspect.csv folds.csv rejected.csv unmatched.csv store/ encoder/fold<k>/ context/fold<k>/
stack/fold<k>/ oof/<stage>.csv model/ run.json report.html
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ich3d.core.errors import DataError


@dataclass(frozen=True)
class Workspace:
    """One run's folder."""

    root: Path

    def source(self, kind: str) -> Path:
        """DICOM that the run itself made: phantoms, imports."""
        return self.root / "source" / kind

    @property
    def inspect(self) -> Path:
        return self.root / "inspect.csv"

    @property
    def folds(self) -> Path:
        return self.root / "folds.csv"

    @property
    def rejected(self) -> Path:
        return self.root / "rejected.csv"

    @property
    def unmatched(self) -> Path:
        return self.root / "unmatched.csv"

    @property
    def store(self) -> Path:
        return self.root / "store"

    def stage(self, name: str, fold: int) -> Path:
        """The folder of one stage's model of one fold."""
        return self.root / name / f"fold{fold}"

    def variant(self, name: str, inputs: str, fold: int) -> Path:
        """The folder of one stage of one fold that an ablation trained from other inputs than the run's."""
        return self.root / "ablation" / f"{name}-{inputs[:12]}" / f"fold{fold}"

    def oof(self, stage: str) -> Path:
        """Out-of-fold scores of a stage."""
        return self.root / "oof" / f"{stage}.csv"

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def run(self) -> Path:
        return self.root / "run.json"

    @property
    def scores(self) -> Path:
        """The out-of-fold scores of an ablation's rows, a file a row."""
        return self.root / "ablation" / "scores"

    @property
    def lookalikes(self) -> Path:
        """How each stage does on phantoms' look-alikes."""
        return self.root / "lookalikes.csv"

    @property
    def report(self) -> Path:
        return self.root / "report.html"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary sibling to write a file or folder to; it takes `path`'s place when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    _remove(partial)
    try:
        yield partial
        if partial.is_dir():
            _remove(path)
        os.replace(partial, path)
    finally:
        _remove(partial)


def write_json(path: Path, tree: Any) -> None:
    with replacing(path) as partial:
        partial.write_text(json.dumps(tree, indent=1, sort_keys=True) + "\n")


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except (ValueError, UnicodeDecodeError):
        raise DataError(f"{path} is no JSON") from None


def write_csv(path: Path, table: pd.DataFrame) -> None:
    with replacing(path) as partial:
        table.to_csv(partial, index=False, lineterminator="\n", errors="backslashreplace")


def read_csv(path: Path, text: tuple[str, ...] = ()) -> pd.DataFrame:
    """The table in `path`; the columns in `text` stay strings, empty where empty."""
    try:
        table = pd.read_csv(
            path, dtype=dict.fromkeys(text, str), keep_default_na=False, na_values=[""]
        )
        return table.fillna(dict.fromkeys(text, ""))
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
