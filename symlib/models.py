"""Torch modules as people write them, samples as rows, each with the axis table of its own parameters.

`model.arch` is an `Arch` over `named_parameters()`, so that all which reads an architecture reads a module too.  Its
forward pass is `torch.func.functional_call`, for numbers only: symbolic proofs are for the blocks of the catalogue,
and the activations that a proof puts in place are not used here.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from symlib import groups
from symlib.activations import ACTIVATIONS, Family, named_activation
from symlib.architectures import Arch
from symlib.groups import Elem
from symlib.guards import check_generator, sizes
from symlib.symmetry import Axes, Params, Shapes, Symmetry, from_axes

Label = str | None
Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)
SOURCE = "Ainsworth et al., arXiv 2209.04836 (axis tables of real networks); duals and scales ours"


class Model(nn.Module):
    """A module that knows the axes of its parameters.  Abstract: a model fills in the fields below.

    `axes` is its axis table and `kinds` the activation of each space ("sum": no more than a sum runs over it);
    `tied` builds from the shapes the symmetries that those two do not give.
    """

    label: str
    axes: dict[str, tuple[Label, ...]]
    kinds: dict[str, str]
    inputs: tuple[int | None, ...]
    input_axes: tuple[Label, ...]

    @property
    def arch(self) -> Arch:
        """The architecture of the module, over exactly its named parameters.

        `dict(model.named_parameters())` are parameters of it; `arch.init` draws a generic point, norm scales
        included, which is for checks: for training, start where the module was initialised.
        """
        shapes = {k: tuple(p.shape) for k, p in self.named_parameters()}
        tied = tuple(self.tied(shapes))
        return Arch(self.label, shapes, self.axes, self._call, self.kinds, self.inputs, self.input_axes, tied)

    def tied(self, shapes: Shapes) -> list[Symmetry]:
        """The symmetries beyond axes and activations."""
        return []

    def _call(self, theta: Params, x: Tensor, sigma: Mapping[str, Callable]) -> Tensor:
        if not isinstance(x, Tensor):
            raise TypeError(f"{self.label}: a module takes tensors; proofs are for architectures.CATALOGUE")
        return functional_call(self, dict(theta), (x,), strict=True)


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
        values, self.activation = sizes(widths, "MLP: widths", 2), _elementwise(activation, "MLP")
        check_generator(generator, "MLP")
        self.layers = nn.ModuleList(_linear(n, m, generator, bias=bias) for n, m in pairwise(values))
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
            x = _apply(self.activation, layer(x))
        return last(x)


class Attention(nn.Module):
    """Multi-head attention on tokens as rows x (n, t, dim), f = sum_m softmax(Q_m K_m^T / sqrt(key)) V_m W_O[m].

    Q_m = x W_Q[m]^T, K_m and V_m alike; W_Q and W_K are (heads, key, dim), W_V and W_O (heads, value, dim).

    Source: Vaswani et al., arXiv 1706.03762, section 3.2, without biases.
    """

    def __init__(self, dim: int, heads: int, key: int, value: int, generator: torch.Generator) -> None:
        super().__init__()
        self.W_Q, self.W_K = (_weight(generator, dim, heads, key, dim) for _ in range(2))
        self.W_V = _weight(generator, dim, heads, value, dim)
        self.W_O = _weight(generator, heads * value, heads, value, dim)

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
        self.norm2, self.up = nn.LayerNorm(dim), _linear(dim, hidden, generator)
        self.down = _linear(hidden, dim, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (n, t, dim) to tokens of the same shape."""
        x = x + self.attention(self.norm1(x))
        return x + self.down(_apply(self.activation, self.up(self.norm2(x))))


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
        what, self.activation = "VisionTransformer", _elementwise(activation, "VisionTransformer")
        wanted = (patch, dim, heads, depth, classes, size, channels)
        names = f"{what}: (patch, dim, heads, depth, classes, size, channels)"
        patch, dim, heads, depth, classes, size, channels = sizes(wanted, names, 7, 7)
        _divides(patch, size, f"{what}: patch and size")
        if key is None or value is None:
            _divides(heads, dim, f"{what}: heads and dim")
        inner = (key or dim // heads, value or dim // heads, hidden or 4 * dim)
        key, value, hidden = sizes(inner, f"{what}: (key, value, hidden)", 3, 3)
        check_generator(generator, what)
        self.embed = _drawn(nn.Conv2d(channels, dim, patch, stride=patch, device="meta"), generator)
        self.position = _weight(generator, dim, (size // patch) ** 2, dim)
        layer = partial(TransformerLayer, dim, heads, key, value, hidden, self.activation, generator)
        self.layers = nn.Sequential(*(layer() for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(dim), _linear(dim, classes, generator)
        self.axes = {"position": (None, "r"), "embed.weight": ("r", "x", None, None), "embed.bias": ("r",)}
        self.kinds = {"r": "sum"}
        for i in range(1, depth + 1):
            m, k, v, h, at = f"m{i}", f"k{i}", f"v{i}", f"h{i}", f"layers.{i - 1}."
            self.axes |= _norm(f"{at}norm1", "r")
            self.axes |= {f"{at}attention.W_Q": (m, k, "r*"), f"{at}attention.W_K": (m, f"{k}*", "r*")}
            self.axes |= {f"{at}attention.W_V": (m, v, "r*"), f"{at}attention.W_O": (m, f"{v}*", "r")}
            self.axes |= _norm(f"{at}norm2", "r") | {f"{at}up.weight": (h, "r*"), f"{at}up.bias": (h,)}
            self.axes |= {f"{at}down.weight": ("r", f"{h}*"), f"{at}down.bias": ("r",)}
            self.kinds |= {m: "sum", f"{m} {k}": "linear", f"{m} {v}": "linear", h: self.activation}
        self.axes |= _norm("norm", "r") | {"head.weight": ("y", "r*"), "head.bias": ("y",)}
        self.label = f"vision transformer {dim}, {depth} layers of {heads} heads"
        self.inputs, self.input_axes = (None, channels, size, size), (None, "x", None, None)

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, channels, size, size) to logits (n, classes)."""
        x = self.embed(x).flatten(2).mT + self.position
        return self.head(self.norm(self.layers(x)).mean(dim=1))

    def tied(self, shapes: Shapes) -> list[Symmetry]:
        """Scales and signs behind each LayerNorm, and the translations along the mean of the stream."""
        read: dict[str, tuple[str, ...]] = {"norm": ("head.weight",)}
        for i in range(len(self.layers)):
            at = f"layers.{i}."
            read[f"{at}norm1"] = tuple(f"{at}attention.{W}" for W in ("W_Q", "W_K", "W_V"))
            read[f"{at}norm2"] = (f"{at}up.weight",)
        both = (groups.rescaling, groups.sign_flip)
        scales = [_behind(self.axes, "r", f, shapes, [n], keys) for n, keys in read.items() for f in both]
        return [*scales, _stream_translation(self.axes, "r", shapes)]


def _stream_translation(axes: Axes, space: str, shapes: Shapes) -> Symmetry:
    """Each row that is written to a stream moves along (1, ..., 1), which every LayerNorm on the stream takes off."""
    at = {k: labels.index(space) for k, labels in axes.items() if space in labels and "norm" not in k}
    shifts = {k: (*shapes[k][:i], 1, *shapes[k][i + 1 :]) for k, i in at.items()}
    counts = [torch.Size(s).numel() for s in shifts.values()]

    def act(element: Elem, theta: Params) -> dict[str, Any]:
        parts = element.g[:-1, -1].split(counts)
        return {**theta, **{k: theta[k] + v.reshape(s) for (k, s), v in zip(shifts.items(), parts, strict=True)}}

    return Symmetry(f"translation {space}", groups.translation(sum(counts)), act, shapes)


def _behind(
    axes: Axes, space: str, family: Family, shapes: Shapes, norms: Sequence[str] = (), readers: Sequence[str] = ()
) -> Symmetry:
    """A group on what leaves the normalisations of a space: g on their scale and shift, the dual on what reads them.

    Of all of them unless `norms` and `readers` are named; what enters a normalisation is left alone.
    """
    norms = norms or [k.removesuffix(".bias") for k, labels in axes.items() if labels == (space,) and "norm" in k]
    readers = readers or [k for k, labels in axes.items() if f"{space}*" in labels]
    scaled = {f"{n}.{part}": (space,) for n in norms for part in ("weight", "bias")}
    read = {k: tuple(a if a == f"{space}*" else None for a in axes[k]) for k in readers}
    group = family(shapes[f"{norms[0]}.weight"][0])
    where = f"behind {norms[0]}" if len(norms) == 1 else f"behind the norms of {space}"
    return from_axes({**scaled, **read}, space, group, shapes=shapes, name=f"{group.name} {where}", source=SOURCE)


def _norm(name: str, space: str) -> dict[str, tuple[Label, ...]]:
    return {f"{name}.weight": (space,), f"{name}.bias": (space,)}


def _weight(generator: torch.Generator, fan_in: int, *shape: int) -> nn.Parameter:
    """N(0, 1 / fan_in), drawn in float64 on the generator's device, kept on the CPU in the default dtype."""
    drawn = torch.randn(shape, generator=generator, dtype=torch.float64, device=generator.device) / fan_in**0.5
    return nn.Parameter(drawn.to("cpu", torch.get_default_dtype()))


def _drawn(layer: Layer, generator: torch.Generator) -> Layer:
    """The layer, built on the meta device, where nothing is drawn, with N(0, 1 / fan_in) as weights and 0 as biases."""
    layer.weight = _weight(generator, layer.weight[0].numel(), *layer.weight.shape)
    if layer.bias is not None:
        layer.bias = nn.Parameter(torch.zeros(layer.bias.shape))
    return layer


def _linear(n: int, m: int, generator: torch.Generator, *, bias: bool = True) -> nn.Linear:
    return _drawn(nn.Linear(n, m, bias=bias, device="meta"), generator)


def _elementwise(activation: str, what: str) -> str:
    kind = named_activation(activation, offer=[k for k, a in ACTIVATIONS.items() if a.is_elementwise])
    if not kind.is_elementwise:
        raise ValueError(f"{what}: activation {kind.name!r} is not elementwise")
    return kind.name


def _apply(activation: str, z: Tensor) -> Tensor:
    fn = named_activation(activation).fn
    assert fn is not None
    return fn(z)


def _divides(a: int, b: int, what: str) -> None:
    if b % a:
        raise ValueError(f"{what}: {a} should divide {b}")
