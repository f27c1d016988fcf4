"""Exact counting for traced networks: the Lie algebra of the fields, read off a random curve as a power series."""

import math
from collections.abc import Iterator

import numpy as np
import torch

from symlib.counting import fields
from symlib.counting.count import EVERYWHERE, LawCount, Task, grown
from symlib.counting.modular import PRIMES, Array, Field, shaken, span
from symlib.symmetry import Params

WITNESSES = 2  # random combinations of the charges that every order must annihilate


def power_series(task: Task) -> LawCount:
    """Any network whose activations can be traced: linear, ReLU and other kinked ones, powers, tanh, softmax, ...

    The parameters start at random residues and are shaken by random controls; `modular.shaken` gives, order by order,
    the vectors that span the Lie algebra.  As many random covectors are carried as the rank can have at most, which is
    the dimension less the independent charges; random combinations of the charges are carried along and must stay
    orthogonal to every field.  ReLU patterns are those that a real point meets; the count holds where they are met.

    Raises ValueError when an activation cannot be traced, when a known symmetry turns out to be none, or the size is
    refused; Disagreement when two points disagree.

    Source: ours; the rank condition is that of Marcotte, Gribonval, Peyre, arXiv 2307.00144.
    """
    arch, generator = task.arch, task.generator
    if missing := fields.untraced(arch):
        raise task.refusal("power series", f"no exact rule for {', '.join(missing)}; see 'nested brackets'")
    if task.flow == "sign":
        raise task.refusal("power series", "sign(grad L) is not polynomial; see 'sign vectors'")
    task.check_size(task.dimension)
    kinked = any(a in fields.KINKED for a in arch.activations.values())
    point = task.theta if kinked and task.theta is not None else arch.init(generator)  # else no point is special
    charges = fields.charge_rank(task, Field(PRIMES[0], generator))
    most = task.dimension - charges
    x, met = _inputs(task, point, most, kinked)
    gates = fields.patterns(arch, point, x)
    fields.check_inside(arch, point, x, generator)

    def runs() -> Iterator[tuple[list[int], bool]]:
        for p in PRIMES:
            yield grown(_orders(task, Field(p, generator), x.numpy(), gates, most), most, task.orders)

    def inside(theta: Params) -> bool:
        found = fields.patterns(arch, theta, x)
        return all(np.array_equal(a, b) for s in gates for a, b in zip(gates[s], found[s], strict=True))

    single = task.flow == "gradient" and arch(point, x).numel() == 1
    region = (
        f"near the point, where {x.shape[arch.inputs.index(None)]} inputs meet {met} activation patterns"
        if kinked
        else EVERYWHERE
    )
    return task.weighed(
        "power series", runs(), charges, single=single, region=region, point=point, inside=inside if kinked else None
    )


def _orders(task: Task, field: Field, x: Array, gates: fields.Gates, most: int) -> Iterator[int]:
    system = fields.system(task, field, field.random(*x.shape), gates)
    state = {k: leaf.known[0] for k, leaf in system.state.items()}
    laws = fields.charge_rows(task, field, {k: v for k, v in state.items() if v is not None})
    covectors = field.random(most, task.dimension)
    if len(laws):
        covectors = np.concatenate([covectors, field.product(field.random(WITNESSES, len(laws)), laws)])
    reached = span(np.empty((0, most)), field)
    for rows in shaken(system, fields.split(covectors, {k: leaf.shape for k, leaf in system.state.items()})):
        if rows[:, most:].any():
            raise ValueError(f"{task.what}: {fields.BROKEN_CHARGE}")
        rows, wanted = rows[:, :most], most - reached.rank + WITNESSES
        reached = reached.extended(field.product(field.random(wanted, len(rows)), rows) if len(rows) > wanted else rows)
        yield reached.rank


def first_rank(task: Task, point: Params, x: torch.Tensor, field: Field, most: int) -> int:
    """The rank of the fields themselves, before any bracket, seen by `most` random covectors.  Source: ours."""
    return next(_orders(task, field, x.numpy(), fields.patterns(task.arch, point, x), most))


def _inputs(task: Task, point: Params, most: int, kinked: bool) -> tuple[torch.Tensor, int]:
    if not kinked and (offset := fields.affine(task.arch, point)) is not None:
        d = math.prod(n for n in task.arch.inputs if n is not None)
        return fields.varied(task.arch, point, d + offset, task.generator)
    field = Field(PRIMES[0], task.generator)
    x, met, _ = fields.widened(task, point, lambda x: first_rank(task, point, x, field, most), most)
    return x, met
