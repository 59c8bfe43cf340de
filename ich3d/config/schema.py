"""The sections of the configuration: one frozen dataclass each, values checked at birth."""

import math
from dataclasses import dataclass, field

from ich3d.config.validation import require, require_numbers
from ich3d.core.windows import window

SOURCES = ("phantom", "folder", "rsna", "ct_ich")
ENCODERS = (
    "resnet10", "resnet10-half", "resnet18", "resnet18-half", "densenet121", "seresnext50", "efficientnet-b0",
)  # fmt: skip
DIRECTIONS = ("both", "forward", "backward")


@dataclass(frozen=True)
class SourceConfig:
    """Where studies and labels come from.

    kind: one of `SOURCES`.
    path: the folder in that source's layout; unused for phantoms.
    labels: the label CSV of a plain folder; the other layouts know theirs.
    max_slices: stop adding patients once this many slices are in; None takes all.
    """

    kind: str = "phantom"
    path: str | None = None
    labels: str | None = None
    max_slices: int | None = None

    def __post_init__(self) -> None:
        require(self.kind in SOURCES, "source.kind", f"one of {', '.join(SOURCES)}", self.kind)
        require(
            self.max_slices is None or self.max_slices > 0,
            "source.max_slices",
            "positive",
            self.max_slices,
        )


@dataclass(frozen=True)
class PhantomConfig:
    """Synthetic studies, one patient and one series each.

    studies: how many.
    matrix: rows and columns.
    fov_mm: smallest and largest field of view.
    thickness_mm: slice thicknesses to draw from.
    max_tilt_deg: gantry tilts are drawn from -max to max; zero for none.
    noise_hu: smallest and largest noise SD in brain at 5 mm.
    lookalikes: chance of each kind of look-alike a study.
    prevalence: chance a study of a subtype, in place of its own in RSNA's training set; empty for RSNA's all.
    """

    studies: int = 40
    matrix: int = 256
    fov_mm: tuple[float, float] = (220.0, 250.0)
    thickness_mm: tuple[float, ...] = (5.0,)
    max_tilt_deg: float = 15.0
    noise_hu: tuple[float, float] = (2.5, 6.0)
    lookalikes: float = 0.35
    prevalence: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(self.studies > 0, "phantom.studies", "positive", self.studies)
        require(self.matrix >= 32, "phantom.matrix", "at least 32", self.matrix)
        require(0 <= self.lookalikes <= 1, "phantom.lookalikes", "within 0..1", self.lookalikes)
        positive = len(self.thickness_mm) > 0 and min(self.thickness_mm) > 0
        require(positive, "phantom.thickness_mm", "one or more positive numbers", self.thickness_mm)
        require(
            0 <= self.max_tilt_deg <= 30, "phantom.max_tilt_deg", "within 0..30", self.max_tilt_deg
        )


