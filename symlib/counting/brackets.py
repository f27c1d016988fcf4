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
BROKEN = 1e-5  # a bracket with this much along the gradient of a charge does not conserve it
NEAR = 1e-3  # relative distance of the second point from the first
LOSSES = 8  # random losses for each parameter, of which the signs are taken at a time
LOUD = 6  # decades over which a random loss weighs its inputs
VANISHED = 1e-9  # a bracket this much smaller than its terms, before they cancel, is rounding, and is dropped
TERMS = 8  # brackets of each depth whose terms are sized

State = torch.Tensor
Controlled = Callable[[torch.Tensor, State], State]


def nested_brackets(task: Task) -> LawCount:
    """Any network: nested brackets of random combinations of all fields at one point, by forward differentiation.

    Depth by depth, as many brackets [X_1, [X_2, ... X_k]] as the state has dimensions, each of fresh combinations of
    the gradients of every output at every input.  Brackets that vanish are dropped before the rest are normalised; the
    rank is that of the singular values, and the gap at the cut is reported.

    Raises ValueError for a size that is refused, for a point where all fields vanish, and when a known symmetry turns
    out to be none; Disagreement when two points disagree.

    Source: Marcotte, Gribonval, Peyre, arXiv 2307.00144 (the criterion); nested forward differentiation is ours.
    """
    if task.flow == "sign":
        raise task.refusal("nested brackets", "sign(grad L) has no derivative; see 'sign vectors'")
    task.check_size(task.dimension)
    charges, point, gaps = fields.charge_rank(task, Field(PRIMES[0], task.generator)), _point(task), []
    x = _inputs(task, point)

    def runs() -> Iterator[tuple[list[int], bool]]:
        for theta in (point, _near(task, point)):
            steps = partial(_depths, task, *_family(task, theta, x), gaps)
            yield grown(steps(), task.dimension - charges, min(task.orders, DEPTH))

    count = task.weighed("nested brackets", runs(), charges, sure="measured", region="near the point", point=point)
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
    x = _inputs(task, point)

    def runs() -> Iterator[tuple[list[int], bool]]:
        for theta in (point, _near(task, point)):
            yield grown(_signs(*_family(task, theta, x), task.generator), task.dimension, task.orders)

    return task.weighed("sign vectors", runs(), 0, sure="measured", region="near the point", point=point)


def _point(task: Task) -> Params:
    return task.arch.init(task.generator) if task.theta is None else {k: v.double() for k, v in task.theta.items()}


def _near(task: Task, point: Params) -> Params:
    """A second point beside the first, in the same region but for bad luck."""
    noise = {k: torch.randn(v.shape, generator=task.generator, dtype=torch.float64) for k, v in point.items()}
    return {k: v + NEAR * v.abs().clamp(min=NEAR) * noise[k] for k, v in point.items()}


def _inputs(task: Task, point: Params) -> torch.Tensor:
    """So many inputs that their gradients span those of all inputs twice over."""
    fixed = math.prod(n for n in task.arch.inputs if n is not None)
    single = task.arch(point, fields.inputs(task.arch, 1, task.generator)).numel()
    x, _ = fields.varied(task.arch, point, 2 * task.arch.parameters // single + fixed + 1, task.generator)
    fields.check_inside(task.arch, point, x, task.generator)
    return x


def _family(task: Task, theta: Params, x: torch.Tensor) -> tuple[Controlled, State, int]:
    """The velocity as a function of controls and state, the state to begin at, and the number of controls."""
    arch, P = task.arch, task.arch.parameters
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


def _depths(task: Task, velocity: Controlled, state: State, controls: int, gaps: list[float]) -> Iterator[int]:
    """The ranks depth by depth; the gap of the last one is left in `gaps`."""

    def nested(c: torch.Tensor, sign: int = -1) -> State:
        field = partial(velocity, c[0])
        for other in c[1:]:
            field = _bracket(partial(velocity, other), field, sign)
        return field(state)

    rows, many, laws = state.new_empty(0, len(state)), len(state) + 8, _charge_directions(task, state)
    gaps.append(math.inf)
    for depth in itertools.count(1):
        c = torch.randn(many, depth, controls, generator=task.generator, dtype=torch.float64)
        found = torch.func.vmap(nested, chunk_size=64)(c)
        size = found.norm(dim=1, keepdim=True)
        whole = torch.func.vmap(partial(nested, sign=1))(c[:TERMS]).norm(dim=1).max()
        kept = size[:, 0] > VANISHED * whole
        rows = torch.cat([rows, found[kept] / size[kept]])
        if not len(rows):
            raise ValueError(f"{task.what}: all fields vanish at the point, which is no generic one")
        if ((rows @ laws.T).abs() > BROKEN).any():
            raise ValueError(f"{task.what}: {fields.BROKEN_CHARGE}")
        s = torch.linalg.svdvals(rows)
        rank = int((s > RTOL * s[0]).sum())
        gaps[-1] = float(s[rank - 1] / s[rank]) if rank < len(s) else math.inf
        yield rank


def _charge_directions(task: Task, state: State) -> torch.Tensor:
    """The gradients, of length 1, of the conserved quantities that known symmetries give at the state."""
    layout = dict(task.arch.shapes)
    if task.flow == "momentum":
        layout |= {**{f"{k}'": s for k, s in layout.items()}, "t": (1,)}
    parts = fields.split(state[None].numpy(), layout)
    rows = fields.charge_rows(task, None, {k: v[0] for k, v in parts.items()})
    return torch.nn.functional.normalize(torch.from_numpy(rows))


def _bracket(X: Callable[[State], State], Y: Callable[[State], State], sign: int = -1) -> Callable[[State], State]:
    """[X, Y] = DY X - DX Y; with the other sign its terms do not cancel, which shows their size."""
    return lambda s: torch.func.jvp(Y, (s,), (X(s),))[1] + sign * torch.func.jvp(X, (s,), (Y(s),))[1]


def _signs(velocity: Controlled, state: State, controls: int, generator: torch.Generator) -> Iterator[int]:
    field = Field(PRIMES[0], generator)
    reached = span(np.empty((0, len(state))), field)
    while True:
        c, spread = (
            fn(LOSSES * len(state), controls, generator=generator, dtype=torch.float64)
            for fn in (torch.randn, torch.rand)
        )
        c = c * 10 ** (LOUD * spread)  # losses in which a few inputs outweigh the others reach more signs
        signs = torch.func.vmap(velocity, in_dims=(0, None))(c, state).sign().numpy()
        reached = reached.extended(field.reduce(signs))
        yield reached.rank
