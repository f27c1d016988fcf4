"""The vision transformer as a torch module."""

from functools import partial

import torch
from torch import Tensor, nn

from symlib.activations import elementwise_name
from symlib.guards import check_generator, sizes
from symlib.models.parts import (
    DIAGONAL,
    Model,
    along_mean,
    applied,
    behind,
    check_divides,
    drawn,
    linear,
    norm_axes,
    weight,
)
from symlib.symmetry import Shapes, Symmetry


class Attention(nn.Module):
    """Multi-head attention on tokens as rows x (n, t, dim), f = sum_m softmax(Q_m K_m^T / sqrt(key)) V_m W_O[m].

    Q_m = x W_Q[m]^T, K_m and V_m alike; W_Q and W_K are (heads, key, dim), W_V and W_O (heads, value, dim).

    Source: Vaswani et al., arXiv 1706.03762, section 3.2, without biases.
    """

    def __init__(self, dim: int, heads: int, key: int, value: int, generator: torch.Generator) -> None:
        super().__init__()
        self.W_Q, self.W_K = (weight(generator, dim, heads, key, dim) for _ in range(2))
        self.W_V = weight(generator, dim, heads, value, dim)
        self.W_O = weight(generator, heads * value, heads, value, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (n, t, dim) to tokens of the same shape."""
        q, k, v = (torch.einsum("ntd,mkd->nmtk", x, W) for W in (self.W_Q, self.W_K, self.W_V))
        weights = torch.softmax(q @ k.mT / self.W_Q.shape[-2] ** 0.5, dim=-1)
        return torch.einsum("nmtv,mvd->ntd", weights @ v, self.W_O)


class TransformerLayer(nn.Module):
    """A pre-norm transformer layer on tokens: x <- x + attention(LN(x)), then x <- x + W_2 s(W_1 LN(x) + b_1) + b_2.

    Source: Dosovitskiy et al., arXiv 2010.11929, eqs. 2 and 3.
    """

    def __init__(
        self, dim: int, heads: int, key: int, value: int, hidden: int, activation: str, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.activation = activation
        self.norm1, self.attention = nn.LayerNorm(dim), Attention(dim, heads, key, value, generator)
        self.norm2, self.up = nn.LayerNorm(dim), linear(dim, hidden, generator)
        self.down = linear(hidden, dim, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (n, t, dim) to tokens of the same shape."""
        x = x + self.attention(self.norm1(x))
        return x + self.down(applied(self.activation, self.up(self.norm2(x))))


class VisionTransformer(Model):
    """A small pre-norm vision transformer: patches, positions, layers, LayerNorm, mean over tokens, linear head.

    Takes images (n, channels, size, size) and returns logits (n, classes).  `key` and `value` are those of one head,
    by default dim / heads; `hidden` is by default 4 dim.  In layer i the heads m_i are permuted, each has GL(key) and
    GL(value), and the hidden units h_i have the groups of the activation.  The residual stream r is permuted; it
    cannot be rotated, as the scale of a LayerNorm is elementwise.  Scales and signs of what leaves a LayerNorm move
    into what reads it.  A LayerNorm takes off the mean over r, so whatever writes to r may add to all of r alike.  The
    scale of what enters a LayerNorm is no symmetry, because of its epsilon.

    Raises ValueError for bad sizes, a patch that does not divide the image, heads that do not divide dim when key or
    value is left out, an activation that is not elementwise, and no generator.

    Source: Dosovitskiy et al., arXiv 2010.11929, eqs. 1 to 4, with mean pooling in place of the class token.
    """

    def __init__(
        self,
        patch: int,
        dim: int,
        heads: int,
        depth: int,
        classes: int,
        *,
        size: int,
        channels: int = 1,
        key: int | None = None,
        value: int | None = None,
        hidden: int | None = None,
        activation: str = "gelu",
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        what, self.activation = "VisionTransformer", elementwise_name(activation, "VisionTransformer")
        wanted = (patch, dim, heads, depth, classes, size, channels)
        names = f"{what}: (patch, dim, heads, depth, classes, size, channels)"
        patch, dim, heads, depth, classes, size, channels = sizes(wanted, names, 7, 7)
        check_divides(patch, size, f"{what}: patch and size")
        if key is None or value is None:
            check_divides(heads, dim, f"{what}: heads and dim")
        given, usual = (key, value, hidden), (dim // heads, dim // heads, 4 * dim)
        inner = (n if g is None else g for g, n in zip(given, usual, strict=True))
        key, value, hidden = sizes(inner, f"{what}: (key, value, hidden)", 3, 3)
        check_generator(generator, what)
        self.embed = drawn(nn.Conv2d(channels, dim, patch, stride=patch, device="meta"), generator)
        self.position = weight(generator, dim, (size // patch) ** 2, dim)
        layer = partial(TransformerLayer, dim, heads, key, value, hidden, self.activation, generator)
        self.layers = nn.Sequential(*(layer() for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(dim), linear(dim, classes, generator)
        self.axes = {"position": (None, "r"), "embed.weight": ("r", "x", None, None), "embed.bias": ("r",)}
        self.kinds = {"r": "sum"}
        for i in range(1, depth + 1):
            m, k, v, h, at = f"m{i}", f"k{i}", f"v{i}", f"h{i}", f"layers.{i - 1}."
            self.axes |= norm_axes(f"{at}norm1", "r")
            self.axes |= {f"{at}attention.W_Q": (m, k, "r*"), f"{at}attention.W_K": (m, f"{k}*", "r*")}
            self.axes |= {f"{at}attention.W_V": (m, v, "r*"), f"{at}attention.W_O": (m, f"{v}*", "r")}
            self.axes |= norm_axes(f"{at}norm2", "r") | {f"{at}up.weight": (h, "r*"), f"{at}up.bias": (h,)}
            self.axes |= {f"{at}down.weight": ("r", f"{h}*"), f"{at}down.bias": ("r",)}
            self.kinds |= {m: "sum", f"{m} {k}": "linear", f"{m} {v}": "linear", h: self.activation}
        self.axes |= norm_axes("norm", "r") | {"head.weight": ("y", "r*"), "head.bias": ("y",)}
        self.label = f"vision transformer {dim}, {depth} layers of {heads} heads"
        self.inputs, self.input_axes = (None, channels, size, size), (None, "x", None, None)

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, channels, size, size) to logits (n, classes)."""
        x = self.embed(x).flatten(2).mT + self.position
        return self.head(self.norm(self.layers(x)).mean(dim=1))

    def tied(self, shapes: Shapes) -> list[Symmetry]:
        """Scales and signs behind each LayerNorm, and the translations along the mean of the stream."""
        parts = [("norm", "head")]  # a LayerNorm and what reads it, by the beginnings of their names
        for i in range(len(self.layers)):
            at = f"layers.{i}."
            parts += [(f"{at}norm1", f"{at}attention"), (f"{at}norm2", f"{at}up")]
        tables = {part[0]: {k: v for k, v in self.axes.items() if k.startswith(part)} for part in parts}
        scales = [behind(t, "r", f, shapes, norm) for norm, t in tables.items() for f in DIAGONAL]
        return [*scales, along_mean(self.axes, "r", shapes)]
