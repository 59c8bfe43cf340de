"""Running an ablation: every row over the folds and encoders of one run, each trained once and then kept."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ich3d.ablation.lookalikes import on_lookalikes
from ich3d.ablation.page import write_page
from ich3d.ablation.score_cache import (
    CachedScores,
    Provenance,
    ground_truth_of,
    read_ground_truth,
    read_row,
    row_file,
    write_ground_truth,
    write_row,
)
from ich3d.config.ablation import STACKED, AblationRow
from ich3d.config.load import as_dict, with_overrides
from ich3d.config.renamed import with_old_names
from ich3d.config.root import Config
from ich3d.core.errors import ConfigError, DataError
from ich3d.core.progress import Progress, quiet
from ich3d.core.types import SliceScores
from ich3d.core.workspace import Workspace, read_csv, read_json, replacing, write_csv
from ich3d.crossfit.stages import FORMATS, Stages
from ich3d.crossfit.status import weights_sha256
from ich3d.evaluation.baselines import (
    BASELINE_FORMAT,
    base_rate,
    label_continuity,
    places,
    position_only,
    rolling_mean,
)
from ich3d.evaluation.ground_truth import GroundTruth
from ich3d.evaluation.table import Result, compare, markdown, tidy
from ich3d.prepare.build import prepare
from ich3d.prepare.store import Store

log = logging.getLogger(__name__)
STAGE_ROWS = {
    "base rate": AblationRow(predictor="base rate", against="base rate"),
    "position only": AblationRow(predictor="position only", against="base rate"),
    "encoder": AblationRow(predictor="encoder", against="position only", stacker="both"),
    "context": AblationRow(predictor="context", against="encoder", stacker="both"),
}
_BASELINES: Mapping[str, Callable[[GroundTruth], np.ndarray]] = {
    "base rate": lambda truth: base_rate(truth.target, truth.fold),
    "position only": lambda truth: position_only(places(truth.table), truth.target, truth.fold),
    "label continuity": lambda truth: label_continuity(truth.target, truth.fold, truth.volume),
}


def ablate(config: Config, progress: Progress = quiet, name: str = "ablation") -> Result:
    """Run all rows of the config's ablation, or, where it names none, the run's own stages.

    Everything trained and every row's scores are kept in the workspace, so that an interrupted ablation goes
    on where it stopped. Writes `<name>.csv`, `.md` and `.html` there; of phantoms also `lookalikes.csv`.
    ConfigError where a row cannot be run, or where the workspace holds a finished run of other data or folds.
    """
    workspace = Workspace(Path(config.workspace))
    rows = config.ablation.rows or STAGE_ROWS
    for row_name, row in rows.items():
        _shown(row_name, row, config)  # what a row sets is read before anything is trained
    _require_same_data(config, workspace)
    store = prepare(config, progress).store
    truth = ground_truth_of(store)
    write_ground_truth(workspace.scores, truth)
    prob: dict[str, np.ndarray] = {}
    runner = _Runner(config, workspace, store, truth, progress)
    for row_name, row in progress(list(rows.items()), "rows", total=len(rows)):
        log.info("row %s", row_name)
        prob |= runner.row(row_name, row)
    done = _write(config, truth, prob, workspace.root / name)
    if config.source.kind == "phantom":
        kinds = read_csv(workspace.source("phantom") / "truth.csv", text=("sop_uid", "lookalike"))
        write_csv(workspace.lookalikes, on_lookalikes(prob, truth, kinds))
    return done


def rebuild(config: Config, folder: Path, name: str = "ablation") -> Result:
    """The tables and the page of an ablation from the scores kept in `folder` alone, written there.

    DataError where a row is missing, or was made with another config or on other slices than the rest.
    """
    truth, prob = read_ground_truth(folder), {}
    for row_name, row in (config.ablation.rows or STAGE_ROWS).items():
        for shown, wanted in _shown(row_name, row, config).items():
            kept = read_row(row_file(folder, shown))
            if (kept.origin.configs, kept.origin.truth) != (wanted, truth.sha256):
                raise DataError(
                    f"{row_file(folder, shown)} was made with another config or on other slices"
                )
            prob[shown] = kept.prob
    return _write(config, truth, prob, folder / name)


def _require_same_data(config: Config, workspace: Workspace) -> None:
    """A finished run's store and folds are not made anew under it."""
    if not workspace.run.exists():
        return
    ran, wanted = _data(read_json(workspace.run)["config"]), _data(as_dict(config))
    for key, value in wanted.items():
        if ran[key] != value:
            told = f"{workspace.root} holds a finished run with another {key}"
            raise ConfigError(f"{told}: name another workspace")


