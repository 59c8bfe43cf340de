"""A bidirectional GRU that reads a whole series and corrects the encoder's logits."""

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ich3d.config.schema import ContextConfig
from ich3d.context.dataset import ContextBatch
from ich3d.context.geometry import GEOMETRY
from ich3d.core.labels import LABELS


class ContextModel(nn.Module):
    """A padded batch of series to logits (B, T, K).

    Each slice enters as its logits and, where the config says so, its embedding, their differences to the
    slice below and to the one above (zero at the ends), and its geometry. Sequences are packed, so padding
    is never read. Slices are read in `batch.order`, each with its own differences; where one direction is
    read, no slice sees beyond itself on the other side. The output starts as the logits and learns a
    correction to them.
    """

    direction_mask: torch.Tensor

    def __init__(self, config: ContextConfig, embedding_width: int) -> None:
        super().__init__()
        hidden, labels = config.hidden_size, len(LABELS)
        self.config = config
        self.embedding_proj = (
            nn.Sequential(
                nn.LayerNorm(embedding_width),
                nn.Dropout(config.dropout),
                nn.Linear(embedding_width, hidden),
            )
            if config.embeddings
            else None
        )
        own = labels + (hidden if config.embeddings else 0)
        self.input_proj = nn.Linear(3 * own + GEOMETRY, 2 * hidden)
        self.gru = nn.GRU(
            2 * hidden, hidden, config.num_layers, batch_first=True, bidirectional=True,
            dropout=config.dropout if config.num_layers > 1 else 0.0,
        )  # fmt: skip
        from_below, from_above = config.direction != "backward", config.direction != "forward"
        direction_mask = torch.tensor([float(from_below), float(from_above)]).repeat_interleave(
            hidden
        )
        self.register_buffer("heard", direction_mask, persistent=False)
        self.dropout = nn.Dropout(config.dropout)
        self.correction_head = nn.Linear(2 * hidden, labels)
        nn.init.zeros_(self.correction_head.weight)
        nn.init.zeros_(self.correction_head.bias)

    def forward(self, batch: ContextBatch) -> torch.Tensor:
        inside = torch.arange(batch.embeddings.shape[1]) < batch.lengths[:, None]
        inside = inside.to(batch.embeddings.device)[..., None]
        own = batch.logits  # (B, T, K), and the reduced embedding behind it
        if self.embedding_proj is not None:
            own = torch.cat([own, self.embedding_proj(batch.embeddings)], dim=2)
        below, above = _differences(own, inside)
        below, above = below * self.direction_mask[0], above * self.direction_mask[-1]
        read_at = batch.order[..., None]
        slices = gather_slices(torch.cat([own, below, above], dim=2), read_at)
        geometry = batch.geometry if self.config.geometry else torch.zeros_like(batch.geometry)
        rows = self.dropout(
            nn.functional.gelu(self.input_proj(torch.cat([slices, geometry], dim=2)))
        )
        read = (
            self._packed(rows, batch.lengths)
            if self.config.reads_whole_series
            else self._unpacked(rows, inside)
        )
        correction: torch.Tensor = self.correction_head(self.dropout(read * self.direction_mask))
        back_at = torch.argsort(read_at, dim=1)
        return batch.logits + gather_slices(correction, back_at)

    def _packed(self, rows: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """What the GRU makes of padded rows (B, T, 2H)."""
        packed = pack_padded_sequence(rows, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(
            self.gru(packed)[0], batch_first=True, total_length=rows.shape[1]
        )[0]

    def _unpacked(self, rows: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """The same, each direction run from its own first slice on. On a CPU every step of a packed sequence
        fills a gradient as large as all of them, which thousands of windows of many slices cannot afford."""
        at = torch.arange(rows.shape[1], device=rows.device)[None, :, None]
        turned = torch.where(inside, inside.sum(dim=1, keepdim=True) - 1 - at, at)
        for layer in range(self.gru.num_layers):
            rows = nn.functional.dropout(rows, self.gru.dropout if layer else 0.0, self.training)
            upward = self._one_way(f"l{layer}", rows)
            downward = gather_slices(
                self._one_way(f"l{layer}_reverse", gather_slices(rows, turned)), turned
            )
            rows = torch.cat([upward, downward], dim=2)
        return rows

    def _one_way(self, name: str, rows: torch.Tensor) -> torch.Tensor:
        """One direction of one layer of the GRU by itself: (B, T, H)."""
        kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        weights = {f"{kind}_l0": getattr(self.gru, f"{kind}_{name}") for kind in kinds}
        alone = nn.GRU(rows.shape[2], self.gru.hidden_size, batch_first=True, device="meta")
        read: torch.Tensor = functional_call(alone, weights, (rows,))[0]
        return read


class ContextEnsemble(nn.Module):
    """Context models of one config side by side; their logits (B, T, K) are averaged."""

    def __init__(self, config: ContextConfig, embedding_width: int) -> None:
        super().__init__()
        members = [ContextModel(config, embedding_width) for _ in range(config.ensemble_size)]
        self.members = nn.ModuleList(members)
        self.config = config

    def forward(self, batch: ContextBatch) -> torch.Tensor:
        return torch.stack([member(batch) for member in self.members]).mean(dim=0)


def gather_slices(rows: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Row `at[b, t]` of each series put at place t: (B, T, C) by (B, T, 1)."""
    return rows.gather(1, at.expand(-1, -1, rows.shape[2]))


def _differences(own: torch.Tensor, inside: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each row less the one below, and less the one above; zero where that neighbour does not exist."""
    step = (own[:, 1:] - own[:, :-1]) * inside[:, 1:]
    edge = torch.zeros_like(own[:, :1])
    return torch.cat([edge, step], dim=1), torch.cat([-step, edge], dim=1)
