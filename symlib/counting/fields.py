"""A network as a family of vector fields on its state: exactly, modulo a prime, and in float64.

The fields of a flow are grad f_k(x) for every output k and every input x.  Exactly they are a `System` of traced nodes;
the activation patterns of a piecewise linear network are those met at a real point.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

import numpy as np
import torch

from symlib import conserved, ops
from symlib.activations import SLOPE
from symlib.architectures import Arch
from symlib.counting.count import Task
from symlib.counting.modular import PRIMES, Array, Field, Node, System, constant, function, leaf, span, vjp
from symlib.symmetry import Params, Symmetry, flatten

Gates = Mapping[str, list[Array]]
BROKEN_CHARGE = "a charge is not conserved: a symmetry of its axis table is none, or is no gradient of the mirror flow"
NUDGE = 1e-6  # a move of the parameters that tells the edge of a region from a unit that gets no input
POOL, LEAST = 16, 4096  # real inputs drawn for each one used, and at least; rare activation patterns are kept first
KINKED = {"relu": Fraction(0), "leaky-relu": Fraction(str(SLOPE))}  # slope on the negative side


def _opaque(z: Node, slope: Callable[[Node], Node]) -> Node:
    return function(z, lambda a: z.field.random(*a.shape), slope)


def _sigmoid(z: Node) -> Node:
    return _opaque(z, lambda y: y - y * y)


def _density(z: Node) -> Node:
    return _opaque(z, lambda y: z * y * -1)


SMOOTH: Mapping[str, Callable[[Node], Node]] = {
    "linear": lambda z: z,
    "nonnegative": lambda z: z,
    "softmax": ops.softmax,
    "tanh": lambda z: _opaque(z, lambda y: constant(np.ones(z.shape), z.field) - y * y),
    "tanhshrink": lambda z: z - SMOOTH["tanh"](z),
    "sigmoid": _sigmoid,
    "softplus": lambda z: _opaque(z, lambda y: _sigmoid(z)),
    "silu": lambda z: z * _sigmoid(z),
    "gelu": lambda z: z * _opaque(z, lambda y: _density(z)),
}
"""Activations on traced nodes.  A transcendental one has a random value and the slope that its derivative rule says."""


def untraced(arch: Arch) -> list[str]:
    """What cannot be traced exactly, spaces by their activation, in words; empty when all can.  Source: ours."""
    known = {*SMOOTH, *KINKED, "sum"}
    named = [f"{s}: {a}" for s, a in arch.activations.items() if a not in known and not a.startswith("power-")]
    return named or ([] if _runs(arch) else ["the forward pass itself"])


def _runs(arch: Arch) -> bool:
    """Whether the forward pass runs on traced nodes, as it does not with a normalisation."""
    field = Field(PRIMES[0], torch.Generator())
    theta = {k: constant(np.ones(s), field) for k, s in arch.shapes.items()}
    x = constant(np.ones([1 if n is None else n for n in arch.inputs]), field)
    try:
        arch.forward(theta, x, {s: SMOOTH.get(a, lambda z: z) for s, a in arch.activations.items() if a != "sum"})
    except TypeError:
        return False
    return True


def affine(arch: Arch, theta: Params) -> bool | None:
    """None unless the network is affine in its input; then whether it has an offset, f(0) != 0.  Source: ours."""
    x = inputs(arch, 64, torch.Generator().manual_seed(0))
    whole, parts = arch(theta, x + x.flip(-1)) + arch(theta, 0 * x), arch(theta, x) + arch(theta, x.flip(-1))
    return bool(arch(theta, 0 * x).any()) if torch.allclose(whole, parts, rtol=1e-9, atol=1e-12) else None


def inputs(arch: Arch, n: int, generator: torch.Generator) -> torch.Tensor:
    """n real inputs with lengths over two decades (for attention: one sequence of n tokens).  Source: ours."""
    shape = [n if s is None else s for s in arch.inputs]
    at = arch.inputs.index(None)
    size = torch.rand(n, generator=generator, dtype=torch.float64) * 2 - 1
    spread = [n if i == at else 1 for i in range(len(shape))]
    return torch.randn(shape, generator=generator, dtype=torch.float64) * 10 ** size.reshape(spread)


def patterns(arch: Arch, theta: Params, x: torch.Tensor) -> dict[str, list[Array]]:
    """Where every kinked activation is open (1, else 0), at real parameters and inputs, call by call.

    Raises ValueError when one is never applied.  Source: ours.
    """
    return {s: [(z > 0).astype(float) for z in zs] for s, zs in _bends(arch, theta, x).items()}


def check_inside(arch: Arch, theta: Params, x: torch.Tensor, generator: torch.Generator) -> None:
    """Raise ValueError for parameters on the edge of a region: a unit sits at 0, and a nudge moves it away.

    Source: ours.
    """
    if not any(a in KINKED for a in arch.activations.values()):
        return
    push = {k: torch.randn(v.shape, generator=generator, dtype=torch.float64) for k, v in theta.items()}
    other = _bends(arch, {k: v + NUDGE * push[k] for k, v in theta.items()}, x)
    for space, zs in _bends(arch, theta, x).items():
        if any(((z == 0) & (w != 0)).any() for z, w in zip(zs, other[space], strict=True)):
            raise ValueError(
                f"{arch.name}: theta is on the edge of an activation region, units of {space} are at exactly 0"
            )


def _bends(arch: Arch, theta: Params, x: torch.Tensor) -> dict[str, list[Array]]:
    """What goes into every kinked activation, call by call."""
    seen: dict[str, list[Array]] = {s: [] for s, a in arch.activations.items() if a in KINKED}

    def recorder(space: str, fn: Callable) -> Callable:
        def record(z: torch.Tensor) -> torch.Tensor:
            seen[space].append(z.double().numpy())
            return fn(z)

        return record if space in seen else fn

    arch.forward(theta, x, {s: recorder(s, fn) for s, fn in arch.functions().items()})
    if idle := [s for s, calls in seen.items() if not calls]:
        raise ValueError(f"{arch.name}: the forward pass never applies the activation of {', '.join(idle)}")
    return seen


def varied(arch: Arch, theta: Params, n: int, generator: torch.Generator) -> tuple[torch.Tensor, int]:
    """n real inputs that meet as many activation patterns as can be found, and the number of patterns met.

    Source: ours.
    """
    if not any(a in KINKED for a in arch.activations.values()):
        return inputs(arch, n, generator), 1
    many = max(POOL * n, LEAST)
    pool, at = inputs(arch, many, generator), arch.inputs.index(None)
    codes = [np.moveaxis(g, at, 0).reshape(many, -1) for gs in patterns(arch, theta, pool).values() for g in gs]
    _, kind = np.unique(np.concatenate(codes, axis=1), axis=0, return_inverse=True)
    order = np.argsort(kind, kind="stable")
    place = np.empty(len(kind), dtype=int)  # 0 for the first input of every pattern, 1 for the second, ...
    place[order] = np.arange(len(kind)) - np.searchsorted(kind[order], kind[order])
    chosen = np.argsort(place, kind="stable")[:n]  # among equals in the order in which they were drawn
    return pool.index_select(at, torch.from_numpy(np.sort(chosen))), len(np.unique(kind[chosen]))


def widened(task: Task, theta: Params, rank: Callable[[torch.Tensor], int], most: int) -> tuple[torch.Tensor, int, int]:
    """Inputs, doubled until more of them do not enlarge a rank or it is `most`; patterns met; the rank.

    Source: ours.
    """
    arch, generator = task.arch, task.generator
    n = math.prod(n for n in arch.inputs if n is not None) + 1
    n = max(n, -(-most // arch(theta, inputs(arch, 1, generator)).numel()))
    x, met = varied(arch, theta, n, generator)
    here = rank(x)
    while here < most:
        wider, more = varied(arch, theta, 2 * n, generator)
        if (there := rank(wider)) <= here:
            break
        x, met, here, n = wider, more, there, 2 * n
    return x, met, here


def traced(arch: Arch, theta: Mapping[str, Node], x: Array, gates: Gates, field: Field) -> Node:
    """The output of the network at residues, with frozen activation patterns.  Source: ours."""
    queues = {s: iter(gs) for s, gs in gates.items()}

    def sigma(space: str, kind: str) -> Callable[[Node], Node]:
        if kind in KINKED:
            low = field.residue(KINKED[kind])
            return lambda z: z * constant(next(queues[space]) * (1 - low) % field.p + low, field)
        if kind.startswith("power-"):
            return lambda z: _power(z, int(kind.split("-")[1]))
        return SMOOTH[kind]

    table = {s: sigma(s, kind) for s, kind in arch.activations.items() if kind != "sum"}
    return arch.forward(theta, constant(x, field), table)


def _power(z: Node, r: int) -> Node:
    out = z
    for _ in range(r - 1):
        out = out * z
    return out


def system(task: Task, field: Field, x: Array, gates: Gates) -> System:
    """The flow as a control system at a random point: its controls are the cotangents of the outputs.

    gradient: theta' = grad <C, f>, times theta for parameters kept positive.  momentum: t' = c, theta' = c v,
    v' = -damping c v + grad <C, f>.

    Source: Marcotte, Gribonval, Peyre, arXiv 2307.00144 and 2405.12888.
    """
    arch = task.arch
    theta = {k: leaf(field.random(*s), field) for k, s in arch.shapes.items()}
    out = traced(arch, theta, x, gates, field)
    C = leaf(None, field, out.shape)
    slope = dict(zip(theta, vjp([out], [C], theta.values()), strict=True))
    if task.flow == "gradient":
        velocity = {k: theta[k] * v if k in arch.positive else v for k, v in slope.items()}
        return System(theta, {"C": C}, velocity)
    v = {k: leaf(field.random(*s), field) for k, s in arch.shapes.items()}
    c, t = leaf(None, field, (1,)), leaf(field.random(1), field)
    drift = {k: c.reshaped(*(1,) * len(s)) * v[k] for k, s in arch.shapes.items()}
    velocity = {
        **drift,
        **{f"{k}'": slope[k] - drift[k] * task.damping for k in theta},
        "t": c,
    }
    return System({**theta, **{f"{k}'": n for k, n in v.items()}, "t": t}, {"C": C, "c": c}, velocity)


def charge_rows(task: Task, field: Field | None, state: Mapping[str, Array]) -> Array:
    """The gradients of the conserved quantities that known symmetries give: (laws, state).

    At residues, or without a field at real numbers.

    gradient: the charges Q_A, with grad Q_A = X_A (divided by theta for parameters kept positive).  momentum: the
    angular momenta exp(damping t) <v, X_A(theta)> of isometries, whose gradient is written without its exponential; and
    for a translation X also <v + damping theta, X>, or <theta - t v, X> without damping.

    Source: `conserved.charges`, `conserved.isometries`.
    """
    arch, rows = task.arch, [np.empty((0, task.dimension))]
    reduce = field.reduce if field else lambda a: a
    damping = field.residue(task.damping) if field else float(task.damping)
    theta = {k: torch.from_numpy(state[k]) for k in arch.shapes}
    flat = flatten(theta, arch.shapes)
    kept = flatten({k: torch.full(s, k in arch.positive) for k, s in arch.shapes.items()}, arch.shapes)
    for sym in arch.symmetries().values():
        found = [c.A for c in conserved.charges(sym)] if task.flow == "gradient" else conserved.isometries(sym)
        if not found:
            continue
        A = torch.tensor([a.tolist() for a in found], dtype=torch.float64)
        X = moved(sym, A, theta)
        if task.flow == "gradient":
            rows.append(torch.where(kept, X / flat, X).numpy())
        else:
            v = {k: torch.from_numpy(state[f"{k}'"]) for k in arch.shapes}
            turn = moved(sym, A, v) - moved(sym, A, {k: torch.zeros_like(w) for k, w in v.items()})
            rate = reduce(reduce(X.numpy()) @ flatten(v, arch.shapes).numpy())[:, None]
            rows.append(np.concatenate([-turn.numpy(), X.numpy(), rate * damping], axis=1))
            still = ~turn.any(dim=1).numpy()
            X, rate = X.numpy()[still], rate[still]
            away = (damping * X, X, 0 * rate) if task.damping else (X, -state["t"] * X, -rate)
            rows.append(np.concatenate(away, axis=1))
    return reduce(np.concatenate(rows))


def charge_rank(task: Task, field: Field) -> int:
    """The number of independent conserved quantities that known symmetries give, at a random point.  Source: ours."""
    keys = [*task.arch.shapes, *(f"{k}'" for k in task.arch.shapes)]
    state = {k: field.random(*task.arch.shapes[k.rstrip("'")]) for k in keys} | {"t": field.random(1)}
    return span(charge_rows(task, field, state), field).rank


def moved(sym: Symmetry, A: torch.Tensor, theta: Params) -> torch.Tensor:
    """The generators of many elements A (k, n, n) as rows (k, parameters).  Source: ours."""
    return torch.func.vmap(lambda a: flatten(sym.generator(a, theta), sym.shapes))(A)


def split(rows: Array, shapes: Mapping[str, Sequence[int]]) -> dict[str, Array]:
    """Rows (R, n) as one array (R, *shape) for every part of the state.  Source: ours."""
    ends = np.cumsum([int(np.prod(s)) for s in shapes.values()])
    return {
        k: p.reshape(len(rows), *s) for (k, s), p in zip(shapes.items(), np.split(rows, ends[:-1], axis=1), strict=True)
    }
