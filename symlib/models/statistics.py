"""Batch normalisation, and the statistics that it measures: state of a network, not parameters of it."""

import copy
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

from symlib.guards import check_finite
from symlib.symmetry import Params, check_params

STATISTICS = ("running_mean", "running_var")


class BatchNorm(nn.Module):
    """Batch normalisation of the channels of x (n, channels, ...): weight (x - mean) / sqrt(var + 1e-5) + bias.

    In training mode, or where it is called without running statistics, mean and variance are those of the batch;
    otherwise the running ones.  It never changes them, as torch's does in training mode: `reset_statistics` measures
    them when training is done.

    Source: Ioffe, Szegedy, arXiv 1502.03167, algorithm 1.
    """

    running_mean: Tensor | None
    running_var: Tensor | None

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.eps = 1e-5
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Values (n, channels, ...) to values of the same shape."""
        if self.training or self.running_mean is None or self.running_var is None:
            return F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)  # by hand: torch's cannot be differentiated here
        shape = (-1, *[1] * (x.ndim - 2))
        return x * scale.reshape(shape) + (self.bias - self.running_mean * scale).reshape(shape)


NORMS = (BatchNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def entries(module: nn.Module) -> dict[str, Tensor]:
    """The parameters of a module and its buffers that hold floating-point numbers, by their names.  Source: ours."""
    buffers = {k: v for k, v in module.named_buffers() if v.is_floating_point()}
    return {**dict(module.named_parameters()), **buffers}


def norms(module: nn.Module) -> dict[str, Any]:
    """The batch normalisations of a module that keep running statistics, by their names.  Source: ours."""
    return {k: m for k, m in module.named_modules() if isinstance(m, NORMS) and m.running_mean is not None}


def called(module: nn.Module, theta: Params, x: Tensor, *, without: Iterable[str] = ()) -> Tensor:
    """The output of a module at other parameters, and `without` some of its buffers.

    Parameters are laid out row by row in memory: an action may transpose a kernel there, and GroupNorm under vmap
    refuses what follows from that.  Source: ours.
    """
    parts: dict[str, Any] = {**dict.fromkeys(without), **{k: v.flatten().reshape(v.shape) for k, v in theta.items()}}
    return functional_call(module, parts, (x,))


def reset_statistics(model: nn.Module, theta: Params, x: Tensor) -> dict[str, Any]:
    """The parameters with the running statistics of every batch normalisation as they are on the inputs x.

    One pass with all inputs as one batch: each normalisation is given the mean, and the variance with n - 1, of what
    reaches it, while it normalises with the variance with n, as torch does in training mode.  `theta` may leave the
    statistics out, what it says of them does not matter; it may have leading member axes.  All else runs in evaluation
    mode.  The model and `theta` stay as they are.

    Raises ValueError for a model without batch normalisation, parameters of another model, a normalisation that is not
    reached exactly once, or by a single value of each channel, and statistics that are not finite.

    Source: Ioffe, Szegedy, arXiv 1502.03167, algorithm 2; after merging: Jordan et al., arXiv 2211.08403 (REPAIR).
    """
    where, twin = "reset_statistics", copy.deepcopy(model).eval()
    found = norms(twin)
    if not found:
        raise ValueError(f"{where}: {type(model).__name__} has no batch normalisation with running statistics")
    wanted, seen = entries(model), {}

    def record(name: str, _: nn.Module, args: tuple[Tensor, ...]) -> None:
        if name in seen:
            raise ValueError(f"{where}: the forward pass reaches {name} more than once")
        z = args[0].movedim(1, -1).flatten(0, -2)
        if len(z) < 2:
            raise ValueError(f"{where}: {name} is reached by {len(z)} value of each channel, a variance wants two")
        seen[name] = z.mean(dim=0), z.var(dim=0)

    def measured(learned: Params) -> dict[str, Tensor]:
        seen.clear()
        called(twin, learned, x)
        if missed := [k for k in found if k not in seen]:
            raise ValueError(f"{where}: the forward pass does not reach {', '.join(missed)}")
        return {_key(k, part): v for k, values in seen.items() for part, v in zip(STATISTICS, values, strict=True)}

    for name, norm in found.items():
        norm.running_mean = norm.running_var = None  # so that it takes those of the batch
        norm.register_forward_pre_hook(partial(record, name))
    at = [_key(k, part) for k in found for part in STATISTICS]
    shapes = {k: tuple(v.shape) for k, v in wanted.items() if k not in at}
    learned = {k: v for k, v in theta.items() if k not in at}
    check_params(learned, shapes, where)
    for _ in range(next((theta[k].ndim - len(s) for k, s in shapes.items()), 0)):
        measured = vmap(measured)
    with torch.no_grad():
        statistics = measured(learned)
    for k, v in statistics.items():
        check_finite(v, f"{where}: {k}")
    return {k: {**learned, **statistics}[k] for k in wanted}


def _key(name: str, part: str) -> str:
    return f"{name}.{part}" if name else part
