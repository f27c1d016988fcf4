"""Convolutional and residual networks with GroupNorm as torch modules."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from symlib import groups
from symlib.activations import elementwise_name, named_activation
from symlib.groups import Entries, Group
from symlib.guards import check_generator, sizes
from symlib.models.parts import (
    DIAGONAL,
    SOURCE,
    Label,
    Model,
    applied,
    behind,
    check_divides,
    drawn,
    linear,
    norm_axes,
    space_size,
)
from symlib.symmetry import Shapes, Symmetry, from_axes


class _Channels(Model):
    """What the convolutional models share: a linear head on the mean over pixels, and the symmetries of channels."""

    groups: int
    activation: str
    head: nn.Linear

    def _close(self, name: str, widths: Sequence[int], last: str, classes: int, size: int, g: torch.Generator) -> None:
        self.head = linear(widths[-1], classes, g)
        self.axes |= {"head.weight": ("y", f"{last}*"), "head.bias": ("y",)}
        self.kinds = dict.fromkeys(self._spaces(), "sum") if self.groups == 1 else {}
        self.label = f"{name} {'-'.join(map(str, widths))}, {self.activation}, groups: {self.groups}"
        self.inputs, self.input_axes = (None, widths[0], size, size), (None, "x", None, None)

    def _spaces(self) -> list[str]:
        return list(dict.fromkeys(str(v[0]) for k, v in self.axes.items() if k.endswith("norm.weight")))

    def tied(self, shapes: Shapes) -> list[Symmetry]:
        """With groups, the permutations that keep them; scales or signs behind the normalisations."""
        after = [f for f in named_activation(self.activation).families if f in DIAGONAL]
        before = (_within_groups, _whole_groups) if self.groups > 1 else ()
        out = []
        for space in self._spaces():
            kept = [f(space_size(self.axes, space, shapes), self.groups) for f in before]
            out += [from_axes(self.axes, space, g, shapes=shapes, source=SOURCE) for g in kept if g.discrete]
            out += [behind(self.axes, space, f, shapes, f"the norms of {space}") for f in after]
        return out


class ConvNet(_Channels):
    """A small convolutional network: layers x <- s(GroupNorm(W_i * x)), the mean over pixels, linear head.

    `channels` = (input, hidden ...); kernels are 3 x 3 with padding 1, without bias; every GroupNorm has `groups`
    groups.  Takes images (n, channels[0], size, size) and returns logits (n, classes).  The channels c1, c2, ... are
    permuted if there is one group, otherwise within their group, and whole groups with each other.  A scale (ReLU) or
    sign (odd s) of what leaves a GroupNorm moves into the next layer.  The scale of what enters one is no symmetry,
    because of its epsilon.

    Raises ValueError for bad sizes, groups that do not divide the hidden channels, an activation that is not
    elementwise, and no generator.

    Source: Zhao, Walters, Yu, arXiv 2506.13018, section 2 (convolutional networks).
    """

    def __init__(
        self,
        channels: Sequence[int],
        classes: int,
        *,
        size: int,
        groups: int = 1,
        activation: str = "relu",
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        widths, self.activation = sizes(channels, "ConvNet: channels", 2), elementwise_name(activation, "ConvNet")
        classes, size, self.groups = sizes((classes, size, groups), "ConvNet: (classes, size, groups)", 3, 3)
        check_generator(generator, "ConvNet")
        self.layers = nn.ModuleList(_unit(n, m, 3, 1, self.groups, generator) for n, m in pairwise(widths))
        spaces = ["x", *(f"c{i}" for i in range(1, len(widths)))]
        self.axes = {}
        for i, (source, target) in enumerate(pairwise(spaces)):
            self.axes |= _unit_axes(f"layers.{i}", source, target)
        self._close("convolutional network", widths, spaces[-1], classes, size, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, channels, size, size) to logits (n, classes)."""
        for layer in self.layers:
            x = applied(self.activation, layer(x))
        return self.head(x.mean(dim=(-2, -1)))


