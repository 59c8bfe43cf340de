"""A model folder: safetensors, LightGBM text and JSON under a manifest of hashes.

    manifest.json  encoder/fold<k>.safetensors  context/fold<k>.safetensors
    stack/fold<k>.json  stack/fold<k>_<label>.txt  recalibration.json

A frozen network is stored once, as encoder/network.safetensors, and encoder/fold<k>.safetensors
holds the last layer alone. A model that was not recalibrated has no recalibration.json. Nothing in
it is executable.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from ich3d.config.root import Config
from ich3d.config.schema import PrepareConfig, StackConfig
from ich3d.context.bigru import ContextEnsemble, ContextModel
from ich3d.core.arguments import ArrayLike, as_hu, as_matrix, as_z_mm, require_type
from ich3d.core.errors import DataError, ModelError
from ich3d.core.labels import ANY, LABELS, STAGES
from ich3d.core.metrics import agreement
from ich3d.core.path_arguments import as_path
from ich3d.core.types import PreparedSeries, Rejected, TrainingGroups, Volume
from ich3d.core.workspace import read_json, replacing, write_json
from ich3d.model.backends import FoldEncoders
from ich3d.model.fold_model import FoldModel, StageOutputs, stacker_feature_names
from ich3d.model.manifest import RECALIBRATION, Manifest, read_manifest, write_manifest
from ich3d.model.performance import Performance
from ich3d.model.recalibration import Recalibration
from ich3d.prepare.hu_features import HU_FEATURES, hu_features
from ich3d.prepare.series import prepare_series
from ich3d.prepare.store import OPEN_STORE, Store, preprocessing_sha256
from ich3d.slices.encoder import EncoderEnsemble, SliceEncoder
from ich3d.slices.frozen import load_head, load_network, save_head, save_network
from ich3d.stack.booster import LabelStacker, Stacker
from ich3d.training.device import device
from ich3d.training.weights import load_weights, save_weights

_NETWORK_FILE: Final = "network.safetensors"

_NO_FINGERPRINT: Final[dict[str, Any]] = {
    "counts": {},
    "ranges": {},
    "transfer_syntaxes": {},
    "prevalence": dict.fromkeys(LABELS),
}
"""What is known of the training set of a model that was trained on no store."""


@dataclass(frozen=True)
class Model:
    """A loaded model: the stages of all its folds.

    Attributes:
        config: the configuration that it was trained with.
        fold_models: one a fold; scores are the means of their probabilities.
        fingerprint: what its training set was like: counts, ranges of geometry, prevalence of
            labels.
        sha256: the hash of its manifest, which names every file of it.
        recalibration: what is applied to the final scores; None where nothing is.
        performance: how well it scores patients that are new to it; None where that is not
            recorded.
    """

    config: Config
    fold_models: list[FoldModel]
    fingerprint: dict[str, Any]
    sha256: str
    recalibration: Recalibration | None = None
    performance: Performance | None = None

    @cached_property
    def encoders(self) -> FoldEncoders:
        """The encoders of all folds, on the fastest path that this machine has."""
        return FoldEncoders([fold.encoder for fold in self.fold_models], self.config)

    def fold(self, number: int) -> "Model":
        """The model of one fold alone: faster by the number of folds, and less certain."""
        return replace(self, fold_models=[fold for fold in self.fold_models if fold.fold == number])

    def score(
        self,
        hu: Volume | PreparedSeries | ArrayLike,
        z_mm: ArrayLike | None = None,
        features: ArrayLike | None = None,
    ) -> dict[str, np.ndarray]:
        """Probabilities (Z, K) of one series by stage: encoder, context, stack.

        Args:
            hu: a volume from `dicom.volume.load_volume`; a series from `Store.series` or
                `prepare.series.prepare_series`; or HU (Z, H, W) on the model's grid, slices
                inferior to superior, as an array, a tensor or a list, integer or floating point.
            z_mm: positions along the superior normal in mm (Z,), increasing; with HU alone.
            features: `PreparedSeries.hu_features` of the series (Z, F); None computes them.

        Raises:
            DataError: the volume is rejected or has another grid, or the arrays have the wrong
                form: the message says which form is wanted.

        Examples:
            >>> from ich3d.dicom.index import index
            >>> from ich3d.dicom.volume import load_volume
            >>> (series,) = index("study").series
            >>> volume = load_volume(series)
            >>> prob = load_model("runs/demo/model").score(volume)["stack"]
            >>> prob.shape == (len(volume.hu), 6)
            True
        """
        return self.prob(self.stage_outputs(hu, z_mm, features))

    def prob(self, outputs: Sequence[StageOutputs]) -> dict[str, np.ndarray]:
        """Probabilities (Z, K) by stage of what `stage_outputs` gave: the folds' means, the final
        ones recalibrated.
        """
        prob = mean_prob(outputs)
        if self.recalibration is None:
            return prob
        final = self.recalibration.apply(prob["stack"], outputs[0].embedded.hu_features)
        return {**prob, "stack": final}

    @cached_property
    def training_groups(self) -> TrainingGroups:
        """The patient groups that any fold was trained on."""
        return TrainingGroups.of(
            group for fold in self.fold_models for group in fold.training_groups.groups
        )

    def stage_outputs(
        self,
        hu: Volume | PreparedSeries | ArrayLike,
        z_mm: ArrayLike | None = None,
        features: ArrayLike | None = None,
    ) -> list[StageOutputs]:
        """What each fold gives for one series, with what its stages read; arguments of `score`."""
        grid = self.config.prepare
        if isinstance(hu, Volume | PreparedSeries | Rejected):
            hu, z_mm, features = _arrays_of(hu, z_mm, features, grid)
        hu = as_hu(hu, grid.matrix, grid.pixel_mm)
        z_mm = as_z_mm(z_mm, len(hu))
        if features is None:
            features = hu_features(hu, grid.pixel_mm)
        features = as_matrix("features", features, (len(hu), len(HU_FEATURES)), "(Z, F)")
        return [
            fold.score(embeddings, logits, z_mm, features.astype(np.float32))
            for fold, (embeddings, logits) in zip(
                self.fold_models, self.encoders.embed(hu), strict=True
            )
        ]


def _arrays_of(
    series: Volume | PreparedSeries | Rejected,
    z_mm: ArrayLike | None,
    features: ArrayLike | None,
    grid: PrepareConfig,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """HU, positions and features of a series on the model's grid; DataError where it has none."""
    if isinstance(series, Volume):
        series = prepare_series(series, grid)
    if isinstance(series, Rejected):
        raise DataError(f"the series was rejected: {series.sentence}")
    if z_mm is not None or features is not None:
        raise DataError("z_mm and features must be left out where a series is given: it has them")
    if series.preprocessing_sha256 != preprocessing_sha256(grid):
        raise DataError(
            f"{series.volume_id} was prepared on another grid than the model's, {grid.matrix} x "
            f"{grid.matrix} pixels of {grid.pixel_mm:g} mm; prepare it with model.config.prepare"
        )
    return series.hu, series.z_mm, series.hu_features


