"""Decay that no symmetry of the network leaves alone: towards a random point, and with strengths of its own."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from symlib import ops
from symlib.architectures import Arch
from symlib.groups import Elem
from symlib.guards import check_generator, real
from symlib.ops import M
from symlib.symmetry import Params, Symmetry, check_params, inner, unflatten


def syre(arch: Arch, centre: Params) -> Arch:
    """The architecture in shifted coordinates, f(theta + centre; x): with decay, the objective of syre.

    Weight decay then pulls to theta = 0, where the function is that of `centre` (fixed, random): a generic point in
    place of the most symmetric one.  Nothing is removed from the function: every symmetry g of `arch` remains as the
    affine map theta -> g . (theta + centre) - centre, and those are the symmetries of the result.  What the decay
    term |theta|^2 keeps of an orthogonal group are the elements with g . centre = centre: for a centre drawn from a
    density, the identity alone.  At a point theta with P (theta + centre) = theta' (symmetric under theta ->
    (1 - 2P) theta + 2 theta') the gradient of loss + gamma |theta|^2 is, along P, exactly 2 gamma (theta' - P centre).

    `centre` holds tensors for training and sympy matrices for proofs.  Training at `decay` and `anchor=centre` is the
    same in the coordinates of `arch`.  Raises ValueError for a centre of other parameters.

    Source: Ziyin, Xu, Chuang, arXiv 2408.15495, the algorithm, Proposition 1 and Corollary 1.
    """
    check_params(centre, arch.shapes, f"centre of syre for {arch.name}")

    def moved(theta: Params, sign: int) -> dict[str, M]:
        return {k: ops.add(v, _like(centre[k], v) * sign) for k, v in theta.items()}

    def forward(theta: Params, x: M, sigma: Mapping[str, Callable[[M], M]]) -> M:
        return arch.forward(moved(theta, 1), x, {**arch.functions(), **sigma})

    def about(sym: Symmetry) -> Symmetry:
        def act(element: Elem, theta: Params) -> dict[str, M]:
            return moved(sym.act(element, moved(theta, 1)), -1)

        return replace(sym, name=f"{sym.name} about the centre", act=act, space="")

    tied = tuple(about(s) for s in arch.symmetries().values())
    return replace(arch, name=f"{arch.name}, shifted", forward=forward, activations={}, tied=tied)


def _like(c: M, value: M) -> M:
    """A part of the centre, or of the strengths, in the dtype and on the device of the parameters."""
    if isinstance(c, torch.Tensor) != isinstance(value, torch.Tensor):
        raise TypeError("decay: centre, strengths and parameters should all be tensors or all symbolic")
    return c.to(value) if isinstance(value, torch.Tensor) else c


def strengths(arch: Arch, generator: torch.Generator, *, spread: float) -> dict[str, torch.Tensor]:
    """Relative strengths xi of the decay, one for each parameter: float64, uniform in (-spread, spread), all different.

    They make the norm |theta|_D^2 = theta^T D theta with D = 1 + diag(xi).  An orthogonal g keeps it if and only if
    g D = D g; the entries of D differ, so g is diagonal: of all rotations and permutations of the parameters only
    changes of sign remain.  What is kept is xi: in low precision 1 + xi takes few values, and entries of D coincide.

    Raises ValueError for a spread that is not between 0 and 1 and for no generator.

    Source: Ziyin, Xu, Chuang, arXiv 2408.15495 (advanced removal, Theorem 3).
    """
    check_generator(generator, "strengths")
    if not 0 < real(spread, "strengths: spread") < 1:
        raise ValueError(f"strengths: the spread should be between 0 and 1, got {spread}")
    n = sum(map(math.prod, arch.shapes.values()))
    drawn = torch.rand(n, generator=generator, dtype=torch.float64, device=generator.device)
    while len(drawn.unique()) < n:
        drawn = torch.rand(n, generator=generator, dtype=torch.float64, device=generator.device)
    return unflatten(spread * (2 * drawn - 1), arch.shapes)


def decay_force(theta: Params, xi: Params, centre: Params | None = None) -> dict[str, M]:
    """D (theta - centre), half the gradient of |theta - centre|_D^2, computed as v + v xi with v = theta - centre.

    Tensors, with leading member axes, or sympy matrices; without a centre, around 0.  Raises TypeError for a mixture.

    Source: Ziyin, Xu, Chuang, arXiv 2408.15495 (advanced removal).
    """
    v = _away(theta, centre)
    return {k: ops.add(d, ops.times(d, _like(xi[k], d))) for k, d in v.items()}


def decay_term(theta: Params, xi: Params, centre: Params | None = None) -> M:
    """The decay |theta - centre|_D^2 with D = 1 + diag(xi), to be added to a loss: one number per member.

    Raises TypeError for a mixture of tensors and sympy matrices.

    Source: Ziyin, Xu, Chuang, arXiv 2408.15495 (advanced removal).
    """
    shapes = {k: tuple(v.shape) for k, v in xi.items()}
    return inner(_away(theta, centre), decay_force(theta, xi, centre), shapes)


def _away(theta: Params, centre: Params | None) -> Params:
    return theta if centre is None else {k: ops.add(v, _like(centre[k], v) * -1) for k, v in theta.items()}
