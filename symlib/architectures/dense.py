"""Networks of dense layers: perceptrons, residual blocks, factorisations, classifiers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import matmul

from symlib import groups, ops
from symlib.activations import ACTIVATIONS, elementwise_name, named_activation
from symlib.architectures.arch import Arch
from symlib.groups import Elem
from symlib.guards import sizes
from symlib.ops import M
from symlib.symmetry import Params, Shapes, Symmetry

LN = "ours: LN takes off the mean over units"


def mlp(widths: Sequence[int], activation: str, *, bias: bool = True, norm: bool = False) -> Arch:
    """A multilayer perceptron f = W_L s(... s(W_1 x + b_1) ...) + b_L with samples as columns.

    `widths` = (input, hidden ..., output), at least two numbers; biases are columns (h, 1).  With `norm` each hidden
    layer is normalised before its activation, s(s_i LN(z) + t_i), LN(z) = (z - mean) / sqrt(var + 1e-5) over the units,
    with scales s_i and shifts t_i, columns (h, 1).  LN takes off what is added to all units alike, so the rows of W_i,
    and the entries of b_i, may move together.

    Raises ValueError for bad widths, for an unknown activation, and with `norm` for one that commutes with more than
    permutations (what remains of its scales or signs acts on s_i and t_i alone: `models` has such networks).

    Source: Zhao, Walters, Yu, arXiv 2506.13018, section 2 (feedforward networks); Ba et al., arXiv 1607.06450 (LN).
    """
    values = sizes(widths, "mlp: widths", 2)
    usable = [k for k, a in ACTIVATIONS.items() if a.families and a.fn is not None]
    found = named_activation(activation, offer=usable)
    kind = found.name
    if kind not in usable and not kind.startswith("power-"):
        raise ValueError(f"activation {kind!r} belongs to attention and cannot be used in an mlp")
    if norm and (found.families != (groups.permutation,) or kind.startswith("power-")):  # z^r scales too
        raise ValueError(f"mlp: with norm the activation should commute with permutations only, {kind!r} does not")
    spaces = ["x", *(f"h{i}" for i in range(1, len(values) - 1)), "y"]
    shapes: dict[str, tuple[int, ...]] = {}
    axes: dict[str, tuple[str | None, ...]] = {}
    for i in range(1, len(values)):
        source = "x" if i == 1 else spaces[i - 1] + "*"
        shapes[f"W{i}"], axes[f"W{i}"] = (values[i], values[i - 1]), (spaces[i], source)
        columns = ([f"b{i}"] if bias else []) + ([f"s{i}", f"t{i}"] if norm and spaces[i] != "y" else [])
        shapes |= dict.fromkeys(columns, (values[i], 1))
        axes |= dict.fromkeys(columns, (spaces[i], None))

    def forward(theta: Params, x: M, sigma: Mapping[str, Callable[[M], M]]) -> M:
        for i, space in enumerate(spaces[1:], 1):
            z = theta[f"W{i}"] @ x
            z = ops.add(z, theta[f"b{i}"]) if bias else z
            if f"s{i}" in shapes:
                z = ops.add(ops.times(ops.standardise(z), theta[f"s{i}"]), theta[f"t{i}"])
            x = z if space == "y" else sigma[space](z)
        return x

    extras = ("" if bias else " without bias") + (", normalised" if norm else "")
    name = f"{kind} network {'-'.join(map(str, values))}{extras}"
    inner = range(1, len(values) - 1)
    tied = [_power_scaling(i, int(kind[6:]), shapes) for i in inner if kind.startswith("power-")]
    moving = [f"{k}{i}" for i in inner for k in ("W", "b") if norm and f"{k}{i}" in shapes]
    tied += [_translation(k, f"translation {k}", LN, shapes) for k in moving]
    return Arch(name, shapes, axes, forward, dict.fromkeys(spaces[1:-1], kind), (values[0], None), tied=tuple(tied))


def _translation(key: str, name: str, source: str, shapes: Shapes) -> Symmetry:
    """One vector is added to every row of a matrix."""

    def act(element: Elem, theta: Params) -> dict[str, M]:
        return {**theta, key: ops.add(theta[key], ops.transpose(element.g[:-1, -1:]))}

    return Symmetry(name, groups.translation(shapes[key][1]), act, shapes, source)


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