def mean_prob(outputs: Sequence[StageOutputs]) -> dict[str, np.ndarray]:
    """The folds' mean probabilities (Z, K) by stage, before any recalibration."""
    return {
        stage: np.asarray(np.mean([output.prob[stage] for output in outputs], axis=0))
        for stage in STAGES
    }


def fold_agreement(outputs: Sequence[StageOutputs]) -> np.ndarray:
    """How far the folds' final probabilities of `any` agree in each slice (Z,), as
    `core.metrics.agreement` has it; NaN for one fold.
    """
    return agreement(np.stack([output.prob["stack"][:, LABELS.index(ANY)] for output in outputs]))


def save_model(
    folder: Path | str,
    encoder: SliceEncoder | EncoderEnsemble,
    context: ContextModel | ContextEnsemble,
    stacker: Stacker | None = None,
    *,
    grid: PrepareConfig | Store,
    training_groups: Iterable[str] | None = None,
) -> None:
    """Save networks of your own training as a model folder that `ich3d predict` takes.

    Args:
        folder: where to write; an existing model there is replaced, whole or not at all.
        encoder: the slice encoder.
        context: the context model, trained on this encoder's embeddings.
        stacker: the stacker; None keeps the context scores.
        grid: the store that the networks were trained on, whose grid and fingerprint are saved,
            or a `PrepareConfig` with the grid's `matrix` and `pixel_mm` alone.
        training_groups: the patient groups that any of the networks was trained on, as
            `Store.groups` names them. Without them nothing proves that a patient is new to the
            model: `ich3d info` says so, and ablations refuse to start from its weights.

    Raises:
        DataError: an argument is of another type than the above.
        ModelError: the context model reads another width than the encoder's embeddings, or extra
            features, which prediction does not have; or the stacker reads features that are not
            those of `build_features` within its reach.

    Examples:
        >>> encoder = SliceEncoder("resnet10-half", neighbours=0)
        >>> context = ContextModel(encoder.embedding_width)
        >>> save_model("my_model", encoder, context, grid=PrepareConfig(matrix=96, pixel_mm=2.3))
        >>> load_model("my_model").config.prepare.matrix
        96
    """
    folder = as_path("folder", folder)
    require_type("encoder", encoder, SliceEncoder, EncoderEnsemble)
    require_type("context", context, ContextModel, ContextEnsemble)
    require_type("stacker", Stacker.empty() if stacker is None else stacker, Stacker)
    require_type("grid", grid, PrepareConfig, Store, hint=OPEN_STORE)
    if isinstance(training_groups, str):
        raise DataError("training_groups must be a list of names, such as store.groups.values()")
    ensemble = encoder if isinstance(encoder, EncoderEnsemble) else EncoderEnsemble([encoder])
    contexts = context if isinstance(context, ContextEnsemble) else ContextEnsemble([context])
    stacker = Stacker.empty() if stacker is None else stacker
    _require_fit(ensemble, contexts)
    _require_features(stacker)

    groups = TrainingGroups.of(() if training_groups is None else training_groups)
    fold_model = FoldModel(0, ensemble, contexts, stacker, groups)
    prepare, fingerprint = grid, _NO_FINGERPRINT
    if isinstance(grid, Store):
        prepare = PrepareConfig(pixel_mm=grid.meta["pixel_mm"], matrix=grid.meta["matrix"])
        fingerprint = grid.meta["fingerprint"]
    assert isinstance(prepare, PrepareConfig)
    config = Config(
        prepare=prepare,
        slices=replace(ensemble.config, ensemble_size=len(ensemble.members)),
        context=replace(contexts.config, ensemble_size=len(contexts.members)),
        stack=StackConfig(reach_mm=stacker.reach_mm),
    )
    has_groups = bool(groups.groups)
    write_model(folder, config, fingerprint, [fold_model], has_groups)


