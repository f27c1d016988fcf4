"""Monomial elements, one non-zero entry in each row, as an order and scales: they act by index, at any width."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from symlib.architectures import Arch
from symlib.groups import Elem
from symlib.guards import check_finite, check_known
from symlib.symmetry import Axes, Params, check_params

Labels = Sequence[str | None]


@dataclass(frozen=True)
class Move:
    """A monomial element, (g z)_i = scale_i z_{order_i}; on the dual space the scales are 1 / scale_i.

    `order` is int64 (n,), `scale` float64 (n,): 1 for a permutation, -1 for a sign.  `move @ other` acts by `other`
    first.  Raises ValueError for an order that is no permutation of 0..n-1, and for a scale that is 0, NaN or inf.

    Source: Zhao, Walters, Yu, arXiv 2506.13018, section 2 (permutation, sign flip, scaling).
    """

    order: Tensor
    scale: Tensor

    def __post_init__(self) -> None:
        n = self.order.numel()
        is_order = self.order.dtype == torch.int64 and self.order.ndim == 1
        if not is_order or self.order.sort().values.tolist() != list(range(n)):
            raise ValueError(f"move: the order should be a permutation of 0..{n - 1}, got {self.order}")
        if self.scale.dtype != torch.float64 or self.scale.shape != self.order.shape:
            got = f"{self.scale.dtype} of shape {tuple(self.scale.shape)}"
            raise ValueError(f"move: the scale should be torch.float64 of shape {(n,)}, got {got}")
        check_finite(self.scale, "move: the scale")
        if not self.scale.all():
            raise ValueError(f"move: no scale should be 0, got 0 at {(self.scale == 0).nonzero().flatten().tolist()}")

    def __matmul__(self, other: "Move") -> "Move":
        return Move(other.order[self.order], self.scale * other.scale[self.order])

    def inverse(self) -> "Move":
        """The inverse element."""
        back = self.order.argsort()
        return Move(back, 1 / self.scale[back])

    @property
    def element(self) -> Elem:
        """The same element as a dense matrix and its inverse."""
        eye = torch.eye(len(self.order), dtype=torch.float64)[self.order]
        return Elem(self.scale[:, None] * eye, (eye / self.scale[:, None]).T)

    def act(self, value: Tensor, axis: int, *, dual: bool = False, units: Tensor | None = None) -> Tensor:
        """A tensor with one axis moved, by the dual element if asked; of the result some units alone if named."""
        order, scale = (self.order, self.scale) if units is None else (self.order[units], self.scale[units])
        out = value.index_select(axis, order.to(value.device))
        if (scale == 1).all():
            return out
        by = (1 / scale if dual else scale).to(value)
        return out * by.reshape([-1 if i == axis % value.ndim else 1 for i in range(value.ndim)])


def identity(n: int) -> Move:
    """The move that leaves n units where they are.  Source: ours."""
    return Move(torch.arange(n), torch.ones(n, dtype=torch.float64))


def places(axes: Axes, space: str) -> list[tuple[str, int, bool]]:
    """Where a space is in an axis table: (parameter, axis counted from the last, whether it is dual).  Source: ours."""
    found = [(k, i - len(labels), a or "") for k, labels in axes.items() for i, a in enumerate(labels)]
    return [(k, i, a.endswith("*")) for k, i, a in found if a.rstrip("*") == space]


def moved(labels: Labels, value: Tensor, moves: Mapping[str, Move], *, but: int | None = None) -> Tensor:
    """A tensor with every labelled axis moved, except the axis `but` (counted from the last).  Source: ours."""
    for i, label in enumerate(labels, -len(labels)):
        move = moves.get((label or "").rstrip("*"))
        if move is not None and i != but:
            value = move.act(value, i, dual=str(label).endswith("*"))
    return value


def carry(arch: Arch, theta: Params, moves: Mapping[str, Move]) -> dict[str, Tensor]:
    """The parameters g . theta for one move in each of some spaces, by index over the axis table.

    Leading member axes are kept, dtype and device too.  It agrees with `arch.claim(space, family)` of the dense
    elements, at the cost of a copy.  Raises ValueError for parameters of another architecture, for unknown spaces and
    for moves of another size.

    Source: the axis tables of Ainsworth et al., arXiv 2209.04836, with duals (ours).
    """
    if check_params(theta, arch.shapes, f"carry over {arch.name}") is None:
        raise TypeError(f"carry over {arch.name}: wanted torch tensors, got symbolic parameters")
    sizes = arch.sizes()
    for space, move in moves.items():
        check_known(space, sizes, f"space of {arch.name}")
        if len(move.order) != sizes[space]:
            raise ValueError(f"carry: space {space!r} of {arch.name} has size {sizes[space]}, got {len(move.order)}")
    return {k: moved(arch.axes[k], v, moves) for k, v in theta.items()}
