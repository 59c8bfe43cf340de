"""The sections of the configuration, one frozen dataclass each; values are checked when created."""

import math
from dataclasses import dataclass, field
from typing import Final

from ich3d.config.validation import require, require_numbers, require_one_of
from ich3d.core.windows import window

SEQUENCES: Final = "sequences"
"""The source of labels and positions without images, on which an encoder's scores are simulated."""

SOURCES: Final = ("phantom", "folder", "rsna", "ct_ich", SEQUENCES)

ENCODERS: Final = (
    "resnet10", "resnet10-half", "resnet18", "resnet18-half", "densenet121", "seresnext50",
    "efficientnet-b0", "efficientnet-lite0",
)  # fmt: skip
"""Networks for the slice encoder, all from MONAI. `-half` has half the channels in each layer."""

IMAGENET: Final = "imagenet"
"""The value of `slices.weights` for the weights that a package brings for efficientnet-lite0."""

LITE0_PARTS: Final = 9
"""Parts of efficientnet-lite0: the stem, seven stages and the last convolution."""

DIRECTIONS: Final = ("both", "forward", "backward")

READS: Final = ("embeddings", "logits", "both")


@dataclass(frozen=True)
class SourceConfig:
    """Where studies and labels come from.

    Attributes:
        kind: one of `SOURCES`: synthetic studies, a plain folder of DICOM files, a public data
            set in its own layout, or `sequences`, a table of labels and positions without images,
            on which `ich3d ablate` simulates an encoder.
        path: the folder of the data set; not used for phantoms.
        labels: label table (CSV) of a plain folder; the data sets bring their own.
        repair_labels: mend slices whose label `any` contradicts their subtypes, instead of refusing
            the table (`sources.read_labels`).
        max_slices: take patients in random order until this many slices are reached; None for all.
        follow_links: also follow symbolic links that lead out of `path`.
    """

    kind: str = "phantom"
    path: str | None = None
    labels: str | None = None
    repair_labels: bool = False
    max_slices: int | None = None
    follow_links: bool = False

    def __post_init__(self) -> None:
        require_one_of(SOURCES, "source.kind", self.kind)
        is_positive = self.max_slices is None or self.max_slices > 0
        require(is_positive, "source.max_slices", "positive", self.max_slices)


@dataclass(frozen=True)
class PhantomConfig:
    """Synthetic head CT studies; each is one patient with one series.

    Attributes:
        studies: number of studies.
        matrix: rows and columns of an image, in pixels.
        fov_mm: smallest and largest field of view, in mm.
        thickness_mm: slice thicknesses in mm, of which each study draws one.
        max_tilt_deg: gantry tilt is drawn from -max to max, in degrees; 0 for no tilt.
        noise_hu: smallest and largest standard deviation of noise in brain, in HU, for slices of
            5 mm.
        blur_mm: smallest and largest standard deviation of the point spread function, in mm; a
            sharp kernel has a small one.
        table: draw a table under the head, beside the head rest.
        margin_mm: how far a stack reaches beyond the vertex, in mm: slices of air.
        lookalikes: probability that a study holds each kind of look-alike, such as calcification.
        prevalence: probability that a study holds each subtype; a missing subtype is as frequent
            as in the RSNA 2019 training set.
    """

    studies: int = 40
    matrix: int = 256
    fov_mm: tuple[float, float] = (220.0, 250.0)
    thickness_mm: tuple[float, ...] = (5.0,)
    max_tilt_deg: float = 15.0
    noise_hu: tuple[float, float] = (2.5, 6.0)
    blur_mm: tuple[float, float] = (0.55, 0.85)
    table: bool = False
    margin_mm: float = 0.0
    lookalikes: float = 0.35
    prevalence: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(self.studies > 0, "phantom.studies", "positive", self.studies)
        require(self.matrix >= 32, "phantom.matrix", "at least 32", self.matrix)
        require_numbers(
            "phantom", self, lookalikes=(0, 1), max_tilt_deg=(0, 30), margin_mm=(0, 200)
        )

        is_positive = len(self.thickness_mm) > 0 and min(self.thickness_mm) > 0
        rule = "one or more positive numbers"
        require(is_positive, "phantom.thickness_mm", rule, self.thickness_mm)


@dataclass(frozen=True)
class PrepareConfig:
    """How a volume becomes a prepared series, and how patients are split.

    Attributes:
        pixel_mm: distance between pixels of the prepared image, in mm.
        matrix: rows and columns of the prepared image, in pixels.
        folds: number of outer folds of patient groups.
    """

    pixel_mm: float = 1.2
    matrix: int = 192
    folds: int = 5

    def __post_init__(self) -> None:
        require(self.pixel_mm > 0, "prepare.pixel_mm", "positive", self.pixel_mm)
        require(self.matrix >= 48, "prepare.matrix", "at least 48", self.matrix)
        require(self.folds >= 3, "prepare.folds", "at least 3", self.folds)