def write_model(
    folder: Path,
    config: Config,
    fingerprint: Mapping[str, Any],
    fold_models: Sequence[FoldModel],
    training_groups_known: bool = True,
    recalibration: Recalibration | None = None,
    performance: Performance | None = None,
) -> None:
    """Write the folder of a model of one or more folds, whole or not at all."""
    with replacing(folder) as partial:
        partial.mkdir()
        save_encoder: Callable[[Path, EncoderEnsemble], None] = save_weights
        if config.slices.frozen:
            save_network(partial / "encoder" / _NETWORK_FILE, fold_models[0].encoder)
            save_encoder = save_head
        for fold in fold_models:
            save_encoder(partial / "encoder" / f"fold{fold.fold}.safetensors", fold.encoder)
            save_weights(partial / "context" / f"fold{fold.fold}.safetensors", fold.context)
            _write_stacker(partial / "stack", fold)
        if recalibration is not None:
            write_json(partial / RECALIBRATION, recalibration.as_dict())
        folds = [fold.fold for fold in fold_models]
        write_manifest(partial, config, fingerprint, folds, training_groups_known, performance)


def load_model(folder: Path | str) -> Model:
    """Load the model in `folder` to this machine's device.

    Raises:
        ModelError: a file was changed, is missing or foreign, or the format is not one that this
            version reads.

    Examples:
        >>> model = load_model("runs/demo/model")
        >>> len(model.fold_models) == model.config.prepare.folds
        True
    """
    folder = as_path("folder", folder)
    manifest = read_manifest(folder)
    network = None
    if manifest.config.slices.frozen:
        network = load_network(folder / "encoder" / _NETWORK_FILE, manifest.config.slices)
    fold_models = [_load_fold(folder, manifest, fold, network) for fold in manifest.folds]
    recalibration = None
    if RECALIBRATION in manifest.files:
        recalibration = Recalibration.from_dict(read_json(folder / RECALIBRATION))
    return Model(
        config=manifest.config,
        fold_models=fold_models,
        fingerprint=manifest.fingerprint,
        sha256=manifest.sha256,
        recalibration=recalibration,
        performance=manifest.performance,
    )


