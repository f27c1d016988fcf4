"""What the tests of runs and of checkpoints share: a small ensemble, its batches, and a loss that is watched."""

import torch

from symlib import data
from symlib.architectures import mlp
from symlib.dynamics import LayeredLoss

F64 = torch.float64
ARCH = mlp((3, 6, 2), "tanh")
LOSS = LayeredLoss("tanh")


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def batches(seed=0, members=3, size=5):
    """Three batches in an epoch, with one order for each member."""
    gen = seeded(seed)
    x, y = (torch.randn(n, 16, generator=gen, dtype=F64) for n in (3, 2))
    return data.minibatches(x, y, size, gen, members=members)


def start(seed=1, members=3):
    return ARCH.init(seeded(seed), members=members)


class Watched:
    """A loss that notes the place of every parameter that it is given."""

    def __init__(self):
        self.places = []

    def gradient(self, theta, *batch):
        self.places.append({k: v.data_ptr() for k, v in theta.items()})
        return LOSS.gradient(theta, *batch)
