"""Residual convolutional networks as torch modules."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from symlib.guards import sizes
from symlib.models.channels import Channels, Norm, unit, unit_axes
from symlib.models.parts import applied


class ResidualBlock(nn.Module):
    """Two convolutions with a skip: x <- s(P x + N(W_2 * s(N(W_1 * x)))), P = 1 or N of a 1 x 1 convolution, N a norm.

    Source: He et al., arXiv 1512.03385, section 3.2, with any norm.
    """

    def __init__(self, n: int, m: int, stride: int, norm: Norm, activation: str, generator: torch.Generator) -> None:
        super().__init__()
        self.activation = activation
        self.first = unit(n, m, 3, norm, generator, stride=stride)
        self.second = unit(m, m, 3, norm, generator)
        self.skip = nn.Identity() if stride == 1 else unit(n, m, 1, norm, generator, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, channels, height, width) to those of the next block."""
        z = self.second(applied(self.activation, self.first(x)))
        return applied(self.activation, self.skip(x) + z)


class ResNet(Channels):
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
        norm: str = "group",
        activation: str = "relu",
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        widths, wanted = sizes(channels, "ResNet: channels", 2), (blocks, classes, size, groups)
        blocks, classes, size, groups = sizes(wanted, "ResNet: (blocks, classes, size, groups)", 4, 4)
        make = self._open(activation, norm, groups, generator)
        self.stem, self.layers = unit(widths[0], widths[1], 3, make, generator), nn.Sequential()
        self.axes, n, source = unit_axes("stem", "x", "c1"), widths[1], "c1"
        for stage, m in enumerate(widths[1:], 1):
            for _ in range(blocks):
                at, hidden, target = f"layers.{len(self.layers)}", f"h{len(self.layers) + 1}", f"c{stage}"
                stride = 1 if source == target else 2
                self.layers.append(ResidualBlock(n, m, stride, make, self.activation, generator))
                self.axes |= unit_axes(f"{at}.first", source, hidden) | unit_axes(f"{at}.second", hidden, target)
                self.axes |= unit_axes(f"{at}.skip", source, target) if stride > 1 else {}
                n, source = m, target
        self._close("residual network", widths, source, classes, size, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, channels, size, size) to logits (n, classes)."""
        x = self.layers(applied(self.activation, self.stem(x)))
        return self.head(x.mean(dim=(-2, -1)))
