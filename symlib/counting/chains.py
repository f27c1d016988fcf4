"""Counting in plain multilayer perceptrons: closed forms, paths of ReLU networks, matrices of two linear layers."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from symlib.architectures import Arch, mlp
from symlib.counting import fields
from symlib.counting.count import EVERYWHERE, LawCount, Task
from symlib.counting.modular import PRIMES, Array, Field, span

SEPARATED = "where the outputs separate all paths"


@dataclass(frozen=True)
class Chain:
    """A plain multilayer perceptron: its widths, its one activation, and whether it has biases."""

    widths: tuple[int, ...]
    kind: str
    bias: bool

    @property
    def is_pair(self) -> bool:
        """Whether it is two linear layers without bias."""
        return self.kind == "linear" and len(self.widths) == 3 and not self.bias

    @property
    def is_separable(self) -> bool:
        """False where no parameters let the outputs separate all paths.

        Without biases, which units a single unit opens in the next hidden layer depends on its sign only.
        """
        return self.bias or all(a > 1 or b == 1 for a, b in zip(self.widths[:-2], self.widths[1:-1], strict=True))

    @property
    def segments(self) -> list[tuple[int, ...]]:
        """The widths cut at every hidden layer of one unit."""
        ends = [i for i, n in enumerate(self.widths) if n == 1 and 0 < i < len(self.widths) - 1]
        edges = zip([0, *ends], [*ends, len(self.widths) - 1], strict=True)
        return [self.widths[a : b + 1] for a, b in edges]


def chain(arch: Arch) -> Chain | None:
    """The chain that an architecture is, judged by its axis table and by its outputs, or None.  Source: ours."""
    weights = [s for k, s in arch.shapes.items() if k.startswith("W") and len(s) == 2]
    kinds = set(arch.activations.values()) or {"linear"}
    if not weights or len(kinds) > 1 or arch.positive or arch.tied:
        return None
    found = Chain((weights[0][1], *(w[0] for w in weights)), kinds.pop(), "b1" in arch.shapes)
    try:
        like = mlp(found.widths, found.kind, bias=found.bias)
    except ValueError:
        return None
    if any(dict(getattr(like, part)) != dict(getattr(arch, part)) for part in ("shapes", "axes", "activations")):
        return None
    if like.inputs != arch.inputs:
        return None
    generator = torch.Generator().manual_seed(len(weights))
    theta, x = like.init(generator), fields.inputs(like, 5, generator)
    return found if torch.allclose(arch(theta, x), like(theta, x), rtol=1e-12, atol=1e-12) else None


def closed_form(task: Task) -> LawCount:
    """The published number of laws of linear and ReLU chains.

    Gradient flow of a linear chain without bias: sum over hidden layers of r (2 n_i + 1 - r) / 2 with
    r = min(n_i, n_{i-1} + n_{i+1}); but where two layers of one unit enclose the rest, these enter by one product, and
    their parameters - 1 laws replace their terms.  ReLU: the number of hidden units, for parameters where the outputs
    separate the paths.  Momentum, two linear layers n-r-m with N = n + m: r (r - 1) / 2 if r <= 2N, otherwise
    2 N r - N (2N + 1), the dimension of the antisymmetric r x r matrices of rank at most 2N (the angular momenta); for
    n = m = 1, 0 if r = 1, otherwise 2 (2r - 3), twice that with N = 1.

    Raises ValueError for any other architecture or flow.

    Source: Marcotte, Gribonval, Peyre, arXiv 2307.00144; the segments of one unit and the momentum formula are ours.
    """
    found = chain(task.arch)
    if found is None:
        raise task.refusal("closed form", "known for plain multilayer perceptrons")
    w = found.widths
    relu = found.kind == "relu"
    if task.flow == "gradient" and relu and found.is_separable:
        laws = sum(w[1:-1])
    elif task.flow == "gradient" and found.kind == "linear" and not found.bias:
        laws = len(found.segments) - 1 + sum(_segment_laws(part) for part in found.segments)
    elif task.flow == "momentum" and found.is_pair:
        N, r = w[0] + w[2], w[1]
        laws = r * (r - 1) // 2 if r <= 2 * N else 2 * N * r - N * (2 * N + 1)
        laws = max(0, 2 * (2 * r - 3)) if N == 2 else laws
    else:
        raise task.refusal(
            "closed form", f"no formula for {found.kind} layers with{'' if found.bias else 'out'} bias here"
        )
    region = SEPARATED if relu else EVERYWHERE
    return task.result("closed form", laws, task.dimension - laws, laws if relu else 0, "formula", region=region)


def _segment_laws(w: tuple[int, ...]) -> int:
    if w[0] == w[-1] == 1:
        return sum(a * b for a, b in itertools.pairwise(w)) - 1
    ranks = [min(b, a + c) for a, b, c in zip(w, w[1:], w[2:], strict=False)]
    return sum(r * (2 * n + 1 - r) // 2 for r, n in zip(ranks, w[1:], strict=False))


def monomial_lift(task: Task) -> LawCount:
    """Gradient flow of ReLU chains: the rank of the incidence matrix of paths and edges; no brackets are needed.

    Where inputs with different activation patterns separate the paths, the fields span the gradients of one monomial
    for every path; this span is involutive, and at a point without zeros it has the rank of the incidence matrix.  One
    path through every edge is enough: these run along one tree into and one tree out of every unit, and every path is a
    whole-number combination of them.  Other parameters, with dead units for example, have more laws.

    Raises ValueError for any other architecture or flow, and where no parameters separate the paths.

    Source: Marcotte, Gribonval, Peyre, arXiv 2307.00144 (path lifting); the basis of paths is ours.
    """
    found = chain(task.arch)
    if found is None or found.kind not in fields.KINKED or task.flow != "gradient":
        raise task.refusal("monomial lift", "wanted gradient flow of a chain of ReLU or leaky-ReLU layers")
    if not found.is_separable:
        raise task.refusal("monomial lift", "without biases, a layer of one unit opens many paths together")
    task.check_size(task.dimension)
    sizes = [math.prod(s) for s in task.arch.shapes.values()]
    start = dict(zip(task.arch.shapes, np.cumsum([0, *sizes]).tolist(), strict=False))
    depth, w = len(found.widths) - 1, found.widths

    def path(nodes: dict[int, int], first: int) -> list[int]:
        """The edges, from layer `first` on, of the path through unit 0 of every layer but those in `nodes`."""
        unit = [nodes.get(i, 0) for i in range(depth + 1)]
        return [start[f"W{i}"] + unit[i] * w[i - 1] + unit[i - 1] for i in range(first, depth + 1)]

    paths = [path({i: to, i - 1: fro}, 1) for i in range(1, depth + 1) for to in range(w[i]) for fro in range(w[i - 1])]
    if found.bias:
        paths += [[start[f"b{i}"] + to, *path({i: to}, i + 1)] for i in range(1, depth + 1) for to in range(w[i])]
    rows = np.zeros((len(paths), task.dimension))
    for row, edges in zip(rows, paths, strict=True):
        row[edges] = 1

    charges = fields.charge_rank(task, Field(PRIMES[0], task.generator))
    ranks = (([span(rows, Field(p, task.generator)).rank], False) for p in PRIMES)
    return task.weighed("monomial lift", ranks, charges, settled="closed", region=SEPARATED)


def matrix_closure(task: Task) -> LawCount:
    """Two linear layers f = W_2 W_1: the fields are linear, Z -> S Z, and their brackets are matrix commutators.

    Z stacks W_1^T and W_2, so that S_ij = E_ij + E_ji joins input i and output j; momentum acts on (Z, Z').  The matrix
    algebra is closed exactly modulo a prime; its rank at a random Z is the Lie dimension.

    Raises ValueError for any other architecture, and for the sign flow.

    Source: Marcotte, Gribonval, Peyre, arXiv 2307.00144 (two layers); momentum is ours.
    """
    found = chain(task.arch)
    if found is None or not found.is_pair or task.flow == "sign":
        raise task.refusal("matrix closure", "wanted two linear layers without bias, gradient or momentum flow")
    inputs, r, outputs = found.widths
    N, size = inputs + outputs, (inputs + outputs) * (2 if task.flow == "momentum" else 1)
    task.check_size(size**2)

    def runs() -> Iterator[tuple[list[int], bool]]:
        for p in PRIMES:
            field = Field(p, task.generator)
            joins = np.zeros((inputs * outputs, size, size))
            for k, (i, j) in enumerate(np.ndindex(inputs, outputs)):
                joins[k, size - N + i, inputs + j] = joins[k, size - N + inputs + j, i] = 1
            drift = np.zeros((1, size, size))
            if task.flow == "momentum":  # Z' = V, V' = -damping V
                drift[0, :N, N:], drift[0, N:, N:] = np.eye(N), -field.residue(task.damping) * np.eye(N)
            ranks = _closure(joins, np.concatenate([joins, field.reduce(drift)]), field.random(size, r), field)
            yield [rank + (task.flow == "momentum") for rank in ranks], False  # and time, which only the drift moves

    charges = fields.charge_rank(task, Field(PRIMES[0], task.generator))
    return task.weighed("matrix closure", runs(), charges, settled="closed")


def _closure(start: Array, movers: Array, Z: Array, field: Field) -> list[int]:
    """The ranks of A Z, depth by depth, for the smallest space A that holds `start` and its brackets with `movers`."""
    size = len(Z)
    algebra, new, ranks = span(start.reshape(len(start), -1), field), start, []
    while True:
        ranks.append(span(field.product(algebra.rows.reshape(-1, size, size), Z).reshape(algebra.rank, -1), field).rank)
        pairs = movers[:, None] @ new - new @ movers[:, None]
        larger = algebra.extended(field.reduce(pairs).reshape(-1, size**2))
        if larger.rank == algebra.rank:
            return ranks
        algebra, new = larger, larger.rows[algebra.rank :].reshape(-1, size, size)
