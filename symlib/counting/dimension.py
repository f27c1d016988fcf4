"""The functional dimension: how many dimensions of functions a network reaches from a point."""

import math
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import torch

from symlib.architectures import Arch
from symlib.counting import fields
from symlib.counting.count import EVERYWHERE, Disagreement, Task
from symlib.counting.modular import PRIMES, Field, span
from symlib.counting.series import first_rank
from symlib.guards import check_generator
from symlib.symmetry import Params, check_params, flatten, unflatten

RTOL = 1e-8  # singular values below it, relative to the largest, count as zero


@dataclass(frozen=True)
class FunctionalDimension:
    """The rank of the parameter Jacobian of the network's outputs, how it is known, and where it holds.

    `explained` is the dimension of the orbit of the known continuous symmetries: parameters - explained bounds the
    dimension from above.  `gap` is the last singular value kept over the first one cut, infinite for the exact method.
    """

    what: str
    dimension: int
    parameters: int
    explained: int
    method: str
    inputs: int
    region: str = EVERYWHERE
    gap: float = math.inf
    point: Params = field(default_factory=dict, repr=False, compare=False)

    @property
    def hidden(self) -> int:
        """Directions in which the function stays the same although no known symmetry says so."""
        return self.parameters - self.explained - self.dimension

    def __repr__(self) -> str:
        gap = "" if math.isinf(self.gap) else f", spectral gap {self.gap:.0e}"
        return (
            f"{self.what}: functional dimension {self.dimension} of {self.parameters} parameters "
            f"({self.explained} explained by known symmetries, {self.hidden} by none)\n"
            f"  {self.method}, {self.inputs} inputs{gap}; {self.region}"
        )


def functional_dimension(
    arch: Arch, theta: Params | None = None, *, generator: torch.Generator, force: bool = False
) -> FunctionalDimension:
    """The dimension of the set of functions near theta: sup over inputs of rank d(f(x_1), ..., f(x_n)) / d theta.

    Without theta, the dimension at generic parameters: exactly, modulo two primes, where the activations can be traced
    (polynomial networks, and ReLU networks on the activation patterns that a random point meets).  At a given theta, or
    for other activations, in float64 with the gap.  Inputs are added until the rank no longer grows; for kinked
    activations rare activation patterns come first.

    Raises ValueError for bad parameters or a size that is refused unless forced; Disagreement when two primes differ.

    Source: Grigsby et al., arXiv 2209.04036 (functional dimension); Kileel, Trager, Bruna, arXiv 1905.12207 (polynomial
    networks, ranks over a finite field).
    """
    check_generator(generator, "functional_dimension")
    if theta is not None and check_params(theta, arch.shapes, arch.name, members=False) is None:
        raise TypeError(f"{arch.name}: wanted torch tensors as theta, got symbolic parameters")
    task = Task(arch, "gradient", Fraction(1), generator, theta, 1, force)
    task.check_size(task.dimension)
    point = arch.init(generator) if theta is None else {k: v.double() for k, v in theta.items()}
    explained = _orbit_dimension(task)
    most = arch.parameters - explained
    if theta is not None or fields.untraced(arch):
        return _measured(task, point, explained)
    field, other = (Field(p, generator) for p in PRIMES)
    x, met, rank = fields.widened(task, point, lambda x: first_rank(task, point, x, field, most), most)
    if rank < most and (second := first_rank(task, point, x, other, most)) != rank:
        raise Disagreement(arch.name, (rank, second))
    kinked = any(a in fields.KINKED for a in arch.activations.values())
    region = f"near the point, where the inputs meet {met} activation patterns" if kinked else EVERYWHERE
    n = x.shape[arch.inputs.index(None)]
    return FunctionalDimension(
        arch.name, rank, arch.parameters, explained, "exact rank modulo a prime", n, region, point=point
    )


def _measured(task: Task, point: Params, explained: int) -> FunctionalDimension:
    arch, flat = task.arch, flatten(point, task.arch.shapes)

    def spectrum(x: torch.Tensor) -> torch.Tensor:
        J = torch.func.jacrev(lambda v: arch.forward(unflatten(v, arch.shapes), x, arch.functions()))(flat)
        return torch.linalg.svdvals(J.reshape(-1, len(flat)))

    def rank(x: torch.Tensor) -> int:
        s = spectrum(x)
        return int((s > RTOL * s[0]).sum())

    x, met, found = fields.widened(task, point, rank, arch.parameters)
    s, n = spectrum(x), x.shape[arch.inputs.index(None)]
    gap = float(s[found - 1] / s[found]) if 0 < found < len(s) else math.inf
    region = f"at the point, {met} activation patterns met"
    return FunctionalDimension(arch.name, found, arch.parameters, explained, "float64 rank", n, region, gap, point)


def _orbit_dimension(task: Task) -> int:
    """The rank, at random residues, of the generators of all known continuous symmetries together."""
    field = Field(PRIMES[0], task.generator)
    theta = {k: torch.from_numpy(field.random(*s)) for k, s in task.arch.shapes.items()}
    rows = [np.empty((0, task.dimension))]
    for sym in task.arch.symmetries().values():
        if sym.group.dimension:
            rows.append(fields.moved(sym, sym.group.algebra_tensor(), theta).numpy())
    return span(field.reduce(np.concatenate(rows)), field).rank