class ResidualBlock(nn.Module):
    """Two convolutions with a skip: x <- s(P x + GN(W_2 * s(GN(W_1 * x)))), P = 1 or GN of a 1 x 1 convolution.

    Source: He et al., arXiv 1512.03385, section 3.2, with GroupNorm.
    """

    def __init__(self, n: int, m: int, stride: int, groups: int, activation: str, generator: torch.Generator) -> None:
        super().__init__()
        self.activation = activation
        self.first = _unit(n, m, 3, stride, groups, generator)
        self.second = _unit(m, m, 3, 1, groups, generator)
        self.skip = nn.Identity() if stride == 1 else _unit(n, m, 1, stride, groups, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, channels, height, width) to those of the next block."""
        z = self.second(applied(self.activation, self.first(x)))
        return applied(self.activation, self.skip(x) + z)


class ResNet(_Channels):
    """A small residual network: stem, stages of residual blocks, the mean over pixels, linear head.

    `channels` = (input, stage 1, stage 2 ...), each stage with `blocks` blocks; from the second on, a stage begins with
    stride 2 and a projection.  All blocks of stage i write to one residual stream c_i, so one group element acts on all
    of them; the hidden channels of block j are h_j.  On each space act the groups that act in a `ConvNet`: a sum of
    normalised branches scales when all of them do.  Takes and returns what a `ConvNet` does, and raises alike.

    Source: He et al., arXiv 1512.03385, section 4.2; the shared stream as in Ainsworth et al., arXiv 2209.04836.
    """

    def __init__(
        self,
        channels: Sequence[int],
        blocks: int,
        classes: int,
        *,
        size: int,
        groups: int = 1,
        activation: str = "relu",
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        widths, self.activation = sizes(channels, "ResNet: channels", 2), elementwise_name(activation, "ResNet")
        wanted = (blocks, classes, size, groups)
        blocks, classes, size, self.groups = sizes(wanted, "ResNet: (blocks, classes, size, groups)", 4, 4)
        check_generator(generator, "ResNet")
        self.stem, self.layers = _unit(widths[0], widths[1], 3, 1, self.groups, generator), nn.Sequential()
        self.axes, n, source = _unit_axes("stem", "x", "c1"), widths[1], "c1"
        for stage, m in enumerate(widths[1:], 1):
            for _ in range(blocks):
                at, hidden, target = f"layers.{len(self.layers)}", f"h{len(self.layers) + 1}", f"c{stage}"
                stride = 1 if source == target else 2
                self.layers.append(ResidualBlock(n, m, stride, self.groups, self.activation, generator))
                self.axes |= _unit_axes(f"{at}.first", source, hidden) | _unit_axes(f"{at}.second", hidden, target)
                self.axes |= _unit_axes(f"{at}.skip", source, target) if stride > 1 else {}
                n, source = m, target
        self._close("residual network", widths, source, classes, size, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, channels, size, size) to logits (n, classes)."""
        x = self.layers(applied(self.activation, self.stem(x)))
        return self.head(x.mean(dim=(-2, -1)))


def _unit(n: int, m: int, kernel: int, stride: int, groups: int, generator: torch.Generator) -> nn.Sequential:
    """A convolution without bias and its GroupNorm."""
    check_divides(groups, m, "groups and channels")
    conv = nn.Conv2d(n, m, kernel, stride=stride, padding=kernel // 2, bias=False, device="meta")
    return nn.Sequential(OrderedDict(conv=drawn(conv, generator), norm=nn.GroupNorm(groups, m)))


def _unit_axes(name: str, source: str, target: str) -> dict[str, tuple[Label, ...]]:
    reads = "x" if source == "x" else f"{source}*"
    return {f"{name}.conv.weight": (target, reads, None, None), **norm_axes(f"{name}.norm", target)}


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
