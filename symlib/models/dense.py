"""The multilayer perceptron as a torch module."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from symlib.activations import elementwise_name
from symlib.guards import check_generator, sizes
from symlib.models.parts import Model, applied, linear


class MLP(Model):
    """A multilayer perceptron on rows (n, d): x <- s(x W_i^T + b_i), the last layer without s.

    `widths` = (input, hidden ..., output); weights are (out, in), biases (out,), drawn as N(0, 1 / in) and 0.  Hidden
    spaces h1, h2, ... have the groups of the activation.  Raises ValueError for bad widths, an activation that is not
    elementwise, and no generator.

    Source: Zhao, Walters, Yu, arXiv 2506.13018, section 2 (feedforward networks).
    """

    def __init__(
        self, widths: Sequence[int], activation: str, *, bias: bool = True, generator: torch.Generator
    ) -> None:
        super().__init__()
        values, self.activation = sizes(widths, "MLP: widths", 2), elementwise_name(activation, "MLP")
        check_generator(generator, "MLP")
        self.layers = nn.ModuleList(linear(n, m, generator, bias=bias) for n, m in pairwise(values))
        spaces = ["x", *(f"h{i}" for i in range(1, len(self.layers))), "y"]
        self.axes = {}
        for i, (source, target) in enumerate(pairwise(spaces)):
            self.axes[f"layers.{i}.weight"] = (target, "x" if source == "x" else source + "*")
            self.axes |= {f"layers.{i}.bias": (target,)} if bias else {}
        self.kinds = dict.fromkeys(spaces[1:-1], self.activation)
        self.label = f"{self.activation} MLP {'-'.join(map(str, values))}" + ("" if bias else " without bias")
        self.inputs, self.input_axes = (None, values[0]), (None, "x")

    def forward(self, x: Tensor) -> Tensor:
        """Rows (n, input) to rows (n, output)."""
        *hidden, last = self.layers
        for layer in hidden:
            x = applied(self.activation, layer(x))
        return last(x)
