"""The context model: a bidirectional GRU that reads a whole series and scores each slice of it."""

from collections.abc import Sequence
from typing import Final

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ich3d.config.schema import ContextConfig
from ich3d.config.validation import require_whole
from ich3d.context.geometry import GEOMETRY_WIDTH, geometry_features
from ich3d.context.windows import find_windows
from ich3d.core.arguments import require_tensor
from ich3d.core.errors import DataError
from ich3d.core.labels import LABELS
from ich3d.training.device import is_tracing

BRAIN_WIDTH: Final = 1
GAPS_WIDTH: Final = 2
"""Columns of the area of brain, and those columns of `geometry_features` that are gaps."""

LOG_AREA_UNIT: Final = 5.0
"""log(1 + area) is divided by this: a large section of brain has 180 cm2."""

ENCODER_SHARE: Final = 0.5
"""The encoder's share of an ensemble's logits where its members read embeddings alone, unless
training found a smaller one (`context.share`).
"""

MIN_SD: Final = 0.01
SD_UNIT: Final = 4.0
"""Embeddings are scaled to a standard deviation of a quarter: there are a thousand and more, and
sums over unit variance would be too large to start from.
"""


class ContextModel(nn.Module):
    """Reads the slices of a series in order and scores each of them.

    With `reads="embeddings"` it is a classifier of its own: a slice is described by its projected
    embedding, its area of brain and the gaps to its neighbours; its logits are the sum of what the
    slice alone says and of what the GRU adds.

    Otherwise it corrects the encoder's logits. A slice is described by them and, with
    `reads="both"`, by its projected embedding; by the differences of these to the slice below and
    to the slice above (zero at the ends); and by where it lies in millimetres.

    The GRU's last layer starts at zero. Padding is never read, and no result depends on the other
    series of the batch.

    Examples:
        >>> model = ContextModel(embedding_width=512, hidden_size=32).eval()
        >>> embeddings, logits = torch.zeros(1, 30, 512), torch.zeros(1, 30, 6)
        >>> z_mm, brain_cm2 = 5.0 * torch.arange(30.0)[None], torch.full((1, 30), 120.0)
        >>> model(embeddings, logits, z_mm, torch.tensor([30]), brain_cm2).shape
        torch.Size([1, 30, 6])
    """

    direction_mask: torch.Tensor
    embedding_mean: torch.Tensor
    embedding_sd: torch.Tensor

    def __init__(
        self,
        embedding_width: int,
        *,
        reads: str = "embeddings",
        hidden_size: int = 64,
        num_layers: int = 1,
        dropout: float = 0.8,
        direction: str = "both",
        geometry: bool = True,
        window: int | None = None,
        window_mm: float | None = None,
        num_features: int = 0,
    ) -> None:
        """Build the model; ConfigError where a value is not allowed.

        Args:
            embedding_width: D, the width of the encoder's embeddings.
            reads: `embeddings`, `logits` or `both`.
            hidden_size: GRU units of each direction; a projected embedding has as many numbers, and
                twice as many where it is all that is read.
            num_layers: GRU layers.
            dropout: share that training drops: of embeddings, of the GRU's inputs and outputs, and
                between its layers.
            direction: `both`, or only `forward` (inferior to superior) or `backward`.
            geometry: read where each slice lies in the series.
            window: slices on each side whose scores a slice may read; None reads the whole series.
            window_mm: the same in millimetres.
            num_features: F, further numbers a slice that `forward` is given as `features`.
        """
        super().__init__()
        require_whole("embedding_width", embedding_width, lowest=1)
        require_whole("num_features", num_features, lowest=0)
        self.config = ContextConfig(
            reads=reads, hidden_size=hidden_size, num_layers=num_layers, dropout=dropout,
            direction=direction, geometry=geometry, window=window, window_mm=window_mm,
        )  # fmt: skip
        self.embedding_width = embedding_width
        self.num_features = num_features

        # What is read of a slice alone, and what the GRU then reads of it.
        n_labels, wide = len(LABELS), 2 * hidden_size
        self.embedding_proj: nn.Module | None = None
        self.input_proj: nn.Module | None = None
        self.slice_head: nn.Linear | None = None
        if reads == "embeddings":
            self.register_buffer("embedding_mean", torch.zeros(embedding_width))
            self.register_buffer("embedding_sd", torch.ones(embedding_width))
            self.embedding_proj = nn.Sequential(
                nn.Dropout(dropout), nn.Linear(embedding_width, wide), nn.GELU()
            )
            gru_width = wide + BRAIN_WIDTH + GAPS_WIDTH + num_features
            self.slice_head = nn.Linear(gru_width, n_labels)
        else:
            if reads == "both":
                self.embedding_proj = nn.Sequential(
                    nn.LayerNorm(embedding_width),
                    nn.Dropout(dropout),
                    nn.Linear(embedding_width, hidden_size),
                )
            slice_width = n_labels + (hidden_size if reads == "both" else 0)
            gru_width = wide
            self.input_proj = nn.Linear(3 * slice_width + GEOMETRY_WIDTH + num_features, wide)
        self.gru = nn.GRU(
            gru_width, hidden_size, num_layers, batch_first=True, bidirectional=True,
            dropout=dropout if num_layers > 1 else 0.0,
        )  # fmt: skip
        self.dropout = nn.Dropout(dropout)
        self.correction_head = nn.Linear(2 * hidden_size, len(LABELS))
        nn.init.zeros_(self.correction_head.weight)
        nn.init.zeros_(self.correction_head.bias)

        # One direction alone: the other half of the GRU's output is silenced.
        reads_below, reads_above = direction != "backward", direction != "forward"
        mask = torch.tensor([float(reads_below), float(reads_above)]).repeat_interleave(hidden_size)
        self.register_buffer("direction_mask", mask, persistent=False)  # (2 H,)

    @classmethod
    def from_config(cls, config: ContextConfig, embedding_width: int) -> "ContextModel":
        """The model that the `context` section of a configuration describes."""
        return cls(
            embedding_width,
            reads=config.reads,
            hidden_size=config.hidden_size,
            num_layers=config.num_layers,
            dropout=config.dropout,
            direction=config.direction,
            geometry=config.geometry,
            window=config.window,
            window_mm=config.window_mm,
        )

    def forward(
        self,
        embeddings: torch.Tensor,
        logits: torch.Tensor,
        z_mm: torch.Tensor,
        lengths: torch.Tensor,
        brain_cm2: torch.Tensor | None = None,
        features: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Logits of every slice of a padded batch.

        Args:
            embeddings: the encoder's embeddings, float (B, T, D).
            logits: the encoder's logits, float (B, T, K), labels in the order of
                `core.labels.LABELS`.
            z_mm: positions along the slice normal in millimetres, float (B, T), inferior to
                superior.
            lengths: slices of each series, int (B,), on the CPU; T is the largest.
            brain_cm2: area inside the skull in cm2, float (B, T), as `prepare.hu_features` has it;
                only a model that reads embeddings alone needs it.
            features: further numbers a slice, float (B, T, F), where the model was built for
                them.

        Returns:
            Logits (B, T, K); what lies beyond a series' length has no meaning.

        Raises:
            DataError: an argument has another shape, positions do not increase, or `brain_cm2`
                is missing.
        """
        if not is_tracing():
            self._require_batch(embeddings, logits, z_mm, lengths, brain_cm2, features)
        slices = self.slice_features(embeddings, logits, brain_cm2)  # (B, T, C)
        positions = self.position_features(z_mm, lengths, features)  # (B, T, P)
        if self.config.reads_whole_series:
            neighbourhood = self.with_differences(slices, lengths)
            read = self.read(neighbourhood, positions, lengths)
        else:
            read = self._read_windows(slices, positions, z_mm, lengths)
        return self.on_top_of(logits, read)

    def _require_batch(
        self,
        embeddings: torch.Tensor,
        logits: torch.Tensor,
        z_mm: torch.Tensor,
        lengths: torch.Tensor,
        brain_cm2: torch.Tensor | None,
        features: torch.Tensor | None,
    ) -> None:
        """DataError unless the arguments are what `forward` takes."""
        require_tensor("logits", logits, "(B, T, K)", (None, None, len(LABELS)))
        size = tuple(logits.shape[:2])
        require_tensor("embeddings", embeddings, "(B, T, D)", (*size, self.embedding_width))
        require_tensor("z_mm", z_mm, "(B, T)", size)
        require_tensor("lengths", lengths, "(B,)", size[:1])
        if brain_cm2 is not None:
            require_tensor("brain_cm2", brain_cm2, "(B, T)", size)
        if self.num_features and features is None:
            raise DataError(f"features must be given: the model reads {self.num_features} of them")
        if features is not None and not self.num_features:
            raise DataError("features must be left out: the model was built with num_features=0")
        if features is not None:
            require_tensor("features", features, "(B, T, F)", (*size, self.num_features))
        _require_positions(z_mm, lengths)

    @property
    def corrects_logits(self) -> bool:
        """Whether what is read is added to the encoder's logits."""
        return self.input_proj is not None

    def on_top_of(self, logits: torch.Tensor, read: torch.Tensor) -> torch.Tensor:
        """The model's logits (B, T, K) from the encoder's and from what `read` returned."""
        return logits + read if self.corrects_logits else read

    def set_embedding_scale(self, embeddings: Sequence[torch.Tensor]) -> None:
        """Scale embeddings as those of the training series, each (Z, D), vary.

        Series by series: together they may need more memory than there is.
        """
        count = sum(len(of_series) for of_series in embeddings)
        mean = torch.stack([of_series.sum(0) for of_series in embeddings]).double().sum(0) / count
        squares = [(of_series - mean).square().sum(0) for of_series in embeddings]
        sd = (torch.stack(squares).sum(0) / count).sqrt()
        self.embedding_mean.copy_(mean)
        self.embedding_sd.copy_((sd + MIN_SD) * SD_UNIT)

    def slice_features(
        self,
        embeddings: torch.Tensor,
        logits: torch.Tensor,
        brain_cm2: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """What is read of each slice alone (B, T, C): its logits, its projected embedding, or that
        and its area of brain.
        """
        if self.embedding_proj is None:
            return logits
        if self.corrects_logits:
            return torch.cat([logits, self.embedding_proj(embeddings)], dim=2)
        if brain_cm2 is None:
            raise DataError(
                "brain_cm2 must be given to a model that reads embeddings alone: the area inside "
                "the skull of each slice (B, T)"
            )
        projected = self.embedding_proj((embeddings - self.embedding_mean) / self.embedding_sd)
        return torch.cat([projected, torch.log1p(brain_cm2)[..., None] / LOG_AREA_UNIT], dim=2)

    def position_features(
        self, z_mm: torch.Tensor, lengths: torch.Tensor, features: torch.Tensor | None = None
    ) -> torch.Tensor:
        """What is read of each slice's position: geometry (B, T, 5), or its gaps (B, T, 2) where
        embeddings alone are read; then `features` (B, T, F).
        """
        geometry = geometry_features(z_mm, lengths)  # (B, T, 5)
        if not self.corrects_logits:
            geometry = geometry[..., :GAPS_WIDTH]
        if not self.config.geometry:
            geometry = torch.zeros_like(geometry)
        return geometry if features is None else torch.cat([geometry, features], dim=2)

    def with_differences(self, slices: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Slices (B, T, C) with their differences to the slice below and above (B, T, 3 C).

        Where embeddings alone are read, they come back as they are: the GRU finds differences.
        A difference is zero where that neighbour does not exist, or where the model reads one
        direction only and the neighbour lies in the other.
        """
        if not self.corrects_logits:
            return slices
        is_slice = _is_slice(slices, lengths)  # (B, T, 1)
        step = (slices[:, 1:] - slices[:, :-1]) * is_slice[:, 1:]  # (B, T - 1, C)
        end = torch.zeros_like(slices[:, :1])
        to_below = torch.cat([end, step], dim=1) * self.direction_mask[0]
        to_above = torch.cat([-step, end], dim=1) * self.direction_mask[-1]
        return torch.cat([slices, to_below, to_above], dim=2)

    def read(
        self, neighbourhood: torch.Tensor, positions: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor:
        """What slices and GRU say (B, T, K), from what `with_differences` and `position_features`
        returned.
        """
        rows = torch.cat([neighbourhood, positions], dim=2)
        if self.input_proj is not None:
            rows = nn.functional.gelu(self.input_proj(rows))  # (B, T, 2 H)
        rows = self.dropout(rows)
        context = (
            self._packed_gru(rows, lengths)
            if self.config.reads_whole_series
            else self._unpacked_gru(rows, lengths)
        )  # (B, T, 2 H)
        read: torch.Tensor = self.correction_head(self.dropout(context * self.direction_mask))
        return read if self.slice_head is None else read + self.slice_head(rows)

    def _read_windows(
        self,
        slices: torch.Tensor,
        positions: torch.Tensor,
        z_mm: torch.Tensor,
        lengths: torch.Tensor,
    ) -> torch.Tensor:
        """As `read`, each slice from its window alone (B, T, K).

        Every window becomes a short series of its own, whose slices keep their positions in the
        whole series. Only what is read at its centre slice is used.
        """
        windows = find_windows(_is_slice(slices, lengths)[..., 0], z_mm, self.config)
        neighbourhood = self.with_differences(windows.gather(slices), windows.size)
        windowed = self.read(neighbourhood, windows.gather(positions), windows.size)

        read = slices.new_zeros(*slices.shape[:2], len(LABELS))  # (B, T, K)
        centres = windows.series, windows.centre
        return read.index_put(centres, windows.centre_rows(windowed))

    def _packed_gru(self, rows: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """The GRU's output (B, T, 2 H) over padded rows (B, T, 2 H)."""
        packed = pack_padded_sequence(rows, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(
            self.gru(packed)[0], batch_first=True, total_length=rows.shape[1]
        )[0]

    def _unpacked_gru(self, rows: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """The same, each direction run by itself from its own first slice on.

        On a CPU, backward through a packed sequence allocates the gradient of the whole batch at
        every step, which is too much for the thousands of windows that a batch has.
        """
        is_slice = _is_slice(rows, lengths)  # (B, T, 1)
        index = torch.arange(rows.shape[1], device=rows.device)[None, :, None]
        last = is_slice.sum(dim=1, keepdim=True) - 1  # (B, 1, 1)
        reversed_index = torch.where(is_slice, last - index, index)  # (B, T, 1)

        for layer in range(self.gru.num_layers):
            rows = nn.functional.dropout(rows, self.gru.dropout if layer else 0.0, self.training)
            upward = self._one_direction(f"l{layer}", rows)  # (B, T, H)
            downward = self._one_direction(f"l{layer}_reverse", gather_slices(rows, reversed_index))
            rows = torch.cat([upward, gather_slices(downward, reversed_index)], dim=2)
        return rows

    def _one_direction(self, name: str, rows: torch.Tensor) -> torch.Tensor:
        """One direction of one layer of the GRU alone: (B, T, C) to (B, T, H)."""
        kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        weights = {f"{kind}_l0": getattr(self.gru, f"{kind}_{name}") for kind in kinds}

        # A GRU without weights of its own; `functional_call` lends it ours.
        single = nn.GRU(rows.shape[2], self.gru.hidden_size, batch_first=True, device="meta")
        output: torch.Tensor = functional_call(single, weights, (rows,))[0]
        return output


class ContextEnsemble(nn.Module):
    """Context models of one configuration; their logits are averaged.

    Models that read embeddings alone are classifiers of their own. They and the encoder err
    differently, so the ensemble's logits are a mean of theirs and the encoder's, whose share is
    `encoder_share`.
    """

    encoder_share: torch.Tensor

    def __init__(self, members: Sequence[ContextModel]) -> None:
        """An ensemble of `members`, which were built with equal arguments."""
        super().__init__()
        self.members = nn.ModuleList(members)
        self.config = members[0].config
        if self.config.reads == "embeddings":
            self.register_buffer("encoder_share", torch.tensor([ENCODER_SHARE]))
            self.register_load_state_dict_pre_hook(_with_encoder_share)  # type: ignore[no-untyped-call]

    @classmethod
    def from_config(cls, config: ContextConfig, embedding_width: int) -> "ContextEnsemble":
        """`context.ensemble_size` models as the `context` section of a configuration describes
        them.
        """
        return cls(
            [ContextModel.from_config(config, embedding_width) for _ in range(config.ensemble_size)]
        )

    def forward(
        self,
        embeddings: torch.Tensor,
        logits: torch.Tensor,
        z_mm: torch.Tensor,
        lengths: torch.Tensor,
        brain_cm2: torch.Tensor | None = None,
        features: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The ensemble's logits (B, T, K), with the arguments of `ContextModel.forward`."""
        member_logits = [
            member(embeddings, logits, z_mm, lengths, brain_cm2, features)
            for member in self.members
        ]
        return self.joined(logits, member_logits)

    def joined(self, logits: torch.Tensor, member_logits: Sequence[torch.Tensor]) -> torch.Tensor:
        """The ensemble's logits (B, T, K) from the encoder's and those of each member."""
        mean = torch.stack(list(member_logits)).mean(dim=0)
        if self.config.reads != "embeddings":
            return mean
        return self.encoder_share * logits + (1 - self.encoder_share) * mean


def _with_encoder_share(
    module: nn.Module, tensors: dict[str, torch.Tensor], prefix: str, *_: object
) -> None:
    """Weights from before training chose the share hold none: it was `ENCODER_SHARE`."""
    tensors.setdefault(f"{prefix}encoder_share", torch.tensor([ENCODER_SHARE]))


def _require_positions(z_mm: torch.Tensor, lengths: torch.Tensor) -> None:
    """DataError unless each series' positions (B, T) are finite and increase over its length."""
    longest = z_mm.shape[1]
    if lengths.is_floating_point() or not ((lengths >= 1) & (lengths <= longest)).all():
        raise DataError(f"lengths must count 1 to T = {longest} slices, got {lengths.tolist()}")
    is_slice = _is_slice(z_mm, lengths)[..., 0]  # (B, T)
    is_step = is_slice[:, 1:]
    if not (torch.isfinite(z_mm) | ~is_slice).all():
        raise DataError("z_mm must be finite, got NaN or infinity")
    if ((z_mm.diff(dim=1) <= 0) & is_step).any():
        raise DataError("z_mm must increase from inferior to superior within each series")


def gather_slices(rows: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """`result[b, t] = rows[b, index[b, t]]`, for rows (B, T, C) and an int64 index (B, T, 1)."""
    return rows.gather(1, index.expand(-1, -1, rows.shape[2]))


def _is_slice(rows: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Whether each row of a padded batch (B, T, C) is a slice, bool (B, T, 1)."""
    index = torch.arange(rows.shape[1], device=rows.device)
    return (index < lengths.to(rows.device)[:, None])[..., None]
