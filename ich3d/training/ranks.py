"""The processes that train one network together, as `torchrun` starts them.

Each rank has a copy of the network and reads its part of every batch. Parts of the loss and of its
gradients are added up over the ranks, which then take the same step. The batch is what one process
would read, so its size in the configuration does not depend on how many ranks there are.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeVar

import torch
from torch import distributed, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.nn.utils import parameters_to_vector, vector_to_parameters

T = TypeVar("T")

PATIENCE: Final = timedelta(days=7)
"""How long ranks wait for one another: the first one prepares the data while the others wait."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together.

    Attributes:
        rank: its number from 0; the first one writes all files.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    @property
    def part(self) -> slice:
        """The part of a batch, or of a list, that is this rank's."""
        return slice(self.rank, None, self.count)

    def add_up(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace each tensor by its sum over the ranks."""
        if self.count == 1:
            return
        vector = parameters_to_vector(tensors)
        distributed.all_reduce(vector)
        vector_to_parameters(vector, tensors)

    def total(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over the ranks."""
        total = tensor.clone()
        self.add_up([total])
        return total

    def share_buffers(self, model: nn.Module) -> None:
        """Give every rank the first one's statistics of batch normalisation."""
        if self.count > 1:
            for buffer in model.buffers():
                distributed.broadcast(buffer, src=0)

    def gather(self, item: T) -> list[T]:
        """The items of all ranks."""
        if self.count == 1:
            return [item]
        items: list[Any] = [None] * self.count
        distributed.all_gather_object(items, item)
        return items

    def own(self, items: Sequence[T]) -> T:
        """This rank's item of those that `gather` gave, or the first where there were fewer."""
        return items[self.rank if self.rank < len(items) else 0]

    def wait(self) -> None:
        """Wait until all ranks are here."""
        if self.count > 1:
            distributed.barrier()


ALONE: Final = Ranks()
"""A process that trains by itself."""


@contextmanager
def started_ranks() -> Iterator[Ranks]:
    """The ranks that `torchrun` started, connected with each other; `ALONE` without it."""
    if not distributed.is_torchelastic_launched():
        yield ALONE
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # Ranks that were restarted must not find the addresses of those that are gone.
    store, rank, count = next(rendezvous("env://", timeout=PATIENCE))
    own_store = PrefixStore(os.environ["TORCHELASTIC_RESTART_COUNT"], store)
    distributed.init_process_group(store=own_store, rank=rank, world_size=count, timeout=PATIENCE)
    try:
        yield Ranks(rank, count)
    finally:
        distributed.destroy_process_group()