def _require_fit(encoder: EncoderEnsemble, context: ContextEnsemble) -> None:
    """ModelError where predictions could not run the two together."""
    for member in context.members:
        assert isinstance(member, ContextModel)
        if member.embedding_width != encoder.embedding_width:
            raise ModelError(
                f"the context model reads embeddings of width {member.embedding_width}, "
                f"the encoder gives {encoder.embedding_width}"
            )
        if member.num_features:
            raise ModelError(
                "the context model reads extra features, which a prediction does not have"
            )


def _require_features(stacker: Stacker) -> None:
    """ModelError where predictions could not build what the stacker reads."""
    known = stacker_feature_names(stacker.reach_mm)
    for label, of_label in stacker.by_label.items():
        unknown = [name for name in of_label.columns if name not in known]
        if of_label.is_kept and unknown:
            raise ModelError(
                f"the stacker of {label} reads the feature {unknown[0]}, which a prediction with "
                f"reach_mm={stacker.reach_mm:g} does not have"
            )


def _load_fold(
    folder: Path, manifest: Manifest, fold: int, network: SliceEncoder | None
) -> FoldModel:
    """The stages of one fold on this machine's device; `network` holds a frozen network."""
    config = manifest.config
    encoder = EncoderEnsemble.from_config(config.slices, network)
    load_encoder = load_weights if network is None else load_head
    load_encoder(folder / "encoder" / f"fold{fold}.safetensors", encoder)
    context = ContextEnsemble.from_config(config.context, encoder.embedding_width)
    load_weights(folder / "context" / f"fold{fold}.safetensors", context)

    facts = read_json(folder / "stack" / f"fold{fold}.json")
    groups_key = "training_groups" if "training_groups" in facts else "fit_patients"  # format 1
    return FoldModel(
        fold=fold,
        encoder=encoder.to(device()).eval(),
        context=context.to(device()).eval(),
        stacker=_read_stacker(folder / "stack", fold, facts, config.stack.reach_mm),
        training_groups=TrainingGroups.of(facts[groups_key]),
    )


def _write_stacker(folder: Path, fold_model: FoldModel) -> None:
    """The stackers of one fold: JSON, and the trees of each kept one as text."""
    fold = fold_model.fold
    facts: dict[str, Any] = {"training_groups": sorted(fold_model.training_groups.groups)}
    for label, stacker in fold_model.stacker.by_label.items():
        facts[label] = stacker.as_dict()
        trees = facts[label].pop("trees")
        if stacker.is_kept:
            with replacing(folder / f"fold{fold}_{label}.txt") as partial:
                partial.write_text(trees)
    write_json(folder / f"fold{fold}.json", facts)


def _read_stacker(folder: Path, fold: int, facts: Mapping[str, Any], reach_mm: float) -> Stacker:
    """What `_write_stacker` wrote; `facts` are those of the fold's JSON file."""
    by_label = {}
    for label in LABELS:
        is_kept = facts[label]["is_kept"]
        trees = (folder / f"fold{fold}_{label}.txt").read_text() if is_kept else ""
        by_label[label] = LabelStacker.from_dict({**facts[label], "trees": trees})
    return Stacker(by_label, reach_mm)
