"""The processes that train one run together:

here, one process alone; in `together`, several with torch.distributed.
"""

import hashlib
from pathlib import Path

from torch import Tensor, nn

from senet_ablate.spec.spec import Run
from senet_ablate.train.checkpoint import Checkpoints, Origin


class Team:
    """A process alone: every sum is its own, and nobody has to be told of anything.

    rank: this process's number, 0 being the one that writes. size: how many train together.
    """

    rank, size = 0, 1

    def synchronised(self, model: nn.Module) -> nn.Module:
        """The network with batch statistics of the whole batch, whatever part of it a process
        sees.
        """
        return model

    def spread(self, model: nn.Module) -> nn.Module:
        """What to call for a training step; gradients are those of the whole batch."""
        return model

    def total(self, value: Tensor) -> Tensor:
        """The sum of a value over processes."""
        return value

    def joined(self, value: Tensor) -> Tensor:
        """The values of all processes in a row, in the order of ranks; they may differ in
        length.
        """
        return value

    def tell(self, run: Run | None) -> Run | None:
        """Rank 0 tells the others which run to train next, None for no more; returns what it
        told.
        """
        return run

    def checkpoints(self, path: Path, origin: Origin, every: float) -> Checkpoints:
        """The keeper of a run's state."""
        return Checkpoints(path, origin, every)


ALONE = Team()


def own_seed(seed: int, rank: int) -> int:
    """What a process seeds the random state of its networks with:

    `seed` itself for rank 0, and no two alike.
    """
    if not rank:
        return seed
    return int.from_bytes(hashlib.sha256(f"rank/{seed}/{rank}".encode()).digest()[:7])
