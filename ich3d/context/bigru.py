"""The context model: a bidirectional GRU that reads a whole series and corrects the encoder's
logits.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ich3d.config.schema import ContextConfig
from ich3d.context.geometry import GEOMETRY_WIDTH, geometry_features
from ich3d.context.windows import find_windows
from ich3d.core.labels import LABELS


class ContextModel(nn.Module):
    """Reads the slices of a series in order and corrects the encoder's logits of each.

    A slice is described by its logits and, where `embeddings` says so, its projected embedding;
    by the differences of these to the slice below and to the slice above (zero at the ends);
    and by where it lies in millimetres. The last layer starts at zero, so an untrained model
    returns the encoder's logits. Padding is never read, and no result depends on the other
    series of the batch.

    Example:
        >>> model = ContextModel(embedding_width=512, hidden_size=32).eval()
        >>> embeddings, logits = torch.zeros(1, 30, 512), torch.zeros(1, 30, 6)
        >>> z_mm = 5.0 * torch.arange(30.0)[None]
        >>> model(embeddings, logits, z_mm, torch.tensor([30])).shape
        torch.Size([1, 30, 6])
    """

    direction_mask: torch.Tensor

    def __init__(
        self,
        embedding_width: int,
        *,
        embeddings: bool = False,
        hidden_size: int = 32,
        num_layers: int = 1,
        dropout: float = 0.2,
        direction: str = "both",
        geometry: bool = True,
        window: int | None = None,
        window_mm: float | None = None,
        num_features: int = 0,
    ) -> None:
        """Build the model; ConfigError where a value is not allowed.

        Args:
            embedding_width: D, the width of the encoder's embeddings.
            embeddings: read embeddings beside logits.
            hidden_size: GRU units of each direction, and width of the projected embedding.
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
        self.config = ContextConfig(
            embeddings=embeddings, hidden_size=hidden_size, num_layers=num_layers, dropout=dropout,
            direction=direction, geometry=geometry, window=window, window_mm=window_mm,
        )  # fmt: skip
        self.embedding_width = embedding_width
        self.num_features = num_features

        self.embedding_proj = (
            nn.Sequential(
                nn.LayerNorm(embedding_width),
                nn.Dropout(dropout),
                nn.Linear(embedding_width, hidden_size),
            )
            if embeddings
            else None
        )
        slice_width = len(LABELS) + (hidden_size if embeddings else 0)
        self.input_proj = nn.Linear(
            3 * slice_width + GEOMETRY_WIDTH + num_features, 2 * hidden_size
        )
        self.gru = nn.GRU(
            2 * hidden_size, hidden_size, num_layers, batch_first=True, bidirectional=True,
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
            embeddings=config.embeddings,
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
        features: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Corrected logits of every slice of a padded batch.

        Args:
            embeddings: the encoder's embeddings, float (B, T, D).
            logits: the encoder's logits, float (B, T, K), labels in the order of
                `core.labels.LABELS`.
            z_mm: positions along the slice normal in millimetres, float (B, T), inferior to
                superior.
            lengths: slices of each series, int (B,), on the CPU; T is the largest.
            features: further numbers a slice, float (B, T, F), where the model was built for
                them.

        Returns:
            Logits (B, T, K); what lies beyond a series' length has no meaning.

        Raises:
            ValueError: `features` are not of the width that the model was built for.
        """
        slices = self.slice_features(embeddings, logits)  # (B, T, C)
        positions = self.position_features(z_mm, lengths, features)  # (B, T, 5 + F)
        if self.config.reads_whole_series:
            neighbourhood = self.with_differences(slices, lengths)  # (B, T, 3 C)
            return logits + self.correction(neighbourhood, positions, lengths)
        return logits + self._windowed_correction(slices, positions, z_mm, lengths)

    def slice_features(self, embeddings: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """What is read of each slice alone (B, T, C): its logits and its projected embedding."""
        if self.embedding_proj is None:
            return logits
        return torch.cat([logits, self.embedding_proj(embeddings)], dim=2)

    def position_features(
        self, z_mm: torch.Tensor, lengths: torch.Tensor, features: torch.Tensor | None = None
    ) -> torch.Tensor:
        """What is read of each slice's position (B, T, 5 + F): geometry, then `features`."""
        width = 0 if features is None else features.shape[2]
        if width != self.num_features:
            raise ValueError(f"features must have {self.num_features} columns, got {width}")
        geometry = geometry_features(z_mm, lengths)  # (B, T, 5)
        if not self.config.geometry:
            geometry = torch.zeros_like(geometry)
        return geometry if features is None else torch.cat([geometry, features], dim=2)

    def with_differences(self, slices: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Slices (B, T, C) with their differences to the slice below and above (B, T, 3 C).

        A difference is zero where that neighbour does not exist, or where the model reads one
        direction only and the neighbour lies in the other.
        """
        is_slice = _is_slice(slices, lengths)  # (B, T, 1)
        step = (slices[:, 1:] - slices[:, :-1]) * is_slice[:, 1:]  # (B, T - 1, C)
        end = torch.zeros_like(slices[:, :1])
        to_below = torch.cat([end, step], dim=1) * self.direction_mask[0]
        to_above = torch.cat([-step, end], dim=1) * self.direction_mask[-1]
        return torch.cat([slices, to_below, to_above], dim=2)

    def correction(
        self, neighbourhood: torch.Tensor, positions: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor:
        """What the GRU adds to the logits (B, T, K), from (B, T, 3 C) and (B, T, 5 + F)."""
        rows = self.input_proj(torch.cat([neighbourhood, positions], dim=2))  # (B, T, 2 H)
        rows = self.dropout(nn.functional.gelu(rows))
        context = (
            self._packed_gru(rows, lengths)
            if self.config.reads_whole_series
            else self._unpacked_gru(rows, lengths)
        )  # (B, T, 2 H)
        correction: torch.Tensor = self.correction_head(self.dropout(context * self.direction_mask))
        return correction

    def _windowed_correction(
        self,
        slices: torch.Tensor,
        positions: torch.Tensor,
        z_mm: torch.Tensor,
        lengths: torch.Tensor,
    ) -> torch.Tensor:
        """As `correction`, each slice from its window alone (B, T, K).

        Every window becomes a short series of its own, whose slices keep their positions in the
        whole series. Only the correction of its centre slice is used.
        """
        windows = find_windows(_is_slice(slices, lengths)[..., 0], z_mm, self.config)
        neighbourhood = self.with_differences(windows.gather(slices), windows.size)  # (N, W, 3 C)
        windowed = self.correction(neighbourhood, windows.gather(positions), windows.size)

        correction = torch.zeros_like(slices[..., : len(LABELS)])  # (B, T, K)
        centres = windows.series, windows.centre
        return correction.index_put(centres, windows.centre_rows(windowed))

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
    """Context models of one configuration; their logits are averaged."""

    def __init__(self, members: Sequence[ContextModel]) -> None:
        """An ensemble of `members`, which were built with equal arguments."""
        super().__init__()
        self.members = nn.ModuleList(members)
        self.config = members[0].config

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
        features: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The mean of the members' logits (B, T, K), with the arguments of `ContextModel`."""
        member_logits = [
            member(embeddings, logits, z_mm, lengths, features) for member in self.members
        ]
        return torch.stack(member_logits).mean(dim=0)


def gather_slices(rows: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """`result[b, t] = rows[b, index[b, t]]`, for rows (B, T, C) and an int64 index (B, T, 1)."""
    return rows.gather(1, index.expand(-1, -1, rows.shape[2]))


def _is_slice(rows: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Whether each row of a padded batch (B, T, C) is a slice, bool (B, T, 1)."""
    index = torch.arange(rows.shape[1], device=rows.device)
    return (index < lengths.to(rows.device)[:, None])[..., None]