def _data(tree: Mapping[str, Any]) -> dict[str, object]:
    """What a store and its folds are made by."""
    kind = tree["source"]["kind"]
    phantom = tree["phantom"] if kind == "phantom" else None
    return {
        "source.kind": kind,
        "phantom": phantom,
        "prepare": tree["prepare"],
        "seed": tree["seed"],
    }


def _write(config: Config, truth: GroundTruth, prob: dict[str, np.ndarray], path: Path) -> Result:
    rows = config.ablation.rows or STAGE_ROWS
    against = {}
    for name, row in rows.items():
        other = row.against or config.ablation.reference
        against[name] = other
        against[name + STACKED] = name if row.stacker == "both" else other
    lines = compare(prob, against, truth, config.report.resamples, config.seed)
    write_csv(path.with_suffix(".csv"), tidy(lines))
    table, page = markdown(lines, truth), path.with_suffix(".html")
    with replacing(path.with_suffix(".md")) as partial:
        partial.write_text(table + "\n", encoding="utf-8")
    write_page(page, config, lines, truth)
    return Result(lines, table, page)


def _shown(name: str, row: AblationRow, config: Config) -> dict[str, tuple[str, ...]]:
    """The lines that a row is shown as, each with the hashes of its seeds' configs."""
    seeds = list(seeds_of(name, row, config))
    formats = {
        line: FORMATS["stack"]
        if line.endswith(STACKED)
        else FORMATS.get(row.predictor, BASELINE_FORMAT)
        for line in row.lines(name)
    }
    return {
        line: tuple(_config_sha256(one, number, row.predictor) for one in seeds)
        for line, number in formats.items()
    }


def seeds_of(name: str, row: AblationRow, config: Config) -> Iterator[Config]:
    """The config of each seed of a row. A row of fixed scores has one."""
    own = with_overrides(config, row.set, f"ablation.rows.{name}")
    is_fixed = row.predictor in _BASELINES or (
        row.predictor != "context" and not row.retrain_encoders and row.stacker == "without"
    )
    for index in range(1 if is_fixed else config.ablation.seeds):
        step = f"seed={config.seed + index}" if row.retrain_encoders else f"replicate={index}"
        yield with_overrides(own, [step], "ablation.seeds")


def _config_sha256(config: Config, stage_format: int, reads: str) -> str:
    """A hash of what scores depend on beside the data."""
    tree = with_old_names(as_dict(config))
    used = {
        name: tree[name]
        for name in tree
        if name not in ("workspace", "report", "ablation", "source")
    }
    return hashlib.sha256(
        json.dumps([stage_format, reads, used], sort_keys=True).encode()
    ).hexdigest()


def _is_kept(path: Path, origin: Provenance) -> bool:
    """Whether the file holds a row of that origin; one that cannot be read does not."""
    try:
        return read_row(path).origin == origin
    except DataError:
        return False


@dataclass(frozen=True)
class _Runner:
    config: Config
    workspace: Workspace
    store: Store
    truth: GroundTruth
    progress: Progress

    def row(self, name: str, row: AblationRow) -> dict[str, np.ndarray]:
        """Scores (S, N, K) of each line of a row, trained where they are not kept."""
        shown = _shown(name, row, self.config)
        files = {line: row_file(self.workspace.scores, line) for line in shown}
        weights = weights_sha256(with_overrides(self.config, row.set, f"ablation.rows.{name}"))
        store = tuple(self.store.identity)
        wanted = {
            line: Provenance(self.truth.sha256, configs, weights, store)
            for line, configs in shown.items()
        }
        if not all(_is_kept(files[line], origin) for line, origin in wanted.items()):
            runs = [self._scores(row, one) for one in seeds_of(name, row, self.config)]
            for index, (line, origin) in enumerate(wanted.items()):
                write_row(files[line], CachedScores(np.stack([run[index] for run in runs]), origin))
        return {line: read_row(path).prob for line, path in files.items()}

    def _scores(self, row: AblationRow, config: Config) -> list[np.ndarray]:
        """The row's scores (N, K) with one config, and those of a stacker on it where the row asks for it."""
        if row.predictor in _BASELINES:
            return [_BASELINES[row.predictor](self.truth)]
        stages = Stages(config, self.workspace, self.store, self.config)
        embedded = stages.embedded(self.progress)
        encoder = stages.encoder(embedded)
        below = stages.context(embedded, self.progress) if row.predictor == "context" else encoder
        prob = [] if row.stacker == "only" else [self._pooled(below)]
        if row.stacker != "without":
            prob.append(self._pooled(stages.stack(embedded, below, self.progress)))
        if row.predictor == "rolling mean":
            truth = self.truth
            prob = [rolling_mean(one, truth.target, truth.fold, truth.volume) for one in prob]
        return prob

    def _pooled(self, scores: Mapping[str, SliceScores]) -> np.ndarray:
        return np.concatenate([scores[name].prob for name in self.store.volume_ids]).astype(
            np.float64
        )
