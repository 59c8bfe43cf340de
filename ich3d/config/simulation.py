"""The section of the configuration that says how the scores of an encoder are simulated."""

import math
from dataclasses import dataclass

from ich3d.config.validation import require, require_numbers


@dataclass(frozen=True)
class SimulationConfig:
    """Simulated scores of an encoder on real label sequences (`source.kind: sequences`).

    Attributes:
        bleeding_share: share of series that bleed; series that bleed are left out by chance until
            it is reached. None for all series.
        offset: share of the evidence's noise that a whole series has in common.
        correlated: share of the noise that neighbours have in common; what remains beside it and
            `offset` is each slice's own.
        correlation_mm: distance over which the correlation of `correlated` falls to 1/e, in mm.
        embedding_width: numbers of an embedding, a fixed random linear map of the logits.
        embedding_noise: standard deviation of the noise that is added to each of them.
        scrambled: a control. Context model and stacker get the slices of all series of a fold in
            random order, so that nothing can be gained; positions stay.
    """

    bleeding_share: float | None = None
    offset: float = 0.0
    correlated: float = 0.0
    correlation_mm: float = 10.0
    embedding_width: int = 64
    embedding_noise: float = 1.0
    scrambled: bool = False

    def __post_init__(self) -> None:
        require_numbers(
            "simulation",
            self,
            offset=(0, 0.99),
            correlated=(0, 1),
            correlation_mm=(1e-3, 1e6),
            embedding_width=(1, 10_000),
            embedding_noise=(0, math.inf),
        )
        total = self.offset + self.correlated
        require(total <= 1, "simulation.correlated", "at most 1 with simulation.offset", total)
        share = self.bleeding_share
        is_share = share is None or 0 < share < 1
        require(is_share, "simulation.bleeding_share", "between 0 and 1", share)
