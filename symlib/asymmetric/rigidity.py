"""Whether entries that are held leave any symmetry that acts on several spaces at once."""

import itertools
import math
from collections.abc import Mapping, Set

import torch
from torch import Tensor

from symlib import groups
from symlib.activations import monomial
from symlib.asymmetric.pinning import SCALES, Pinning

Permutations = dict[str, tuple[int, ...]]  # hidden space -> p, (g z)_i = z_{p(i)}
MOST = 10**6  # of permutations of all spaces at once that are looked through


def rigid(pinning: Pinning) -> bool:
    """Whether no element of all hidden spaces at once remains but the identity: True is a proof, False leaves it open.

    Elements are a permutation, with the scales and signs of the activation, in every hidden space; inputs, outputs and
    axes of no hidden space stay, and symmetries that are no axis action are left aside.  Permutations: units are told
    apart that are free in other places (between spaces without scales and signs also: fixed at other values), or so
    towards units that are told apart (colour refinement); all must be.  Scales: a fixed value that is not 0 ties the
    scale of its unit to that at its other end; all must be tied, one by one, to inputs or outputs.

    Source: ours, after the induction over layers in Lim et al., arXiv 2405.20231, Theorem 1.
    """
    base = pinning.base
    families = {s: monomial(a) for s, a in base.activations.items()}
    hidden = {s: base.size(s) for s, found in families.items() if found}
    stiff = {s: not SCALES & set(families[s]) for s in hidden}
    colours = {s: torch.zeros(n, dtype=torch.long) for s, n in hidden.items()}
    tied = {s: torch.full((n,), stiff[s]) for s, n in hidden.items()}
    while True:
        finer = {s: _seen(pinning, s, colours, stiff) for s in hidden}
        firmer = {s: _tied(pinning, s, tied) for s in hidden}
        if all(torch.equal(finer[s], colours[s]) and torch.equal(firmer[s], tied[s]) for s in hidden):
            return all(int(colours[s].max()) == n - 1 and bool(tied[s].all()) for s, n in hidden.items())
        colours, tied = finer, firmer


def automorphisms(pinning: Pinning) -> list[Permutations]:
    """The permutations of all hidden spaces at once that map what is held to itself, places and values.

    At kappa = 0 these are the automorphisms of the masked computation graph, which keep inputs and outputs.  One
    mapping {space: p} with (g z)_i = z_{p(i)} for each, the identity first: every product of permutations is looked at,
    space by space.  Scales and signs are left aside.

    Raises ValueError for networks with more than `MOST` products: `rigid` decides large ones.

    Source: Lim et al., arXiv 2405.20231, Theorem 1 (neural DAG automorphisms, which keep layers by its lemma).
    """
    base = pinning.base
    hidden = {s: base.size(s) for s, a in base.activations.items() if groups.permutation in monomial(a)}
    if joint := [s for s in hidden if len(s.split()) > 1]:
        raise ValueError(f"automorphisms: {base.name} has spaces of two axes, {joint}, which are not looked through")
    if (digits := sum(math.lgamma(n + 1) for n in hidden.values()) / math.log(10)) > math.log10(MOST) + 1e-9:
        text = f"about 10^{digits:.0f} products of permutations, more than {MOST}"
        raise ValueError(f"automorphisms: {base.name} has {text}; rigid decides large networks")
    found: list[Permutations] = [{}]
    for space, n in hidden.items():
        every = ({**p, space: q} for p in found for q in itertools.permutations(range(n)))
        found = [p for p in every if _fits(pinning, p, space, hidden.keys() - p)]
    return found


def _fits(pinning: Pinning, moves: Permutations, space: str, later: Set[str]) -> bool:
    """Whether what is held between the space chosen last and those before is mapped to itself."""
    for k, _ in _places(pinning, space):
        labels = _spaces(pinning, k)
        if later.isdisjoint(labels):
            for part in (pinning.free[k].cpu(), pinning.fixed[k].cpu()):
                moved = part
                for axis, s in enumerate(labels):
                    moved = moved.index_select(axis, torch.tensor(moves[s])) if s in moves else moved
                if not torch.equal(moved, part):
                    return False
    return True


def _seen(pinning: Pinning, space: str, colours: Mapping[str, Tensor], stiff: Mapping[str, bool]) -> Tensor:
    """The colours of the units once each has seen where it is free, and towards which colours."""
    columns = [colours[space][:, None]]
    for k, i in _places(pinning, space):
        code, others = pinning.free[k].long().cpu(), _spaces(pinning, k)
        if all(stiff.get(s, True) for s in others):
            code = code + 2 * pinning.fixed[k].cpu().unique(return_inverse=True)[1]
        for j, other in enumerate(others):
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
