"""Whether entries that are held leave any symmetry that acts on several spaces at once."""

from collections.abc import Mapping

import torch
from torch import Tensor

from symlib.activations import monomial
from symlib.asymmetric.pinning import SCALES, Pinning


def rigid(pinning: Pinning) -> bool:
    """Whether no element of all hidden spaces at once remains but the identity: True is a proof, False leaves it open.

    Elements are a permutation, with the scales and signs of the activation, in every hidden space; inputs, outputs and
    axes of no hidden space stay.  Permutations: units are told apart that are free in other places, or free towards
    units that are told apart (colour refinement); all must be.  Scales: a fixed value that is not 0 ties the scale of
    its unit to that at its other end; all must be tied, one by one, to inputs or outputs.

    Source: ours, after the induction over layers in Lim et al., arXiv 2405.20231, Theorem 1.
    """
    base = pinning.base
    families = {s: monomial(a) for s, a in base.activations.items()}
    hidden = {s: base.size(s) for s, found in families.items() if found}
    colours = {s: torch.zeros(n, dtype=torch.long) for s, n in hidden.items()}
    tied = {s: torch.full((n,), not SCALES & set(families[s])) for s, n in hidden.items()}
    while True:
        finer = {s: _seen(pinning, s, colours) for s in hidden}
        firmer = {s: _tied(pinning, s, tied) for s in hidden}
        if all(torch.equal(finer[s], colours[s]) and torch.equal(firmer[s], tied[s]) for s in hidden):
            return all(int(colours[s].max()) == n - 1 and bool(tied[s].all()) for s, n in hidden.items())
        colours, tied = finer, firmer


def _seen(pinning: Pinning, space: str, colours: Mapping[str, Tensor]) -> Tensor:
    """The colours of the units once each has seen where it is free, and towards which colours."""
    columns = [colours[space][:, None]]
    for k, i in _places(pinning, space):
        code = pinning.free[k].long().cpu()
        for j, other in enumerate(_spaces(pinning, k)):
            if j != i:
                n = code.shape[j]
                code = code * n + _along(colours.get(other, torch.arange(n)), j, code.ndim)
        columns.append(code.movedim(i, 0).flatten(1).sort(dim=1).values)
    return torch.cat(columns, dim=1).unique(dim=0, return_inverse=True)[1]


def _tied(pinning: Pinning, space: str, tied: Mapping[str, Tensor]) -> Tensor:
    """The units that are tied, now with those that have a fixed value, not 0, whose other ends are."""
    out = tied[space].clone()
    for k, i in _places(pinning, space):
        firm = pinning.fixed[k].cpu() != 0
        for j, other in enumerate(_spaces(pinning, k)):
            if j != i and other in tied:
                firm = firm & _along(tied[other], j, firm.ndim)
        out |= firm.movedim(i, 0).flatten(1).any(dim=1)
    return out


def _spaces(pinning: Pinning, name: str) -> list[str]:
    return [(a or "").rstrip("*") for a in pinning.base.axes[name]]


def _places(pinning: Pinning, space: str) -> list[tuple[str, int]]:
    """The held parameters that have the space, and on which axis."""
    return [(k, i) for k in pinning.free for i, s in enumerate(_spaces(pinning, k)) if s == space]


def _along(values: Tensor, axis: int, ndim: int) -> Tensor:
    return values.reshape([-1 if i == axis else 1 for i in range(ndim)])
