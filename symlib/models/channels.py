"""What the convolutional models share: convolutions with a norm, the symmetries of their channels, the linear head."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from symlib import groups
from symlib.activations import elementwise_name, named_activation
from symlib.groups import Entries, Group
from symlib.guards import check_generator, check_known
from symlib.models.parts import (
    DIAGONAL,
    SOURCE,
    Label,
    Model,
    along_parts,
    behind,
    check_divides,
    drawn,
    linear,
    norm_axes,
    space_size,
)
from symlib.models.statistics import BatchNorm
from symlib.symmetry import Shapes, Symmetry, from_axes

Norm = Callable[[int], nn.Module]  # the normalisation of so many channels


class Channels(Model):
    """A model of normalised convolutions with a linear head, and the symmetries of its channels.  Abstract."""

    activation: str
    norm: str
    groups: int
    head: nn.Linear
    pooled: frozenset[str] = frozenset()  # the spaces whose largest value is taken, which a sign changes

    def _open(self, activation: str, norm: str, count: int, generator: torch.Generator) -> Norm:
        """Check and keep the arguments that all have; returns how to build a norm."""
        what = type(self).__name__
        self.activation, self.norm, self.groups, self.axes = elementwise_name(activation, what), norm, count, {}
        check_known(norm, ("group", "batch"), f"norm of a {what}")
        check_generator(generator, what)
        if norm == "batch" and count > 1:
            raise ValueError(f"{what}: a BatchNorm has no groups, got groups={count}")
        return BatchNorm if norm == "batch" else partial(_group_norm, count)

    def _close(self, name: str, widths: Sequence[int], last: str, classes: int, size: int, g: torch.Generator) -> None:
        """Add the head, and describe the model; `widths` are those from the input to what the head reads."""
        self.head = linear(widths[-1], classes, g)
        self.axes |= {"head.weight": ("y", f"{last}*"), "head.bias": ("y",)}
        self.kinds = dict.fromkeys(self._spaces(), "sum") if self.groups == 1 else {}
        norm = "batch norm" if self.norm == "batch" else f"groups: {self.groups}"
        self.label = f"{name} {'-'.join(map(str, widths))}, {self.activation}, {norm}"
        self.inputs, self.input_axes = (None, widths[0], size, size), (None, "x", None, None)

    def _spaces(self) -> dict[str, str]:
        """The spaces of channels, each with the last norm that writes to it."""
        return {str(v[0]): k.removesuffix(".norm.weight") for k, v in self.axes.items() if k.endswith("norm.weight")}

    def tied(self, shapes: Shapes) -> list[Symmetry]:
        """Permutations that keep the groups, scales or signs behind the norms, what the norms take off a bias."""
        after = [f for f in named_activation(self.activation).families if f in DIAGONAL]
        before = (_within_groups, _whole_groups) if self.groups > 1 else ()
        out = []
        for space, unit in self._spaces().items():
            n, bias = space_size(self.axes, space, shapes), f"{unit}.conv.bias"
            kept = [f(n, self.groups) for f in before]
            out += [from_axes(self.axes, space, g, shapes=shapes, source=SOURCE) for g in kept if g.discrete]
            moving = [f for f in after if f is not groups.sign_flip or space not in self.pooled]
            out += [behind(self.axes, space, f, shapes, f"the norms of {space}") for f in moving]
            if bias in shapes:
                keys = (bias, f"{unit}.norm.running_mean") if self.norm == "batch" else (bias,)
                out.append(along_parts(keys, space, self.groups if self.norm == "group" else n, shapes))
        return out


def unit(
    n: int, m: int, kernel: int, norm: Norm, generator: torch.Generator, *, stride: int = 1, bias: bool = False
) -> nn.Sequential:
    """A convolution and its norm.  Source: Ioffe, Szegedy, arXiv 1502.03167, section 3.2."""
    after = norm(m)
    conv = nn.Conv2d(n, m, kernel, stride=stride, padding=kernel // 2, bias=bias, device="meta")
    return nn.Sequential(OrderedDict(conv=drawn(conv, generator), norm=after))


def unit_axes(name: str, source: str, target: str, *, bias: bool = False) -> dict[str, tuple[Label, ...]]:
    """The axes of the parameters of a unit.  Source: ours."""
    conv: dict[str, tuple[Label, ...]] = {
        f"{name}.conv.weight": (target, "x" if source == "x" else f"{source}*", None, None)
    }
    return {**conv, **({f"{name}.conv.bias": (target,)} if bias else {}), **norm_axes(f"{name}.norm", target)}


def _group_norm(count: int, m: int) -> nn.Module:
    check_divides(count, m, "groups and channels")
    return nn.GroupNorm(count, m)


def _within_groups(n: int, count: int) -> Group:
    return groups.blocks(groups.permutation(n // count), count)


def _whole_groups(n: int, count: int) -> Group:
    """The permutations of `count` groups of neighbouring channels, each kept in its order."""
    few, width = groups.permutation(count), n // count

    def sample(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        g = torch.kron(few.sample_matrix(generator)[0], torch.eye(width, dtype=torch.float64))
        return g, g.T

    def swaps() -> Iterator[Entries]:
        return ({(i * width + w, j * width + w): 1 for i, j in e for w in range(width)} for e in few.components())

    return Group("permutation of groups", n, lambda: (), sample, None, components=swaps)