@dataclass(frozen=True)
class SlicesConfig:
    """The slice encoder: a 2D or 2.5D CNN that gives each slice an embedding and six logits.

    Attributes:
        encoder: one of `ENCODERS`.
        weights: `imagenet` for those of efficientnet-lite0, which come with `ich3d[imagenet]`; or
            a file: pretrained weights of MONAI's network, or the encoder of another run; None for
            random weights. Nothing is ever downloaded.
        weights_sha256: hash that the file must have; None for no check.
        frozen: leave the network as `weights` give it and train the last layer alone, by logistic
            regression. What is needed for few patients, and for training on a CPU: every slice
            goes through the network once, in all folds together. The keys from `mixup` to
            `validation_fraction`, but for `tta_flip`, are then not used.
        augmented: copies of each training series, as other scanners might have given it
            (`ich3d.slices.augment.augment_series`), whose embeddings by a frozen network are
            trained on beside its own. Each costs as much as embedding the series.
        frozen_parts: parts of efficientnet-lite0, of its nine and from the first, that stay as
            `weights` give them while the others are trained. What they give is computed once for
            each slice and its mirror image, so the slices are not augmented further, nor mixed.
        layer_decay: factor of the learning rate from each part of efficientnet-lite0 to the one
            before it; the last layer has `lr` (layer-wise learning rate decay, Clark et al., ICLR
            2020). 1 for one rate.
        regression_c: C of scikit-learn's LogisticRegression for a frozen network, on features of
            unit variance: larger values fit the training slices more closely.
        neighbours: slices on each side that are further input channels; 0 for 2D.
        windows: names from `ich3d.core.windows`; each adds one channel for each input slice.
        symmetry: add one channel for each window: the slice minus its left-right mirror image.
        mixup: parameter of the Beta distribution that mixes pairs of training slices and their
            targets (mixup); 0 for none.
        epochs: number of training epochs.
        batch_size: slices in a batch of training.
        lr: largest learning rate of AdamW.
        weight_decay: weight decay of AdamW.
        dropout: dropout probability before the last layer.
        ensemble_size: networks that are trained for each fold, each with other validation
            patients. Their logits are averaged and their embeddings concatenated.
        tta_flip: average over each slice and its left-right mirror image in inference.
        patience: training stops after this many epochs in a row that the validation patients
            reject.
        validation_fraction: share of the training groups that become validation patients. They
            can only reject an epoch; they also set the temperature of the logits.
    """

    encoder: str = "resnet18"
    weights: str | None = None
    weights_sha256: str | None = None
    frozen: bool = False
    augmented: int = 0
    frozen_parts: int = 0
    layer_decay: float = 1.0
    regression_c: float = 0.003
    neighbours: int = 1
    windows: tuple[str, ...] = ("brain", "subdural", "bone")
    symmetry: bool = True
    mixup: float = 0.4
    epochs: int = 12
    batch_size: int = 32
    lr: float = 1e-3
    weight_decay: float = 1e-2
    dropout: float = 0.2
    ensemble_size: int = 1
    tta_flip: bool = True
    patience: int = 4
    validation_fraction: float = 0.15

    def __post_init__(self) -> None:
        require_one_of(ENCODERS, "slices.encoder", self.encoder)
        require_numbers(
            "slices",
            self,
            neighbours=(0, 20),
            mixup=(0, math.inf),
            epochs=(1, math.inf),
            batch_size=(1, math.inf),
            lr=(1e-9, 1),
            weight_decay=(0, math.inf),
            dropout=(0, 0.99),
            ensemble_size=(1, 20),
            patience=(1, math.inf),
            validation_fraction=(0.01, 0.5),
            regression_c=(1e-9, math.inf),
            augmented=(0, 20),
            frozen_parts=(0, LITE0_PARTS),
            layer_decay=(1e-6, 1),
        )
        is_lite0 = self.encoder == "efficientnet-lite0"
        can_load = self.weights != IMAGENET or is_lite0
        require(can_load, "slices.weights", "a file for this encoder", self.weights)
        has_parts = is_lite0 or (self.frozen_parts == 0 and self.layer_decay == 1)
        require(has_parts, "slices.encoder", "efficientnet-lite0 for its parts", self.encoder)
        if self.frozen_parts:
            is_start = self.weights is not None and not self.frozen and self.ensemble_size == 1
            rule = "0 unless weights are set, frozen is false and ensemble_size is 1"
            require(is_start, "slices.frozen_parts", rule, self.frozen_parts)
        is_kept = self.frozen or self.augmented == 0
        require(is_kept, "slices.augmented", "0 unless slices.frozen", self.augmented)
        if self.frozen:
            require(self.weights is not None, "slices.weights", "set where frozen", self.weights)
            is_single = self.ensemble_size == 1
            require(is_single, "slices.ensemble_size", "1 where frozen", self.ensemble_size)

        require(len(self.windows) > 0, "slices.windows", "at least one window", self.windows)
        for name in self.windows:
            window(name)  # raises ConfigError for an unknown name


