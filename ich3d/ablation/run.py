"""Running an ablation: each row is trained once on the folds and encoders of one run, then cached.

A row of the config appears in the table under one or two names: its own, and that of the stacker on
top of it.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ich3d.ablation.lookalikes import lookalike_losses
from ich3d.ablation.page import write_page
from ich3d.ablation.score_cache import (
    CachedScores,
    Provenance,
    ground_truth_of,
    read_ground_truth,
    read_scores,
    scores_file,
    write_ground_truth,
    write_scores,
)
from ich3d.ablation.simulation.sequences import SequenceStore, read_sequences
from ich3d.ablation.simulation.stages import SimulatedStages, simulated_scores
from ich3d.config.ablation import SMOOTHER, STACKED, AblationConfig, AblationRow
from ich3d.config.load import as_dict, with_overrides
from ich3d.config.root import Config
from ich3d.config.schema import IMAGENET, SEQUENCES
from ich3d.core.errors import ConfigError, DataError
from ich3d.core.ground_truth import GroundTruth
from ich3d.core.outputs import claim
from ich3d.core.progress import Progress, quiet
from ich3d.core.types import SliceScores
from ich3d.core.workspace import Workspace, read_csv, read_json, replacing, write_csv
from ich3d.crossfit.inputs import FORMATS, controls_for_hash, weights_sha256
from ich3d.crossfit.ray_cluster import Wanted, train_on_ray
from ich3d.crossfit.stages import Stages
from ich3d.evaluation.baselines import (
    BASELINE_FORMAT,
    base_rate,
    label_continuity,
    position_features_by_volume,
    position_only,
    rolling_mean,
)
from ich3d.evaluation.table import Result, compare, markdown, tidy
from ich3d.model.manifest import has_known_training_groups
from ich3d.prepare.build import prepare, require_labels
from ich3d.prepare.spread import Spread
from ich3d.prepare.store import Store
from ich3d.slices.lite0 import imagenet_file

log = logging.getLogger(__name__)

# The rows of a config that names none: the stages of the run, each compared with the one before.
STAGE_ROWS = {
    "base rate": AblationRow(predictor="base rate", against="base rate"),
    "position only": AblationRow(predictor="position only", against="base rate"),
    "encoder": AblationRow(predictor="encoder", against="position only", stacker="both"),
    "context": AblationRow(predictor="context", against="encoder", stacker="both"),
}


def _position_only(truth: GroundTruth) -> np.ndarray:
    return position_only(position_features_by_volume(truth.table), truth.target, truth.fold)


_BASELINES: Mapping[str, Callable[[GroundTruth], np.ndarray]] = {
    "base rate": lambda truth: base_rate(truth.target, truth.fold),
    "position only": _position_only,
    "label continuity": lambda truth: label_continuity(truth.target, truth.fold, truth.volume),
}


def ablate(
    config: Config,
    progress: Progress = quiet,
    name: str = "ablation",
    overwrite: bool = False,
    ray: str | None = None,
) -> Result:
    """Run all rows of the config's ablation; where it has none, the stages of the run.

    Writes `<name>.csv`, `<name>.md` and `<name>.html` to the workspace, and `lookalikes.csv` for
    phantoms. Trained stages and the scores of every row are kept in the workspace, so that an
    interrupted ablation continues where it stopped. With `ray`, the address of a Ray cluster or
    `local`, its machines train the stages.

    Raises:
        ConfigError: where a row cannot be run, or where the workspace holds a finished run with
            other data or other folds.
        DataError: where it holds the table of another ablation of this name, and `overwrite` is not
            set.
    """
    workspace = Workspace(Path(config.workspace))
    plans = _plans(config)  # an error in a row shows before anything is trained
    _require_known_start(plans)
    _require_same_data(config, workspace)
    _claim(workspace.root, name, plans, overwrite)

    store = _open_store(config, progress, overwrite, ray)
    truth = ground_truth_of(store)
    write_ground_truth(workspace.scores, truth)

    runner = _Runner(config, workspace, store, truth, progress)
    if ray is not None:
        missing = [plan for plan in plans if not runner.is_cached(plan)]
        wanted = [one for plan in missing for one in plan.wanted()]
        train_on_ray(wanted, config, store, ray, progress)
    prob: dict[str, np.ndarray] = {}
    for plan in progress(plans, "rows", total=len(plans)):
        log.info("row %s", plan.name)
        prob |= runner.score(plan)

    result = _write_result(config, truth, prob, workspace.root / name)
    if config.source.kind == "phantom":
        table = workspace.source("phantom") / "truth.csv"
        phantoms = read_csv(table, text=("sop_uid", "lookalike"))
        write_csv(workspace.lookalikes, lookalike_losses(prob, truth, phantoms))
    return result


def _open_store(config: Config, progress: Progress, overwrite: bool, ray: str | None) -> Store:
    """The data of all rows, prepared where they are images."""
    if config.source.kind == SEQUENCES:
        if ray is not None:
            raise ConfigError("an ablation on simulated scores runs in one process: drop --ray")
        return read_sequences(config)
    if config.slices.weights == IMAGENET:
        imagenet_file()  # a missing package is told before the data are prepared
    store = prepare(config, progress, overwrite, Spread(ray=ray)).store
    require_labels(store)
    return store


def rebuild(
    config: Config, folder: Path, name: str = "ablation", overwrite: bool = False
) -> Result:
    """Write the table and the page of an ablation to `folder`, from the scores cached there alone.

    Raises:
        DataError: where the scores of a row are missing, or are of another config or other slices;
            or as in `ablate`.
    """
    truth = read_ground_truth(folder)
    prob: dict[str, np.ndarray] = {}
    plans = _plans(config)
    _claim(folder, name, plans, overwrite)
    for plan in plans:
        for result, config_hashes in plan.config_hashes.items():
            path = scores_file(folder, result)
            cached = read_scores(path)
            computed_from = (cached.provenance.configs, cached.provenance.truth)
            if computed_from != (config_hashes, truth.sha256):
                raise DataError(f"{path} was computed with another config or on other slices")
            prob[result] = cached.prob
    return _write_result(config, truth, prob, folder / name)


def _claim(folder: Path, name: str, plans: list["_Plan"], overwrite: bool) -> None:
    """Record the rows of the ablation `name`. DataError where its table holds others."""
    rows = [
        f"{result} {' '.join(sha256[:12] for sha256 in hashes)}"
        for plan in plans
        for result, hashes in plan.config_hashes.items()
    ]
    claim(folder, f"ich3d ablate: {name}", {"rows": rows}, [f"{name}.*"], overwrite)


def _rows(config: Config) -> Mapping[str, AblationRow]:
    return config.ablation.rows or STAGE_ROWS


def _require_same_data(config: Config, workspace: Workspace) -> None:
    """Raise ConfigError if the workspace holds a finished run with another store or other folds."""
    if not workspace.run.exists():
        return
    finished, wanted = _data(read_json(workspace.run)["config"]), _data(as_dict(config))
    for key, value in wanted.items():
        if finished[key] != value:
            raise ConfigError(
                f"{workspace.root} holds a finished run with another {key}: name another workspace"
            )


def _data(tree: Mapping[str, Any]) -> dict[str, object]:
    """The parts of a config, as a dict, that determine the store and its folds."""
    kind = tree["source"]["kind"]
    phantom = tree["phantom"] if kind == "phantom" else None
    return {
        "source.kind": kind,
        "phantom": phantom,
        "prepare": tree["prepare"],
        "seed": tree["seed"],
    }


def _require_known_start(plans: list["_Plan"]) -> None:
    """ConfigError where a row starts from weights whose training patients are not recorded."""
    for plan in plans:
        slices, context = plan.configs[0].slices, plan.configs[0].context
        for key, path in (("slices.weights", slices.weights), ("context.weights", context.weights)):
            if path is not None and not has_known_training_groups(Path(path)):
                raise ConfigError(
                    f"row {plan.name!r}: {key} names {path}, of a model that does not record its "
                    "training patients, so no score of the row could be shown to be held out"
                )


def _write_result(
    config: Config, truth: GroundTruth, prob: dict[str, np.ndarray], path: Path
) -> Result:
    """Write the table of all rows as CSV and Markdown, and the page; `path` has no suffix."""
    rows = compare(prob, _references(config), truth, config.report.resamples, config.seed)
    write_csv(path.with_suffix(".csv"), tidy(rows))
    table = markdown(rows, truth)
    with replacing(path.with_suffix(".md")) as partial:
        partial.write_text(table + "\n", encoding="utf-8")

    page = path.with_suffix(".html")
    write_page(page, config, rows, truth)
    return Result(rows, table, page)


def _references(config: Config) -> dict[str, str]:
    """The row that each result is compared with; a stacker with the row below it, unless the row
    says otherwise.
    """
    references = {}
    for name, row in _rows(config).items():
        reference = row.against or config.ablation.reference
        references[name] = reference
        below = row.stacked_against or name
        references[name + STACKED] = below if row.stacker == "both" else reference
    return references


@dataclass(frozen=True)
class _Plan:
    """What a row needs: the config of each seed, with the row's changes, and how results are named.

    `config_hashes` has the hashes of all seeds' configs for each result of the row, by name.
    """

    name: str
    row: AblationRow
    configs: tuple[Config, ...]
    config_hashes: dict[str, tuple[str, ...]]

    def wanted(self) -> list[Wanted]:
        """The stages that the row scores."""
        if self.row.predictor in _BASELINES:
            return []
        is_context = self.row.predictor == "context"
        stages = ["context" if is_context else "encoder"]
        if self.row.stacker != "without" and self.row.predictor != "rolling mean":
            stages.append("stack" if is_context else "encoder_stack")
        return [Wanted(config, tuple(stages)) for config in self.configs]


def _plans(config: Config) -> list[_Plan]:
    """The plan of every row; ConfigError where a row changes something that is not allowed."""
    plans = []
    for name, row in _rows(config).items():
        configs = _seed_configs(name, row, config)
        hashes = {
            result: tuple(_config_sha256(seed_config, result, row) for seed_config in configs)
            for result in row.lines(name)
        }
        plans.append(_Plan(name, row, configs, hashes))
    return plans


def _seed_configs(name: str, row: AblationRow, config: Config) -> tuple[Config, ...]:
    """The config of each seed of a row; one where scores do not depend on the seed."""
    # Stages do not read the ablation's own section, and a config merges faster without it.
    config_without_rows = replace(config, ablation=AblationConfig())
    changed = with_overrides(config_without_rows, row.set, f"ablation.rows.{name}")

    depends_on_seed = row.predictor not in _BASELINES and (
        row.predictor == "context" or row.retrain_encoders or row.stacker != "without"
    )
    seeds = range(config.ablation.seeds if depends_on_seed else 1)
    if row.retrain_encoders:
        return tuple(replace(changed, seed=config.seed + index) for index in seeds)
    return tuple(replace(changed, replicate=index) for index in seeds)


def _config_sha256(config: Config, result: str, row: AblationRow) -> str:
    """A hash of everything but the data that a result of a row depends on."""
    stage = "stack" if result.endswith(STACKED) else row.predictor
    stage_format = FORMATS.get(stage, BASELINE_FORMAT)
    tree = as_dict(config)
    unused = ["workspace", "report", "ablation", "source"]
    if config.source.kind != SEQUENCES:
        unused.append("simulation")
    used = {section: tree[section] for section in tree if section not in unused}
    used["control"] = controls_for_hash(used["control"])
    text = json.dumps([stage_format, row.predictor, used], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _is_cached(path: Path, provenance: Provenance) -> bool:
    """Whether the file holds scores of that provenance; an unreadable file does not."""
    try:
        return read_scores(path).provenance == provenance
    except DataError:
        return False


@dataclass(frozen=True)
class _Runner:
    """Scores the rows of one ablation."""

    config: Config
    workspace: Workspace
    store: Store
    truth: GroundTruth
    progress: Progress

    def score(self, plan: _Plan) -> dict[str, np.ndarray]:
        """Scores (S, N, K) of each result of a row, trained where they are not cached."""
        provenance = self._provenance(plan)
        files = {result: scores_file(self.workspace.scores, result) for result in provenance}
        if not self.is_cached(plan):
            # One list of results for each seed.
            runs = [self._train(plan.row, config) for config in plan.configs]
            for index, result in enumerate(provenance):
                prob = np.stack([results[index] for results in runs])  # (S, N, K)
                write_scores(files[result], CachedScores(prob, provenance[result]))

        # Read back even what was just trained: a repeated ablation has to see the same rounding.
        return {result: read_scores(path).prob for result, path in files.items()}

    def is_cached(self, plan: _Plan) -> bool:
        """Whether the scores of each result of a row are kept."""
        folder = self.workspace.scores
        return all(
            _is_cached(scores_file(folder, result), provenance)
            for result, provenance in self._provenance(plan).items()
        )

    def _provenance(self, plan: _Plan) -> dict[str, Provenance]:
        """What the scores of each result of a row depend on."""
        weights = weights_sha256(plan.configs[0])  # the seed does not choose the files
        store = tuple(self.store.identity)
        return {
            result: Provenance(self.truth.sha256, hashes, weights, store)
            for result, hashes in plan.config_hashes.items()
        }

    def _train(self, row: AblationRow, config: Config) -> list[np.ndarray]:
        """Scores (N, K) of each result of a row with the config of one seed."""
        if row.predictor in _BASELINES:
            return [_BASELINES[row.predictor](self.truth)]

        if isinstance(self.store, SequenceStore):
            return self._train_simulated(row, config, self.store)
        stages = Stages(config, self.workspace, self.store, self.config)
        return self._score_stages(row, stages)

    def _train_simulated(
        self, row: AblationRow, config: Config, store: SequenceStore
    ) -> list[np.ndarray]:
        """As `_train`, on a simulated encoder."""
        scores = simulated_scores(store, replace(config.simulation, scrambled=False), config.seed)
        if row.predictor == SMOOTHER:
            return [scores.known_answer()]
        stages = SimulatedStages(config, self.workspace, scores, self.config)
        return [stages.in_place(prob) for prob in self._score_stages(row, stages)]

    def _score_stages(self, row: AblationRow, stages: Stages) -> list[np.ndarray]:
        """Scores (N, K) of each result of a row by some stages, in the order of their store."""
        embedded = stages.embedded(self.progress)
        scores = stages.encoder(embedded)
        if row.predictor == "context":
            scores = stages.context(embedded, self.progress)
        if row.predictor == "rolling mean":
            truth = ground_truth_of(stages.store)
            return [rolling_mean(self._pooled(scores), truth.target, truth.fold, truth.volume)]

        results = [] if row.stacker == "only" else [self._pooled(scores)]
        if row.stacker != "without":
            results.append(self._pooled(stages.stack(embedded, scores, self.progress)))
        return results

    def _pooled(self, scores: Mapping[str, SliceScores]) -> np.ndarray:
        """Scores (N, K) float64 of all series, in the order of the ground truth."""
        prob = [scores[volume_id].prob for volume_id in self.store.volume_ids]
        return np.concatenate(prob).astype(np.float64)
