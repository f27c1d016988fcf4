"""Counting in float64, for any network that can be differentiated: nested brackets, and the sign flow."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from symlib.counting import fields
from symlib.counting.count import LawCount, Task, grown
from symlib.counting.modular import PRIMES, Field, span
from symlib.symmetry import Params, flatten, unflatten

DEPTH = 5  # of brackets: the cost doubles twice with each
RTOL = 1e-8  # singular values below it, relative to the largest, count as zero
VANISHED = 1e-9  # a bracket this much smaller than those of the depth before is rounding, and is dropped

State = torch.Tensor
Controlled = Callable[[torch.Tensor, State], State]


def nested_brackets(task: Task) -> LawCount:
    """Any network: nested brackets of random combinations of all fields at one point, by forward differentiation.

    Depth by depth, as many brackets [X_1, [X_2, ... X_k]] as the state has dimensions, each of fresh combinations of
    the gradients of every output at every input.  Brackets that vanish are dropped before the rest are normalised; the
    rank is that of the singular values, and the gap at the cut is reported.

    Raises ValueError for a size that is refused; Disagreement when two points disagree.

    Source: Marcotte, Gribonval, Peyre, arXiv 2307.00144 (the criterion); nested forward differentiation is ours.
    """
    if task.flow == "sign":
        raise task.refusal("nested brackets", "sign(grad L) has no derivative; see 'sign vectors'")
    task.check_size(task.dimension)
    charges, point, gaps = fields.charge_rank(task, Field(PRIMES[0], task.generator)), _point(task), []

    def runs() -> Iterator[tuple[list[int], bool]]:
        for theta in (point, _point(task)):
            steps = partial(_depths, *_family(task, theta), task.generator, gaps)
            yield grown(steps(), task.dimension - charges, min(task.orders, DEPTH))

    count = task.weighed("nested brackets", runs(), charges, region="near the point", point=point)
    return replace(count, gap=min(gaps))


def sign_vectors(task: Task) -> LawCount:
    """The sign flow theta' = -sign(grad L), to which Adam without averages comes down.

    The sign of a gradient is locally constant, so the fields commute: the Lie dimension is the rank of all the sign
    vectors that some loss brings about, taken over random losses until more of them add nothing.

    Raises ValueError for a size that is refused; Disagreement when two points disagree.

    Source: the code of Marcotte, Gribonval, Peyre, arXiv 2506.06194 (Adam); the statement as we read it.
    """
    if task.flow != "sign":
        raise task.refusal("sign vectors", "wanted the sign flow")
    task.check_size(task.dimension)
    point = _point(task)

    def runs() -> Iterator[tuple[list[int], bool]]:
        for theta in (point, _point(task)):
            yield grown(_signs(*_family(task, theta), task.generator), task.dimension, task.orders)

    return task.weighed("sign vectors", runs(), 0, region="near the point", point=point)


def _point(task: Task) -> Params:
    return task.arch.init(task.generator) if task.theta is None else {k: v.double() for k, v in task.theta.items()}


def _family(task: Task, theta: Params) -> tuple[Controlled, State, int]:
    """The velocity as a function of controls and state, the state to begin at, and the number of controls."""
    arch, P = task.arch, task.arch.parameters
    fixed = math.prod(n for n in arch.inputs if n is not None)
    single = arch(theta, fields.inputs(arch, 1, task.generator)).numel()
    x, _ = fields.varied(arch, theta, 2 * P // single + fixed + 1, task.generator)
    shape = arch(theta, x).shape
    kept = flatten({k: torch.full(s, k in arch.positive) for k, s in arch.shapes.items()}, arch.shapes)

    def slope(c: torch.Tensor, flat: State) -> State:
        pairing = lambda v: (c.reshape(shape) * arch.forward(unflatten(v, arch.shapes), x, arch.functions())).sum()  # noqa: E731
        return torch.func.grad(pairing)(flat)

    def momentum(c: torch.Tensor, state: State) -> State:
        drift = c[-1:] * state[P : 2 * P]
        return torch.cat([drift, slope(c[:-1], state[:P]) - float(task.damping) * drift, c[-1:]])

    flat = flatten({k: v.double() for k, v in theta.items()}, arch.shapes)
    if task.flow == "momentum":
        rest = torch.randn(P + 1, generator=task.generator, dtype=torch.float64)
        return momentum, torch.cat([flat, rest]), shape.numel() + 1
    mirror = lambda c, state: slope(c, state) * torch.where(kept, state, 1.0)  # noqa: E731
    return mirror if arch.positive else slope, flat, shape.numel()


def _depths(
    velocity: Controlled, state: State, controls: int, generator: torch.Generator, gaps: list[float]
) -> Iterator[int]:
    """The ranks depth by depth; the gap of the last one is left in `gaps`."""

    def nested(c: torch.Tensor) -> State:
        field = partial(velocity, c[0])
        for other in c[1:]:
            field = _bracket(partial(velocity, other), field)
        return field(state)

    rows, before, many = state.new_empty(0, len(state)), 0.0, len(state) + 8
    gaps.append(math.inf)
    for depth in itertools.count(1):
        c = torch.randn(many, depth, controls, generator=generator, dtype=torch.float64)
        found = torch.func.vmap(nested, chunk_size=64)(c)
        size = found.norm(dim=1, keepdim=True)
        found, size, before = (
            found[size[:, 0] > VANISHED * before],
            size[size[:, 0] > VANISHED * before],
            float(size.max()),
        )
        rows = torch.cat([rows, found / size])
        s = torch.linalg.svdvals(rows)
        rank = int((s > RTOL * s[0]).sum())
        gaps[-1] = float(s[rank - 1] / s[rank]) if rank < len(s) else math.inf
        yield rank


def _bracket(X: Callable[[State], State], Y: Callable[[State], State]) -> Callable[[State], State]:
    """[X, Y] = DY X - DX Y."""
    return lambda s: torch.func.jvp(Y, (s,), (X(s),))[1] - torch.func.jvp(X, (s,), (Y(s),))[1]


def _signs(velocity: Controlled, state: State, controls: int, generator: torch.Generator) -> Iterator[int]:
    field = Field(PRIMES[0], generator)
    reached = span(np.empty((0, len(state))), field)
    while True:
        c = torch.randn(len(state) + 8, controls, generator=generator, dtype=torch.float64)
        signs = torch.func.vmap(velocity, in_dims=(0, None))(c, state).sign().numpy()
        reached = reached.extended(field.reduce(signs))
        yield reached.rank
