"""Networks with a symmetry removed on purpose.  Each is a map from an architecture to an architecture."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from symlib import ops
from symlib.architectures import Arch
from symlib.groups import Elem
from symlib.ops import M
from symlib.symmetry import Params, Symmetry, check_params


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
    """A part of the centre in the dtype and on the device of the parameters."""
    if isinstance(c, torch.Tensor) != isinstance(value, torch.Tensor):
        raise TypeError("syre: centre and parameters should both be tensors or both symbolic")
    return c.to(value) if isinstance(value, torch.Tensor) else c
