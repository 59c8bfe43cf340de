"""Score series on a Ray cluster whose machines see the same files: each process loads the model
once.
"""

import importlib
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Final

from ich3d.core.ray_cluster import connected_ray
from ich3d.core.types import Rejected, Series
from ich3d.dicom.assembly.grouping import Policy
from ich3d.dicom.index import Index
from ich3d.dicom.validate import SeriesGroup
from ich3d.inference.scoring import SeriesPrediction, in_batches, score_batch
from ich3d.model.folder import Model

BATCHES_PER_SCORER: Final = 2
"""Batches that wait or are scored in each process, so that none waits for the driver."""


def stream_on_ray(
    model: Model, index: Index, chosen: Sequence[Series], policy: Policy, address: str
) -> Iterator[SeriesPrediction | Rejected]:
    """As `inference.scoring.stream`, on the cluster at `address`; `local` starts one here.

    A process that is lost is replaced, and its series are scored again.
    """
    with connected_ray(address) as ray:
        resources = ray.cluster_resources()
        n_gpus = int(resources.get("GPU", 0))
        options: dict[str, Any] = {"num_gpus": 1} if n_gpus else {"num_cpus": 1}
        scorer = ray.remote(_Scorer).options(max_restarts=-1, max_task_retries=-1, **options)
        model_reference = [ray.put(model)]  # in a list, it is not fetched anew for each batch
        batches = in_batches(index, chosen)
        n_scorers = max(1, min(n_gpus or int(resources.get("CPU", 1)), len(batches)))
        scorers = [scorer.remote() for _ in range(n_scorers)]

        waiting: deque[Any] = deque()
        for number, (group, batch) in enumerate(batches):
            score = scorers[number % n_scorers].score
            waiting.append(score.remote(model_reference, group, batch, policy))
            if len(waiting) > BATCHES_PER_SCORER * n_scorers:
                yield from ray.get(waiting.popleft())
        while waiting:
            yield from ray.get(waiting.popleft())


class _Scorer:
    """A process of the cluster that holds the model."""

    def __init__(self) -> None:
        self._model: Model | None = None

    def score(
        self,
        model_reference: Sequence[Any],
        group: SeriesGroup,
        batch: Sequence[Series],
        policy: Policy,
    ) -> list[SeriesPrediction | Rejected]:
        """The results of the series of a batch."""
        if self._model is None:
            ray: Any = importlib.import_module("ray")
            self._model = ray.get(model_reference[0])
        return score_batch(self._model, group, batch, policy)