@dataclass(frozen=True)
class ContextConfig:
    """The context model: a bidirectional GRU over the slices of a series.

    Attributes:
        reads: what it reads of each slice. `embeddings`: the encoder's embedding and the area of
            brain; the model is then a classifier of its own. `logits`: the encoder's logits, which
            it corrects. `both`: it corrects the logits and reads the embedding too.
        end_to_end: train encoder and context model of a fold together, over whole series; the
            encoder's first parts are frozen (`slices.frozen_parts`). They are one stage with one
            set of training patients; the encoder's own last layer still scores single slices.
        align: train on other folds' embeddings and logits after a linear map to those of the
            fold's own encoder (`ich3d.context.align`); False trains on them unchanged.
        window: slices on each side that a slice's prediction may read; None for all.
        window_mm: the same as a distance in mm. At most one of the two may be set.
        direction: `both`; `forward` reads only from inferior to superior, `backward` only from
            superior to inferior.
        geometry: read the gaps to the neighbours of each slice in mm and, where logits are read,
            its distances from the ends of the series. A series that ends mid-head has other ends
            than a whole one; embeddings tell the level themselves.
        subseries: share of the training series that are cut to a random run of their slices, each
            time they are read, so that single slices and partial series are trained too.
        weights: file of initial weights, such as the context model of a run on phantoms; None for
            random weights.
        ensemble_size: models that are trained for each fold, each with other validation patients.
            Their predictions are averaged.
        hidden_size: hidden units of the GRU in each direction.
        num_layers: layers of the GRU.
        dropout: dropout probability.
        epochs: number of training epochs.
        series_per_batch: series in a batch.
        lr: largest learning rate of AdamW.
        weight_decay: weight decay of AdamW.
        patience: training stops after this many epochs in a row that the validation patients
            reject, or that do not improve on them where logits are read.
        validation_fraction: share of the training groups that become validation patients.
    """

    reads: str = "embeddings"
    end_to_end: bool = False
    align: bool = True
    window: int | None = None
    window_mm: float | None = None
    direction: str = "both"
    geometry: bool = True
    subseries: float = 0.5
    weights: str | None = None
    ensemble_size: int = 3
    hidden_size: int = 64
    num_layers: int = 1
    dropout: float = 0.8
    epochs: int = 60
    series_per_batch: int = 8
    lr: float = 1e-3
    weight_decay: float = 1e-1
    patience: int = 12
    validation_fraction: float = 0.1

    def __post_init__(self) -> None:
        require_numbers(
            "context",
            self,
            subseries=(0, 1),
            ensemble_size=(1, 50),
            hidden_size=(1, math.inf),
            num_layers=(1, 8),
            dropout=(0, 0.99),
            epochs=(1, math.inf),
            series_per_batch=(1, math.inf),
            lr=(1e-9, 1),
            weight_decay=(0, math.inf),
            patience=(1, math.inf),
            validation_fraction=(0.01, 0.5),
        )
        require_one_of(DIRECTIONS, "context.direction", self.direction)
        require_one_of(READS, "context.reads", self.reads)

        if self.end_to_end:
            can_train = self.reads == "embeddings" and self.ensemble_size == 1
            rule = "false unless context.reads is embeddings and context.ensemble_size is 1"
            require(can_train, "context.end_to_end", rule, self.end_to_end)

        # A second layer would read the first layer's states, which know both directions.
        is_allowed = self.direction == "both" or self.num_layers == 1
        rule = "1 where only one direction is read"
        require(is_allowed, "context.num_layers", rule, self.num_layers)

        self._check_window()

    @property
    def reads_whole_series(self) -> bool:
        """Whether a prediction may depend on every slice of the series."""
        return self.window is None and self.window_mm is None

    def _check_window(self) -> None:
        for key, reach in (("window", self.window), ("window_mm", self.window_mm)):
            is_reach = reach is None or (isinstance(reach, int | float) and reach >= 0)
            require(is_reach, f"context.{key}", "at least 0, or None", reach)
        is_unique = self.window is None or self.window_mm is None
        require(is_unique, "context.window_mm", "unset with context.window", self.window_mm)


@dataclass(frozen=True)
class StackConfig:
    """The stacker: one LightGBM booster for each label, which starts from the context's logit.

    Attributes:
        num_trees: number of boosting rounds.
        learning_rate: LightGBM's learning_rate.
        num_leaves: LightGBM's num_leaves.
        min_data_in_leaf: LightGBM's min_data_in_leaf, in slices.
        reach_mm: distance on each side from which neighbours' scores become features, in mm.
    """

    num_trees: int = 200
    learning_rate: float = 0.05
    num_leaves: int = 7
    min_data_in_leaf: int = 20
    reach_mm: float = 15.0

    def __post_init__(self) -> None:
        require_numbers(
            "stack",
            self,
            num_trees=(1, math.inf),
            learning_rate=(1e-6, 1),
            num_leaves=(2, 4096),
            min_data_in_leaf=(1, math.inf),
            reach_mm=(0, 1000),
        )


@dataclass(frozen=True)
class ReportConfig:
    """The reports of runs and ablations.

    Attributes:
        resamples: bootstrap draws of patient groups behind each 95 % confidence interval.
    """

    resamples: int = 1000

    def __post_init__(self) -> None:
        require_numbers("report", self, resamples=(1, math.inf))
