"""Architectures as axis tables: the forward pass, the spaces it runs through, and the symmetries derived from them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from operator import matmul

import torch

from symlib import groups, ops
from symlib.activations import ACTIVATIONS, Family, elementwise_name, named_activation
from symlib.groups import Elem
from symlib.guards import check_finite, check_generator, check_positive, real, sizes
from symlib.ops import M
from symlib.symmetry import Axes, Params, Shapes, Symmetry, check_params, from_axes

SURVEY = "Zhao, Walters, Yu, arXiv 2506.13018, section 2"


@dataclass(frozen=True)
class Arch:
    """An architecture: shapes, an axis table, a forward pass, and the activation of each hidden space.

    `forward(theta, x, sigma)` takes the activation functions as a mapping from hidden space to function, so that a
    proof can put uninterpreted ones in their place.  `inputs` is the shape of one input, None where its length is free;
    `input_axes` labels it.  `tied` holds the symmetries that are no axis action; `positive` names the parameters that
    are kept positive.
    """

    name: str
    shapes: Shapes
    axes: Axes
    forward: Callable[[Params, M, Mapping[str, Callable[[M], M]]], M]
    activations: Mapping[str, str]
    inputs: tuple[int | None, ...]
    input_axes: tuple[str | None, ...] = ("x", None)
    tied: Sequence[Symmetry] = field(default=())
    positive: frozenset[str] = frozenset()

    def __call__(self, theta: Params, x: M) -> M:
        """The output f_theta(x) for samples as columns.

        Leading member axes of theta broadcast where every parameter is a matrix; wrap in `torch.func.vmap` otherwise.
        Raises ValueError for parameters or inputs of other names, shapes or dtypes.
        """
        if isinstance(x, torch.Tensor):
            self.check(theta, x, finite=False)
        return self.forward(theta, x, self.functions())

    def functions(self) -> dict[str, Callable[[M], M]]:
        """The activation function of each hidden space that has one."""
        found = {s: named_activation(a).fn for s, a in self.activations.items()}
        return {s: fn for s, fn in found.items() if fn is not None}

    @property
    def parameters(self) -> int:
        """The number of parameters."""
        return sum(math.prod(s) for s in self.shapes.values())

    def init(
        self,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float64,
        *,
        members: int | None = None,
        scale: float = 1.0,
    ) -> dict[str, torch.Tensor]:
        """Random parameters: weights N(0, scale^2 / fan_in), biases (names that begin with b) N(0, (scale / 10)^2).

        Parameters that are kept positive are drawn so and made positive.

        With `members`, one leading axis of independent networks.  Drawn in float64 on the generator's device.
        Raises ValueError for no generator, members that are no positive whole number, a dtype that is not floating, and
        a scale that is not finite.
        """
        check_generator(generator, self.name)
        if members is not None:
            check_positive(members, f"{self.name}: members")
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise ValueError(f"{self.name}: the dtype should be a floating one, got {dtype!r}")
        if not math.isfinite(real(scale, f"{self.name}: scale")):
            raise ValueError(f"{self.name}: the scale should be finite, got {scale}")
        lead = () if members is None else (int(members),)
        draw = partial(torch.randn, generator=generator, dtype=torch.float64, device=generator.device)
        std = {k: 0.1 if k.startswith("b") else math.prod(s[1:]) ** -0.5 for k, s in self.shapes.items()}
        drawn = {k: (scale * std[k] * draw(*lead, *s)).to(dtype) for k, s in self.shapes.items()}
        return {k: v.abs() if k in self.positive else v for k, v in drawn.items()}

    def sizes(self) -> dict[str, int]:
        """The size of every labelled space."""
        return {
            label.rstrip("*"): n
            for k, axes in self.axes.items()
            for label, n in zip(axes, self.shapes[k], strict=True)
            if label
        }

    def size(self, space: str) -> int:
        """The size of a space, which may name two neighbouring axes.  Raises ValueError for an unknown space."""
        sizes = self.sizes()
        unknown = [s for s in space.split() if s not in sizes]
        if unknown or not space.split():
            raise ValueError(f"{self.name}: no space {space!r}; spaces are {', '.join(sizes)}")
        return math.prod(sizes[s] for s in space.split())

    def claim(self, space: str, family: Family) -> Symmetry:
        """The claim that a family of groups acts on a space as a symmetry: true or false, for a proof to decide.

        Raises ValueError for an unknown space.
        """
        sizes = [self.size(s) for s in space.split()] or [self.size(space)]
        group = family(sizes[-1])
        if len(sizes) > 1:
            group = groups.blocks(group, math.prod(sizes[:-1]))
        return from_axes(self.axes, space, group, shapes=self.shapes, source=SURVEY)

    def symmetries(self) -> dict[str, Symmetry]:
        """The known symmetries, derived from axes and activations, then those that are no axis action."""
        derived = [self.claim(s, f) for s, a in self.activations.items() for f in named_activation(a).families]
        moving = [s for s in derived if s.group.dimension or s.group.discrete]  # not the trivial group, as S_1 is
        return {s.name: s for s in (*moving, *self.tied)}

    def check(self, theta: Params, x: torch.Tensor, *, finite: bool = True) -> None:
        """Raise ValueError unless theta are parameters of this architecture and x an input of it, finite ones."""
        dtype = check_params(theta, self.shapes, self.name, finite=finite)
        wanted = tuple("n" if n is None else n for n in self.inputs)
        got = tuple(x.shape)[-len(wanted) :]
        if len(got) != len(wanted) or any(w not in ("n", g) for w, g in zip(wanted, got, strict=True)):
            raise ValueError(f"{self.name}: the input should have shape {wanted}, got {tuple(x.shape)}")
        if x.dtype != dtype:
            raise ValueError(f"{self.name}: the input has dtype {x.dtype}, the parameters {dtype}")
        if finite:
            check_finite(x, f"{self.name}: the input")

    def table(self) -> str:
        """The axis table as text: one line per parameter, with its shape."""
        width = max(map(len, self.shapes))
        rows = [
            f"{k:<{width}}  {' '.join(a or '.' for a in self.axes[k]):<12} {'x'.join(map(str, s))}"
            for k, s in self.shapes.items()
        ]
        hidden = ", ".join(f"{s}: {a}" for s, a in self.activations.items())
        return "\n".join([f"{self.name} ({self.parameters} parameters; {hidden})", *rows])

    def __repr__(self) -> str:
        return self.table()


def mlp(widths: Sequence[int], activation: str, *, bias: bool = True) -> Arch:
    """A multilayer perceptron f = W_L s(... s(W_1 x + b_1) ...) + b_L with samples as columns.

    `widths` = (input, hidden ..., output), at least two numbers; biases are columns (h, 1).  Raises ValueError for bad
    widths and for an unknown activation.

    Source: Zhao, Walters, Yu, arXiv 2506.13018, section 2 (feedforward networks).
    """
    values = sizes(widths, "mlp: widths", 2)
    usable = [k for k, a in ACTIVATIONS.items() if a.families and a.fn is not None]
    kind = named_activation(activation, offer=usable).name
    if kind not in usable and not kind.startswith("power-"):
        raise ValueError(f"activation {kind!r} belongs to attention and cannot be used in an mlp")
    spaces = ["x", *(f"h{i}" for i in range(1, len(values) - 1)), "y"]
    shapes: dict[str, tuple[int, ...]] = {}
    axes: dict[str, tuple[str | None, ...]] = {}
    for i in range(1, len(values)):
        source = "x" if i == 1 else spaces[i - 1] + "*"
        shapes[f"W{i}"], axes[f"W{i}"] = (values[i], values[i - 1]), (spaces[i], source)
        if bias:
            shapes[f"b{i}"], axes[f"b{i}"] = (values[i], 1), (spaces[i], None)

    def forward(theta: Params, x: M, sigma: Mapping[str, Callable[[M], M]]) -> M:
        for i, space in enumerate(spaces[1:], 1):
            z = theta[f"W{i}"] @ x
            z = ops.add(z, theta[f"b{i}"]) if bias else z
            x = z if space == "y" else sigma[space](z)
        return x

    name = f"{kind} network {'-'.join(map(str, values))}" + ("" if bias else " without bias")
    tied = [_power_scaling(i, int(kind[6:]), shapes) for i in range(1, len(values) - 1) if kind.startswith("power-")]
    return Arch(name, shapes, axes, forward, dict.fromkeys(spaces[1:-1], kind), (values[0], None), tied=tuple(tied))


def _power_scaling(i: int, r: int, shapes: Shapes) -> Symmetry:
    """Units of a z^r layer scaled by g and what leaves them by g^-r: no axis action, as the dual is not g^-T."""

    def act(element: Elem, theta: Params) -> dict[str, M]:
        scaled = {k: element.g @ theta[k] for k in (f"W{i}", f"b{i}") if k in theta}
        return {**theta, **scaled, f"W{i + 1}": theta[f"W{i + 1}"] @ reduce(matmul, [element.inv] * r)}

    return Symmetry(f"rescaling h{i}", groups.rescaling(shapes[f"W{i}"][0]), act, shapes)


def residual(d: int, hidden: Sequence[int], activation: str = "relu") -> Arch:
    """Residual blocks x <- x + U_i s(V_i x), one for each hidden width, without biases.

    Raises ValueError for bad sizes and for activations that are not elementwise.  Source: Marcotte, Gribonval, Peyre,
    arXiv 2506.06194 (two-layer blocks with a skip).
    """
    (d,), widths = sizes((d,), "residual: d", 1, 1), sizes(hidden, "residual: hidden", 1)
    kind = elementwise_name(activation, "residual")
    shapes: dict[str, tuple[int, ...]] = {}
    axes: dict[str, tuple[str | None, ...]] = {}
    for i, h in enumerate(widths, 1):
        shapes |= {f"V{i}": (h, d), f"U{i}": (d, h)}
        axes |= {f"V{i}": (f"h{i}", "x"), f"U{i}": ("x", f"h{i}*")}

    def forward(theta: Params, x: M, sigma: Mapping[str, Callable[[M], M]]) -> M:
        for i in range(1, len(widths) + 1):
            x = x + theta[f"U{i}"] @ sigma[f"h{i}"](theta[f"V{i}"] @ x)
        return x

    kinds = dict.fromkeys((f"h{i}" for i in range(1, len(widths) + 1)), kind)
    return Arch(f"{kind} residual network {d} + {'-'.join(map(str, widths))}", shapes, axes, forward, kinds, (d, None))


def factorisation(n: int, r: int, m: int) -> Arch:
    """A non-negative matrix factorisation, f = W_2 W_1 x with W_1 (r, m) and W_2 (n, r) kept positive.

    Raises ValueError for bad sizes.  Source: Marcotte, Gribonval, Peyre, arXiv 2405.12888 (mirror flows).
    """
    n, r, m = sizes((n, r, m), "factorisation: (n, r, m)", 3, 3)
    both, name = frozenset(("W1", "W2")), f"non-negative factorisation {n}-{r}-{m}"
    return replace(mlp((m, r, n), "nonnegative", bias=False), name=name, positive=both)


def input_convex(n: int, r: int, m: int, *, bias: bool = False) -> Arch:
    """A network that is convex in its input, f = W_2 relu(W_1 x + b_1) with W_2 (n, r) kept positive and W_1 (r, m).

    Raises ValueError for bad sizes.  Source: Marcotte, Gribonval, Peyre, arXiv 2405.12888 (mirror flows).
    """
    n, r, m = sizes((n, r, m), "input_convex: (n, r, m)", 3, 3)
    full = mlp((m, r, n), "relu", bias=bias)
    kept = {k: s for k, s in full.shapes.items() if k != "b2"}

    def forward(theta: Params, x: M, sigma: Mapping[str, Callable[[M], M]]) -> M:
        z = theta["W1"] @ x
        return theta["W2"] @ sigma["h1"](ops.add(z, theta["b1"]) if bias else z)

    axes, name = (
        {k: full.axes[k] for k in kept},
        f"input-convex network {m}-{r}-{n}" + ("" if bias else " without bias"),
    )
    return Arch(name, kept, axes, forward, {"h1": "relu"}, (m, None), positive=frozenset(("W2",)))


def softmax_classifier(d: int, classes: int) -> Arch:
    """A linear softmax classifier f = softmax(W x + b): adding one vector to every row of (W, b) changes nothing.

    Raises ValueError for sizes that are not positive.  Source: Kunin et al., arXiv 2012.04728 (translation).
    """
    d, classes = sizes((d, classes), "softmax_classifier: (d, classes)", 2, 2)
    shapes = {"W": (classes, d), "b": (classes, 1)}

    def forward(theta: Params, x: M, sigma: Mapping[str, Callable[[M], M]]) -> M:
        return ops.softmax(ops.add(theta["W"] @ x, theta["b"]))

    def act(element: Elem, theta: Params) -> dict[str, M]:
        v = element.g[:-1, -1:]
        return {"W": ops.add(theta["W"], ops.transpose(v[:-1, :])), "b": ops.add(theta["b"], v[-1:, :])}

    source = "Kunin et al., arXiv 2012.04728 (translation)"
    tied = Symmetry("translation y", groups.translation(d + 1), act, shapes, source)
    axes = {"W": ("y", "x"), "b": ("y", None)}
    return Arch(f"softmax classifier {d}-{classes}", shapes, axes, forward, {}, (d, None), tied=(tied,))


def normalised_layer(d: int, hidden: int, out: int) -> Arch:
    """A network with a normalised hidden layer, f = W_2 z / |z| with z = W_1 x + b_1.

    The scale of (W_1, b_1) does not matter; since z / |z| is radial, O(h) acts too.  Raises ValueError for bad sizes.

    Source: Kunin et al., arXiv 2012.04728 (scale); the normalisation is RMSNorm without its epsilon.
    """
    d, hidden, out = sizes((d, hidden, out), "normalised_layer: (d, hidden, out)", 3, 3)
    shapes = {"W1": (hidden, d), "b1": (hidden, 1), "W2": (out, hidden)}

    def forward(theta: Params, x: M, sigma: Mapping[str, Callable[[M], M]]) -> M:
        return theta["W2"] @ sigma["h"](ops.add(theta["W1"] @ x, theta["b1"]))

    def act(element: Elem, theta: Params) -> dict[str, M]:
        a = element.g[0, 0]
        return {**theta, "W1": a * theta["W1"], "b1": a * theta["b1"]}

    source = "Kunin et al., arXiv 2012.04728 (scale)"
    tied = Symmetry("scale h", groups.rescaling(1), act, shapes, source)
    axes = {"W1": ("h", "x"), "b1": ("h", None), "W2": ("y", "h*")}
    name = f"normalised layer {d}-{hidden}-{out}"
    return Arch(name, shapes, axes, forward, {"h": "rms-norm"}, (d, None), tied=(tied,))


def attention(d: int, key: int, value: int) -> Arch:
    """One softmax attention head on tokens as columns: f = W_O W_V x softmax((W_K x)^T W_Q x).

    The factor 1 / sqrt(key) is absorbed in W_Q.  GL(key) acts on queries and keys, GL(value) on values and output.
    Raises ValueError for bad sizes.  Source: Zhao, Walters, Yu, arXiv 2506.13018, section 2, eq. 3 (attention).
    """
    d, key, value = sizes((d, key, value), "attention: (d, key, value)", 3, 3)
    shapes = {"W_Q": (key, d), "W_K": (key, d), "W_V": (value, d), "W_O": (d, value)}

    def forward(theta: Params, x: M, sigma: Mapping[str, Callable[[M], M]]) -> M:
        scores = ops.transpose(theta["W_K"] @ x) @ (theta["W_Q"] @ x)
        return theta["W_O"] @ (theta["W_V"] @ x @ sigma["t"](scores))

    axes = {"W_Q": ("k", "x"), "W_K": ("k*", "x"), "W_V": ("v", "x"), "W_O": ("x", "v*")}
    kinds = {"k": "linear", "v": "linear", "t": "softmax"}
    return Arch(f"attention head {d}-{key}-{value}", shapes, axes, forward, kinds, (d, None), ("x", "t"))


def multihead_attention(d: int, heads: int, key: int, value: int) -> Arch:
    """Attention with several heads, f = sum_m W_O[m]^T W_V[m] x softmax((W_K[m] x)^T W_Q[m] x).

    Permutations of the heads, and in each head GL(key) and GL(value).  W_O is stored as (heads, value, d).
    Raises ValueError for bad sizes.  Source: Zhao, Walters, Yu, arXiv 2506.13018, section 2 (multi-head attention).
    """
    d, heads, key, value = sizes((d, heads, key, value), "multihead_attention: (d, heads, key, value)", 4, 4)
    shapes = {
        "W_Q": (heads, key, d),
        "W_K": (heads, key, d),
        "W_V": (heads, value, d),
        "W_O": (heads, value, d),
    }
    single = attention(d, key, value)

    def forward(theta: Params, x: M, sigma: Mapping[str, Callable[[M], M]]) -> M:
        def head(m: int) -> M:
            parts = {k: ops.take(theta[k], m) for k in shapes}
            return single.forward({**parts, "W_O": ops.transpose(parts["W_O"])}, x, sigma)

        total = head(0)
        for m in range(1, heads):
            total = total + head(m)
        return total

    axes = {"W_Q": ("m", "k", "x"), "W_K": ("m", "k*", "x"), "W_V": ("m", "v", "x"), "W_O": ("m", "v*", "x")}
    kinds = {"m": "sum", "m k": "linear", "m v": "linear", "t": "softmax"}
    name = f"multi-head attention {d}-{heads}x{key}-{value}"
    return Arch(name, shapes, axes, forward, kinds, (d, None), ("x", "t"))


def conv_block(channels: Sequence[int], kernel: int, activation: str = "relu", *, size: int = 8) -> Arch:
    """Two convolutions with an activation between: input (n, c0, size, size), kernels (c', c, kernel, kernel).

    The hidden channels are permuted and, for ReLU, rescaled.  Raises ValueError for bad sizes or activations that are
    not elementwise.  Source: Zhao, Walters, Yu, arXiv 2506.13018, section 2 (convolutional networks).
    """
    c0, c1, c2 = sizes(channels, "conv_block: channels", 3, 3)
    k, size = sizes((kernel, size), "conv_block: (kernel, size)", 2, 2)
    kind = elementwise_name(activation, "conv_block")
    if size < 2 * k - 1:
        raise ValueError(f"conv_block: two kernels of size {k} need images of at least {2 * k - 1}, got {size}")
    shapes = {"W1": (c1, c0, k, k), "b1": (c1,), "W2": (c2, c1, k, k), "b2": (c2,)}

    def forward(theta: Params, x: M, sigma: Mapping[str, Callable[[M], M]]) -> M:
        return ops.conv(sigma["c"](ops.conv(x, theta["W1"], theta["b1"])), theta["W2"], theta["b2"])

    axes = {"W1": ("c", "x", None, None), "b1": ("c",), "W2": ("y", "c*", None, None), "b2": ("y",)}
    name = f"convolutional {kind} block {c0}-{c1}-{c2}"
    return Arch(name, shapes, axes, forward, {"c": kind}, (None, c0, size, size), (None, "x", None, None))


CATALOGUE: Mapping[str, Arch] = {
    "linear, two layers": mlp((3, 2, 2), "linear"),
    "linear, three layers": mlp((2, 2, 2, 3), "linear"),
    "relu, two layers": mlp((2, 3, 2), "relu"),
    "relu, three layers": mlp((2, 3, 2, 1), "relu"),
    "leaky-relu, two layers": mlp((2, 3, 2), "leaky-relu"),
    "leaky-relu, three layers": mlp((2, 3, 2, 1), "leaky-relu"),
    "tanh, two layers": mlp((2, 3, 2), "tanh"),
    "tanh, three layers": mlp((2, 3, 2, 1), "tanh"),
    "gelu, two layers": mlp((2, 3, 2), "gelu"),
    "gelu, three layers": mlp((2, 3, 2, 1), "gelu"),
    "quadratic, two layers": mlp((2, 3, 2), "power-2"),
    "radial, two layers": mlp((3, 2, 2), "radial"),
    "radial, three layers": mlp((2, 2, 2, 1), "radial"),
    "softmax classifier": softmax_classifier(2, 3),
    "normalised layer": normalised_layer(3, 2, 2),
    "attention head": attention(3, 2, 2),
    "multi-head attention": multihead_attention(2, 2, 2, 1),
    "residual relu network": residual(2, (2, 1)),
    "non-negative factorisation": factorisation(2, 2, 3),
    "input-convex network": input_convex(2, 3, 2, bias=True),
    "convolutional relu block": conv_block((1, 2, 1), 2, "relu", size=3),
}
"""Architectures at sizes small enough for exhaustive symbolic proofs; the functions above build them at any size."""
