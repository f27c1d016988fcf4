"""The multilayer perceptron as a torch module."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from symlib.activations import elementwise_name, named_activation
from symlib.guards import check_generator, check_known, sizes
from symlib.models.parts import DIAGONAL, Model, along_mean, along_parts, applied, behind, linear, norm_axes
from symlib.models.statistics import BatchNorm
from symlib.symmetry import Shapes, Symmetry

NORMS = {"layer": nn.LayerNorm, "batch": BatchNorm}


class MLP(Model):
    """A multilayer perceptron on rows (n, d): x <- s(x W_i^T + b_i), the last layer without s.

    `widths` = (input, hidden ..., output); weights are (out, in), biases (out,), drawn as N(0, 1 / in) and 0.  With
    `norm` "layer" or "batch" each hidden layer is normalised before s.  Hidden spaces h1, h2, ... have the groups of
    the activation; with `norm` they are permuted, a scale (ReLU) or sign (odd s) of what leaves the norm moves into the
    next layer, and what it takes off may be added: a LayerNorm one number to all units of a row of W_i or of b_i, a
    BatchNorm any vector to b_i and its running mean.

    Raises ValueError for bad widths, an activation that is not elementwise, an unknown norm, and no generator.

    Source: Zhao, Walters, Yu, arXiv 2506.13018, section 2 (feedforward networks).
    """

    def __init__(
        self,
        widths: Sequence[int],
        activation: str,
        *,
        bias: bool = True,
        norm: str | None = None,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        values, self.activation = sizes(widths, "MLP: widths", 2), elementwise_name(activation, "MLP")
        if norm is not None:
            check_known(norm, NORMS, "norm of an MLP")
        check_generator(generator, "MLP")
        self.layers = nn.ModuleList(linear(n, m, generator, bias=bias) for n, m in pairwise(values))
        self.norm, hidden = norm, values[1:-1]
        if norm is not None:
            self.norms = nn.ModuleList(map(NORMS[norm], hidden))
        spaces = ["x", *(f"h{i}" for i in range(1, len(self.layers))), "y"]
        self.axes = {}
        for i, (source, target) in enumerate(pairwise(spaces)):
            self.axes[f"layers.{i}.weight"] = (target, "x" if source == "x" else source + "*")
            self.axes |= {f"layers.{i}.bias": (target,)} if bias else {}
            if norm is not None and target != "y":
                self.axes |= norm_axes(f"norms.{i}", target)
        self.kinds = dict.fromkeys(spaces[1:-1], self.activation if norm is None else "sum")
        extras = ("" if bias else " without bias") + ("" if norm is None else f", {norm} norm")
        self.label = f"{self.activation} MLP {'-'.join(map(str, values))}{extras}"
        self.inputs, self.input_axes = (None, values[0]), (None, "x")

    def forward(self, x: Tensor) -> Tensor:
        """Rows (n, input) to rows (n, output)."""
        *hidden, last = self.layers
        for i, layer in enumerate(hidden):
            z = layer(x) if self.norm is None else self.norms[i](layer(x))
            x = applied(self.activation, z)
        return last(x)

    def tied(self, shapes: Shapes) -> list[Symmetry]:
        """Behind each norm its scales or signs, before it what it takes off."""
        out, after = [], [f for f in named_activation(self.activation).families if f in DIAGONAL]
        for i, space in enumerate(self.kinds if self.norm else ()):
            out += [behind(self.axes, space, f, shapes, f"the norm of {space}") for f in after]
            bias, mean = f"layers.{i}.bias", f"norms.{i}.running_mean"
            if self.norm == "layer":
                out.append(along_mean(self.axes, space, shapes))
            elif bias in shapes:
                out.append(along_parts((bias, mean), space, shapes[bias][0], shapes))
        return out