@dataclass(frozen=True)
class PrepareConfig:
    """From volume to store.

    pixel_mm, matrix: the in-plane grid that every slice is resampled to.
    folds: how many outer folds of patient groups.
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
    """The slice encoder.

    encoder: one of `ENCODERS` (MONAI's networks).
    weights: a file to start from: pretrained weights of MONAI's network, or an encoder that another run
        trained; nothing is ever downloaded.
    weights_sha256: the hash that the file must have; None takes it as it is.
    neighbours: slices on each side that join as channels.
    windows: names from `core.windows`, each a channel a slice.
    symmetry: add, a window, what the slice differs by from its own left-right mirror image.
    mixup: Beta parameter of mixing pairs of training slices and their labels; zero for none.
    ensemble_size: networks that are trained side by side, each with an inner part of the patients of its own;
        their logits are averaged, their embeddings joined.
    tta_flip: embed the mean of each slice and its left-right mirror image.
    patience: epochs in a row that the inner patients find worse than the best before training stops.
    validation_fraction: share of the training groups that is held back to veto epochs and to temper the logits.
    """

    encoder: str = "resnet18"
    weights: str | None = None
    weights_sha256: str | None = None
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
        require(
            self.encoder in ENCODERS,
            "slices.encoder",
            f"one of {', '.join(ENCODERS)}",
            self.encoder,
        )
        require_numbers(
            "slices", self, neighbours=(0, 20), ensemble_size=(1, 20), epochs=(1, math.inf),
            batch_size=(1, math.inf), lr=(1e-9, 1), weight_decay=(0, math.inf), dropout=(0, 0.99),
            mixup=(0, math.inf), patience=(1, math.inf), validation_fraction=(0.01, 0.5),
        )  # fmt: skip
        require(len(self.windows) > 0, "slices.windows", "at least one window", self.windows)
        for name in self.windows:
            window(name)


@dataclass(frozen=True)
class ContextConfig:
    """The bidirectional GRU over a series.

    embeddings: read the embeddings beside the logits.
    align: train on other folds' embeddings and logits as the fold's own encoder would give them, by a linear
        map between the two; without it, on what each encoder says as it stands.
    window, window_mm: how much of its window_series a slice may read on each side, in slices or millimetres;
        None reads the whole series.
    direction: `both`, or only `forward` (from inferior to superior) or `backward`.
    geometry: read where each slice lies, in millimetres.
    weights: a file of context weights to start from, such as a run on phantoms left; None starts afresh.
    ensemble_size: models that are trained side by side, each with an inner part of the patients of its own, and
        averaged.
    hidden_size: units a direction.
    series_per_batch: how many series one step sees.
    """

    embeddings: bool = False
    align: bool = True
    window: int | None = None
    window_mm: float | None = None
    direction: str = "both"
    geometry: bool = True
    weights: str | None = None
    ensemble_size: int = 3
    hidden_size: int = 32
    num_layers: int = 1
    dropout: float = 0.2
    epochs: int = 100
    series_per_batch: int = 8
    lr: float = 5e-3
    weight_decay: float = 5e-2
    patience: int = 12
    validation_fraction: float = 0.2

    def __post_init__(self) -> None:
        require_numbers(
            "context", self, ensemble_size=(1, 50), hidden_size=(1, math.inf), num_layers=(1, 8), dropout=(0, 0.99),
            epochs=(1, math.inf), series_per_batch=(1, math.inf), lr=(1e-9, 1), weight_decay=(0, math.inf),
            patience=(1, math.inf), validation_fraction=(0.01, 0.5),
        )  # fmt: skip
        require(
            self.direction in DIRECTIONS,
            "context.direction",
            f"one of {', '.join(DIRECTIONS)}",
            self.direction,
        )
        require(
            self.direction == "both" or self.num_layers == 1,
            "context.num_layers", "1 where only one direction is read", self.num_layers,
        )  # fmt: skip
        for key, reach in (("window", self.window), ("window_mm", self.window_mm)):
            require(reach is None or reach >= 0, f"context.{key}", "at least 0", reach)
        require(
            self.window is None or self.window_mm is None,
            "context.window_mm", "unset with context.window", self.window_mm,
        )  # fmt: skip

    @property
    def reads_whole_series(self) -> bool:
        return self.window is None and self.window_mm is None


@dataclass(frozen=True)
class StackConfig:
    """The LightGBM stacker: one booster a label on top of the context score.

    reach_mm: how far on each side neighbours are read.
    """

    num_trees: int = 200
    learning_rate: float = 0.05
    num_leaves: int = 7
    min_data_in_leaf: int = 20
    reach_mm: float = 15.0

    def __post_init__(self) -> None:
        require_numbers(
            "stack", self, num_trees=(1, math.inf), learning_rate=(1e-6, 1), num_leaves=(2, 4096),
            min_data_in_leaf=(1, math.inf), reach_mm=(0, 1000),
        )  # fmt: skip


@dataclass(frozen=True)
class ReportConfig:
    """resamples: draws of patient groups behind each 95 % interval."""

    resamples: int = 1000

    def __post_init__(self) -> None:
        require_numbers("report", self, resamples=(1, math.inf))
