"""What it is worth to put unit j of one network in the place of unit i of another, and the best assignment."""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from symlib import groups
from symlib.activations import Family
from symlib.orbits.moves import Move

REACH = 1e3  # a scale leaves 1 / REACH to REACH for 1: no unit is dead enough to be blown up
STEPS = 6  # of Newton, from the best of four starts


def best_move(q: Tensor, u: Tensor, r: Tensor, v: Tensor, families: tuple[Family, ...]) -> Move:
    """The monomial move that maximises sum_i phi(i, order_i; scale_i) over the families, for one space.

    phi(i, j; c) = c q_ij + u_ij / c - c^2 r_j / 2 - v_j / (2 c^2) is minus half the squared distance of unit i to c
    times unit j, and in the dual to unit j / c, up to constants.  q, u are (n, n), r, v are (n,), float64.

    Source: the assignment of Ainsworth et al., arXiv 2209.04836, section 3.2; signs and scales ours.
    """
    scales, signs = groups.rescaling in families, groups.sign_flip in families
    if scales:
        score, scale = best_scale(q, u, r, v)
        if signs:
            other, flipped = best_scale(-q, -u, r, v)
            scale = torch.where(other > score, -flipped, scale)
            score = torch.maximum(score, other)
    else:
        score = q + u
        scale = torch.where(score < 0, -1.0, 1.0).double() if signs else torch.ones_like(score)
        score = score.abs() if signs else score
    rows, order = linear_sum_assignment(score.numpy(), maximize=True)
    return Move(torch.from_numpy(order), scale[torch.from_numpy(rows), torch.from_numpy(order)])


def best_scale(q: Tensor, u: Tensor, r: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """The maximum over c > 0 of c q + u / c - c^2 r / 2 - v / (2 c^2), and where it is; r and v broadcast.

    Newton's method in log c from the best of 1, of the maximum of each half and of where the halves weigh alike.  The
    score is always one that is attained.  A scale outside of 1 / 1000 to 1000 is not taken.

    Source: ours.
    """
    tiny = torch.finfo(q.dtype).tiny
    low, high = -torch.tensor(REACH).log().item(), torch.tensor(REACH).log().item()

    def value(t: Tensor) -> Tensor:
        c = t.exp()
        return c * (q - c * r / 2) + (u - v / (2 * c)) / c

    t = torch.zeros_like(q)
    best = value(t)

    def improve(t: Tensor, best: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        other = other.nan_to_num(0.0, 0.0, 0.0).clamp(low, high)
        found = value(other)
        better = found > best
        return torch.where(better, other, t), torch.where(better, found, best)

    ahead, back = (q.clamp_min(tiny) / r.clamp_min(tiny)).log(), (v.clamp_min(tiny) / u.clamp_min(tiny)).log()
    ahead, back = torch.where((q > 0) & (r > 0), ahead, 0.0), torch.where((u > 0) & (v > 0), back, 0.0)
    for start in (ahead, back, (ahead + back) / 2):
        t, best = improve(t, best, start)
    for _ in range(STEPS):
        c = t.exp()
        x, y, rr, vv = c * q, u / c, c * c * r, v / (c * c)
        slope, bend = x - y - rr + vv, x + y - 2 * (rr + vv)
        step = torch.where(bend < 0, -slope / bend.clamp_max(-tiny), slope.sign() * 0.1).clamp(-1, 1)
        t, best = improve(t, best, t + step)
    return best, t.exp()
