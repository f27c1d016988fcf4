"""Convolutional networks without skips as torch modules."""

from collections.abc import Sequence
from itertools import accumulate, chain, pairwise

import torch
from torch import Tensor, nn

from symlib.guards import sizes
from symlib.models.channels import Channels, unit, unit_axes
from symlib.models.parts import applied, check_divides, linear


class ConvNet(Channels):
    """A small convolutional network: layers x <- s(norm(W_i * x)), the mean over pixels, linear head.

    `channels` = (input, hidden ...); kernels are 3 x 3 with padding 1, without bias; `norm` is "group", a GroupNorm
    with `groups` groups, or "batch".  Takes images (n, channels[0], size, size) and returns logits (n, classes).  The
    channels c1, c2, ... are permuted if there is one group, otherwise within their group, and whole groups with each
    other.  A scale (ReLU) or sign (odd s) of what leaves a norm moves into the next layer.  The scale of what enters
    one is no symmetry, because of its epsilon.

    Raises ValueError for bad sizes, an unknown norm, groups that do not divide the hidden channels, an activation that
    is not elementwise, and no generator.

    Source: Zhao, Walters, Yu, arXiv 2506.13018, section 2 (convolutional networks).
    """

    def __init__(
        self,
        channels: Sequence[int],
        classes: int,
        *,
        size: int,
        groups: int = 1,
        norm: str = "group",
        activation: str = "relu",
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        widths = sizes(channels, "ConvNet: channels", 2)
        classes, size, groups = sizes((classes, size, groups), "ConvNet: (classes, size, groups)", 3, 3)
        make = self._open(activation, norm, groups, generator)
        self.layers = nn.ModuleList(unit(n, m, 3, make, generator) for n, m in pairwise(widths))
        spaces = ["x", *(f"c{i}" for i in range(1, len(widths)))]
        for i, (source, target) in enumerate(pairwise(spaces)):
            self.axes |= unit_axes(f"layers.{i}", source, target)
        self._close("convolutional network", widths, spaces[-1], classes, size, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, channels, size, size) to logits (n, classes)."""
        for layer in self.layers:
            x = applied(self.activation, layer(x))
        return self.head(x.mean(dim=(-2, -1)))


class VGG(Channels):
    """A VGG network: stages of layers x <- s(norm(W_i * x + b_i)) with a max-pooling after each, then dense layers.

    `stages` holds the widths of the convolutions stage by stage, as in `VGG16`, and `dense` those of the hidden dense
    layers, which read the mean over the pixels that remain (one pixel where `size` is 2^stages).  Kernels are 3 x 3
    with padding 1; `norm` is "group", with `groups` groups, or "batch".  Takes images (n, channels, size, size) and
    returns logits (n, classes).  The channels c1, c2, ... have the groups of a `ConvNet`, but no signs before a
    pooling; what a norm takes off may be added to the bias before it, with a BatchNorm to its running mean too.  The
    hidden units h1, h2, ... of the dense layers have the groups of the activation.

    Raises ValueError for bad sizes, no stages, a size that the poolings do not divide, an unknown norm, groups that do
    not divide the channels, an activation that is not elementwise, and no generator.

    Source: Simonyan, Zisserman, arXiv 1409.1556, table 1, with norms and pooling by the mean at the end.
    """

    def __init__(
        self,
        channels: int,
        stages: Sequence[Sequence[int]],
        classes: int,
        *,
        size: int,
        dense: Sequence[int] = (),
        groups: int = 1,
        norm: str = "group",
        activation: str = "relu",
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        wanted, what = (channels, classes, size, groups), "VGG: (channels, classes, size, groups)"
        channels, classes, size, groups = sizes(wanted, what, 4, 4)
        self.counts = tuple(len(sizes(stage, f"VGG: stage {i}", 1)) for i, stage in enumerate(stages, 1))
        widths = sizes([channels, *chain(*stages)], "VGG: channels and stages", 2)
        hidden = sizes(dense, "VGG: dense", 0)
        check_divides(2 ** len(self.counts), size, "VGG: poolings and size")
        make = self._open(activation, norm, groups, generator)
        self.layers = nn.ModuleList(unit(n, m, 3, make, generator, bias=True) for n, m in pairwise(widths))
        spaces = ["x", *(f"c{i}" for i in range(1, len(widths)))]
        for i, (source, target) in enumerate(pairwise(spaces)):
            self.axes |= unit_axes(f"layers.{i}", source, target, bias=True)
        self.pooled = frozenset(f"c{i}" for i in accumulate(self.counts))
        self.dense = nn.ModuleList(linear(n, m, generator) for n, m in pairwise((widths[-1], *hidden)))
        units = [spaces[-1], *(f"h{i}" for i in range(1, len(hidden) + 1))]
        for i, (source, target) in enumerate(pairwise(units)):
            self.axes |= {f"dense.{i}.weight": (target, f"{source}*"), f"dense.{i}.bias": (target,)}
        self._close("VGG", (*widths, *hidden), units[-1], classes, size, generator)
        self.kinds |= dict.fromkeys(units[1:], self.activation)

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, channels, size, size) to logits (n, classes)."""
        ends = set(accumulate(self.counts))
        for i, layer in enumerate(self.layers, 1):
            x = applied(self.activation, layer(x))
            x = nn.functional.max_pool2d(x, 2) if i in ends else x
        x = x.mean(dim=(-2, -1))
        for layer in self.dense:
            x = applied(self.activation, layer(x))
        return self.head(x)


VGG16 = ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3)
"""The widths of the thirteen convolutions of VGG16, stage by stage (configuration D)."""
