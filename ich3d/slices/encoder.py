"""The slice encoder: a MONAI network between HU and an embedding, with the windows inside it.

Windows are part of the network, so what was trained is what predicts; the store keeps HU.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from ich3d.config.schema import SlicesConfig
from ich3d.config.validation import require
from ich3d.core.arguments import require_tensor
from ich3d.core.errors import ConfigError, DataError
from ich3d.core.labels import LABELS
from ich3d.core.windows import window
from ich3d.slices.backbones import build_backbone, load_pretrained
from ich3d.training.device import is_tracing


class SliceEncoder(nn.Module):
    """HU of a slice and its neighbours to an embedding (D) and six logits (K).

    The channels of the network's input are: every slice in every window; if there are
    neighbours, a constant plane for each slice that says whether it is an edge copy; with
    `symmetry`, for each window the centre slice minus its mirror image. A head is nearly
    symmetric, and most bleeds are not.

    Examples:
        >>> encoder = SliceEncoder("resnet10-half", windows=("brain", "bone"), neighbours=1).eval()
        >>> hu = torch.zeros(2, 3, 64, 64)  # two slices, each between its neighbours
        >>> embeddings, logits = encoder(hu)
        >>> embeddings.shape, logits.shape
        (torch.Size([2, 256]), torch.Size([2, 6]))
    """

    low: torch.Tensor
    width: torch.Tensor

    def __init__(
        self,
        backbone: str = "resnet18",
        *,
        windows: Sequence[str] = ("brain", "subdural", "bone"),
        neighbours: int = 1,
        symmetry: bool = True,
        dropout: float = 0.2,
        sharing: "SliceEncoder | None" = None,
    ) -> None:
        """Build the network with new weights; ConfigError where a value is not allowed.

        Args:
            backbone: a MONAI network, one of `config.schema.ENCODERS`.
            windows: names of `core.windows.WINDOWS`.
            neighbours: slices on each side that are read beside the centre slice.
            symmetry: read what the centre slice differs by from its left-right mirror image.
            dropout: share of the embedding that training drops before the classifier.
            sharing: an encoder built with equal arguments whose network is used by both; None
                builds a new one.
        """
        super().__init__()
        require(not isinstance(windows, str), "windows", "a list of names", windows)
        self.config = SlicesConfig(
            encoder=backbone,
            windows=tuple(windows),
            neighbours=neighbours,
            symmetry=symmetry,
            dropout=dropout,
        )
        self.neighbours = neighbours
        self.num_slices = 2 * neighbours + 1
        self.symmetry = symmetry

        ranges_hu = [window(name) for name in windows]
        self.register_buffer("low", torch.tensor([hu_range.low for hu_range in ranges_hu]))
        self.register_buffer("width", torch.tensor([hu_range.width for hu_range in ranges_hu]))

        channels = self.num_slices * len(windows)
        channels += self.num_slices if neighbours else 0
        channels += len(windows) if symmetry else 0
        first = (self.num_slices // 2) * len(windows)
        self.centre_channels = range(first, first + len(windows))
        self.backbone: nn.Module
        self.embedding_width: int
        if sharing is None:
            self.backbone, self.embedding_width = build_backbone(backbone, channels)
        else:
            self.backbone, self.embedding_width = sharing.backbone, sharing.embedding_width
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(self.embedding_width, len(LABELS))

    @classmethod
    def from_config(
        cls, config: SlicesConfig, sharing: "SliceEncoder | None" = None
    ) -> "SliceEncoder":
        """The encoder that the `slices` section of a configuration describes, with new weights."""
        return cls(
            config.encoder,
            windows=config.windows,
            neighbours=config.neighbours,
            symmetry=config.symmetry,
            dropout=config.dropout,
            sharing=sharing,
        )

    def forward(
        self, hu: torch.Tensor, is_copy: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings and logits of a batch of slices.

        Args:
            hu: Hounsfield units, int16 or float (B, S, H, W), S = 2 * neighbours + 1 slices
                from inferior to superior with the centre slice in the middle, on the grid that
                the network was trained on: rows toward posterior, columns toward the patient's
                left.
            is_copy: bool (B, S), slices that only repeat the first or last slice of the series,
                because it ends there; None where all slices are real.

        Returns:
            Embeddings float32 (B, D) and logits float32 (B, K), labels in the order of
            `core.labels.LABELS`.

        Raises:
            DataError: `hu` or `is_copy` has another shape, or `hu` is not finite.
        """
        if not is_tracing():
            require_stacks(hu, is_copy, self.num_slices)
        return self.encode(self.network_input(hu, is_copy))

    def network_input(
        self,
        hu: torch.Tensor,
        is_copy: torch.Tensor | None = None,
        augment: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """What the backbone reads (B, C, H, W), from `hu` and `is_copy` as `forward` takes them.

        `augment` moves and changes HU (B, S', H, W), all slices of a stack alike; S' is S, and
        one more for the mirror image if the network reads it. The mirror image is taken before
        that, so that it stays the head's own however the head is then turned.
        """
        if self.symmetry:
            centre = hu[:, [self.num_slices // 2]]
            hu = torch.cat([hu, centre.flip(-1)], dim=1)  # (B, S + 1, H, W)
        if augment is not None:
            hu = augment(hu)

        # One more slice, the mirror image, with `symmetry`; one plane for each slice and window.
        planes = hu.float().unsqueeze(2) - self.low[:, None, None]  # (B, S', windows, H, W)
        planes = planes.div_(self.width[:, None, None]).clamp_(0, 1)
        channels = [planes[:, : self.num_slices].flatten(1, 2) - 0.5]  # (B, S * windows, H, W)

        if self.neighbours:
            if is_copy is None:
                is_copy = torch.zeros(hu.shape[0], self.num_slices, device=hu.device)
            flags = is_copy.to(planes.dtype)[..., None, None]  # (B, S, 1, 1)
            channels.append(flags.expand(-1, -1, *planes.shape[3:]))
        if self.symmetry:
            channels.append(planes[:, self.num_slices // 2] - planes[:, -1])
        return torch.cat(channels, dim=1).contiguous(memory_format=torch.channels_last)

    def encode(self, network_input: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings (B, D) and logits (B, K) of what `network_input` returned (B, C, H, W)."""
        embeddings = self.embed(network_input)
        return embeddings, self.classify(embeddings)

    def embed(self, network_input: torch.Tensor) -> torch.Tensor:
        """Embeddings (B, D) of what `network_input` returned (B, C, H, W)."""
        embeddings: torch.Tensor = self.backbone(network_input).flatten(1).float()
        return embeddings

    def classify(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Logits (B, K) of embeddings (B, D)."""
        logits: torch.Tensor = self.head(self.dropout(embeddings)).float()
        return logits


class EncoderEnsemble(nn.Module):
    """Encoders of one configuration: their embeddings are joined, their logits averaged.

    Attributes:
        mean_validation_logits: mean logits (K,) on patients held back in training, or on the
            training slices of a frozen network, zero where neither is known; the baseline of
            explanations.
    """

    mean_validation_logits: torch.Tensor

    def __init__(self, members: Sequence[SliceEncoder]) -> None:
        """An ensemble of `members`, which were built with equal arguments."""
        super().__init__()
        self.members = nn.ModuleList(members)
        self.register_buffer("mean_validation_logits", torch.zeros(len(LABELS)))
        self.config = members[0].config
        self.neighbours = members[0].neighbours
        self.num_slices = members[0].num_slices
        self.embedding_width = sum(member.embedding_width for member in members)

    @classmethod
    def from_config(
        cls, config: SlicesConfig, sharing: SliceEncoder | None = None
    ) -> "EncoderEnsemble":
        """`slices.ensemble_size` encoders as that section describes them, with new weights.

        With `sharing`, they use the network of that encoder instead of new ones.
        """
        members = range(config.ensemble_size)
        return cls([SliceEncoder.from_config(config, sharing) for _ in members])

    def forward(
        self, hu: torch.Tensor, is_copy: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Joined embeddings (B, members * D) and mean logits (B, K), as `SliceEncoder.forward`."""
        if not is_tracing():
            require_stacks(hu, is_copy, self.num_slices)
        return self.encode(self.network_input(hu, is_copy))

    def network_input(self, hu: torch.Tensor, is_copy: torch.Tensor | None = None) -> torch.Tensor:
        """What every member's backbone reads (B, C, H, W): the same for all of them."""
        first: Any = self.members[0]
        network_input: torch.Tensor = first.network_input(hu, is_copy)
        return network_input

    def encode(self, network_input: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings and logits of what `network_input` returned (B, C, H, W)."""
        members: Any = self.members
        embeddings, logits = zip(*(member.encode(network_input) for member in members), strict=True)
        return torch.cat(embeddings, dim=1), torch.stack(logits).mean(dim=0)


class FoldBatchEncoder(nn.Module):
    """Several encoders over the same slices: their input is made once for all of them.

    They must read the same windows and neighbours, as the encoders of one model's folds do. A
    network that they share is run once. With `tta_flip` each output is the mean over the slices and
    their left-right mirror images.
    """

    def __init__(self, encoders: Sequence[SliceEncoder | EncoderEnsemble], tta_flip: bool) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)
        self.tta_flip = tta_flip

    def forward(self, hu: torch.Tensor, is_copy: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """HU (B, S, H, W), flags (B, S) to each encoder's embeddings (B, D) and logits (B, K).

        The result is flat: the embeddings and the logits of the first encoder, then of the second.
        """
        encoders: Any = self.encoders
        n_slices = hu.shape[0]
        if self.tta_flip:
            hu, is_copy = torch.cat([hu, hu.flip(-1)]), torch.cat([is_copy, is_copy])  # (2 B, ...)

        network_input = encoders[0].network_input(hu, is_copy)
        embeddings_of: dict[int, torch.Tensor] = {}  # by the identity of the network
        outputs = []
        for encoder in encoders:
            members = getattr(encoder, "members", [encoder])
            for member in members:
                if id(member.backbone) not in embeddings_of:
                    embeddings_of[id(member.backbone)] = member.embed(network_input)
            embeddings = [embeddings_of[id(member.backbone)] for member in members]
            logits = [member.classify(one) for member, one in zip(members, embeddings, strict=True)]
            outputs += [torch.cat(embeddings, dim=1), torch.stack(logits).mean(dim=0)]

        if self.tta_flip:
            outputs = [(output[:n_slices] + output[n_slices:]) / 2 for output in outputs]
        return tuple(outputs)


def require_stacks(hu: torch.Tensor, is_copy: torch.Tensor | None, num_slices: int) -> None:
    """DataError unless `hu` and `is_copy` are what `SliceEncoder.forward` takes."""
    neighbours = num_slices // 2
    hint = f"; this encoder reads {neighbours} slices on each side" if neighbours else ""
    require_tensor("hu", hu, "(B, S, H, W)", (None, num_slices, None, None), hint)
    if hu.is_complex() or hu.dtype == torch.bool:
        raise DataError(f"hu must hold Hounsfield units, got values of {hu.dtype}")
    if hu.is_floating_point() and not torch.isfinite(hu).all():
        raise DataError("hu must be finite, got NaN or infinity")
    if is_copy is not None:
        require_tensor("is_copy", is_copy, "(B, S)", (len(hu), num_slices))


def frozen_encoder(config: SlicesConfig) -> SliceEncoder:
    """The encoder of a frozen network, in evaluation mode; its head has no meaning yet.

    Its weights are rounded to half precision, in which a model folder keeps them, so that what is
    trained on its embeddings is what predicts. ConfigError where half precision cannot hold them.
    """
    encoder = SliceEncoder.from_config(config)
    load_start_weights(encoder, config)
    encoder.backbone.half().float()
    for name, tensor in encoder.backbone.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise ConfigError(
                f"{config.weights}: {name} is too large for half precision, in which a frozen "
                "network is kept; set slices.frozen to false"
            )
    return encoder.eval().requires_grad_(False)


def load_start_weights(encoder: SliceEncoder, config: SlicesConfig) -> None:
    """Put the weights that `slices.weights` names into `encoder`, if it names any."""
    if config.weights is not None:
        load_pretrained(encoder, config.weights, config.weights_sha256, encoder.centre_channels)
