"""What it is worth to put unit j of one network in the place of unit i of another, and the best assignment."""

import math

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from symlib import groups
from symlib.activations import Family
from symlib.orbits.moves import Move

REACH = math.log(1e3)  # of log c: further out the halves pull apart a unit that is dead in one of the networks
STEPS = 6  # of Newton with a guard, from the best of four starts
ROWS = 32  # at a time, which stay in the cache


def best_move(q: Tensor, u: Tensor, r: Tensor, v: Tensor, families: tuple[Family, ...]) -> Move:
    """The monomial move that maximises sum_i phi(i, order_i; scale_i) over the families, for one space.

    phi(i, j; c) = c q_ij + u_ij / c - c^2 r_j / 2 - v_j / (2 c^2) is minus half the squared distance of unit i to c
    times unit j and, in the dual, to unit j / c, up to constants.  q, u are (n, n), r, v are (n,), float64.

    Source: the assignment of Ainsworth et al., arXiv 2209.04836 (matching weights); signs and scales ours.
    """
    signs = groups.sign_flip in families
    if groups.rescaling in families:
        score, scale = best_scale(q, u, r, v)
        if signs:
            other, flipped = best_scale(-q, -u, r, v)
            score, scale = torch.maximum(score, other), torch.where(other > score, -flipped, scale)
    else:
        score = q + u
        scale = torch.where(score < 0, -1.0, 1.0).double() if signs else score.new_ones(()).expand(score.shape)
        score = score.abs_() if signs else score
    cost = score.amax(dim=1, keepdim=True) - score  # what a row or a column shares changes nothing: less to search
    cost -= cost.amin(dim=0)
    rows, order = map(torch.from_numpy, linear_sum_assignment(cost.numpy()))
    return Move(order, scale[rows, order])


def best_scale(q: Tensor, u: Tensor, r: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """The maximum over c > 0 of phi = c q + u / c - c^2 r / 2 - v / (2 c^2), and where it is: q, u (m, n) or (n,).

    Newton's method in t = log c, from the best of t = 0, the maximum of each half, and half way between these, only
    ever uphill until the last step.  It is exact but where phi has two maxima of nearly one height; what it returns is
    attained.  c stays in 1 / 1000 to 1000.

    Source: ours.
    """
    if q.ndim > 1 and len(q) > ROWS:
        parts = [best_scale(a, b, r, v) for a, b in zip(q.split(ROWS), u.split(ROWS), strict=True)]
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
    tiny = torch.finfo(q.dtype).tiny

    def value(t: Tensor) -> Tensor:
        c = t.exp()
        return c * (q - c * r / 2) + (u - v / (2 * c)) / c

    def newton(t: Tensor) -> Tensor:
        c = t.exp()
        x, y, r2, v2 = c * q, u / c, c * c * r, v / (c * c)
        slope, bend = x - y - r2 + v2, 2 * (r2 + v2) - x - y
        return torch.where(bend > 0, slope / bend.clamp_min(tiny), slope.sign()).clamp(-1, 1)

    ahead = torch.where((q > 0) & (r > 0), q.clamp_min(tiny) / r.clamp_min(tiny), 1).log().clamp(-REACH, REACH)
    back = torch.where((u > 0) & (v > 0), v.clamp_min(tiny) / u.clamp_min(tiny), 1).log().clamp(-REACH, REACH)
    t = torch.zeros_like(q)
    best = value(t)
    for step in range(3 + STEPS):
        trial = (ahead, back, (ahead + back) / 2)[step] if step < 3 else (t + newton(t)).clamp(-REACH, REACH)
        found = value(trial)
        t, best = torch.where(found > best, trial, t), torch.maximum(found, best)
    last = newton(t)
    return best, torch.where(last.abs() < 1e-3, t + last, t).clamp(-REACH, REACH).exp()


def total(q: Tensor, u: Tensor, r: Tensor, v: Tensor, move: Move) -> float:
    """The sum over i of phi(i, order_i; scale_i).  Source: ours."""
    j, c = move.order, move.scale
    i = torch.arange(len(j))
    return float((c * q[i, j] + u[i, j] / c - c * c * r[j] / 2 - v[j] / (2 * c * c)).sum())
