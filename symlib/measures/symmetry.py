"""How far units and heads are from a symmetric state: their size, their distances, how many differ, their rank.

An attention head is a unit too: incoming W_Q, W_K and W_V flattened, outgoing W_O, and `swap_distances` is that of two
heads under the permutations of heads.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from symlib.guards import check_finite
from symlib.measures.rank import effective_rank


def units(theta: dict[str, Tensor], layer: int = 1) -> tuple[Tensor, Tensor]:
    """The hidden units of a layer of a multilayer perceptron: (incoming (..., m, d + 1), outgoing (..., m, k)).

    A row of `incoming` is a unit's weights and, where there is one, its bias; a row of `outgoing` what leaves it.
    Raises ValueError when the parameters have no W of that layer and of the next.  Source: ours.
    """
    W, out = theta.get(f"W{layer}"), theta.get(f"W{layer + 1}")
    if W is None or out is None:
        raise ValueError(f"units: wanted W{layer} and W{layer + 1}, got {', '.join(theta)}")
    bias = theta.get(f"b{layer}")
    return (W if bias is None else torch.cat([W, bias], dim=-1)), out.mT


def sizes(incoming: Tensor, outgoing: Tensor) -> Float[Tensor, "*batch m"]:
    """The size of every unit, sqrt(|incoming| |outgoing|), which rescaling leaves alone: 0 in the sign-symmetric state.

    Raises ValueError for NaN or inf and for units that do not belong together.  Source: ours.
    """
    _check(incoming, outgoing)
    return (incoming.norm(dim=-1) * outgoing.norm(dim=-1)).sqrt()


def swap_distances(incoming: Tensor, outgoing: Tensor) -> Float[Tensor, "*batch m m"]:
    """The symmetry-breaking distance of every swap of two units: |u_i - u_j| / sqrt 2, u = (incoming, outgoing).

    0 where two units are equal: the state is symmetric under their exchange.  Raises ValueError as `sizes` does.

    Source: our reconstruction of Delta_G = |P_G theta| in Ziyin et al., arXiv 2502.05300.
    """
    _check(incoming, outgoing)
    u = torch.cat([incoming, outgoing], dim=-1)
    return torch.cdist(u, u, compute_mode="donot_use_mm_for_euclid_dist") / 2**0.5


def cosines(rows: Tensor) -> Float[Tensor, "*batch m m"]:
    """The cosine of every pair of rows; a zero row has cosine 0 with every other.  Source: ours."""
    unit = rows / rows.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)
    return unit @ unit.mT


def leaders(
    incoming: Tensor, outgoing: Tensor, *, cosine: float = 0.9, live: float = 0.05, scale: Tensor | float | None = None
) -> Bool[Tensor, "*batch m"]:
    """One unit for each group of units that point the same way, chosen greedily from the largest down.

    A unit counts when its size exceeds `live` times `scale` (by default the largest size of its network); it joins an
    earlier one when both its incoming and its outgoing direction have a cosine above `cosine` with that one's.  Sizes
    may differ: in a ReLU network directions merge and sizes do not.  Raises ValueError as `sizes` does, and for
    cosines and shares outside [0, 1].

    Source: ours (clusters of units as in Chen, Kunin, Yamamura, Ganguli, arXiv 2306.04251).
    """
    if not (0 <= cosine <= 1 and 0 <= live <= 1):
        raise ValueError(f"leaders: wanted cosine and live in [0, 1], got {cosine} and {live}")
    same = (cosines(incoming) > cosine) & (cosines(outgoing) > cosine)
    return _first_of_each(same, *_alive(incoming, outgoing, live, scale))


def distinct_units(
    incoming: Tensor, outgoing: Tensor, *, cosine: float = 0.9, live: float = 0.05, scale: Tensor | float | None = None
) -> Int[Tensor, "*batch"]:
    """The number of distinct live units: that of the `leaders`.  Source: as there."""
    return leaders(incoming, outgoing, cosine=cosine, live=live, scale=scale).sum(dim=-1)


def live_units(
    incoming: Tensor, outgoing: Tensor, *, live: float = 0.05, scale: Tensor | float | None = None
) -> Int[Tensor, "*batch"]:
    """The number of units whose size exceeds `live` times `scale`, by default the largest size of their network.

    Raises ValueError as `sizes` does.  Source: ours.
    """
    return _alive(incoming, outgoing, live, scale)[1].sum(dim=-1)


def distinct_points(
    incoming: Tensor,
    outgoing: Tensor,
    *,
    tolerance: float,
    live: float = 0.05,
    scale: Tensor | float | None = None,
) -> Int[Tensor, "*batch"]:
    """The number of distinct live units as points u = (incoming, outgoing), chosen greedily from the largest size down.

    A unit joins an earlier one when |u_i - u_j| <= tolerance max |u|: here, other than for `distinct_units`, two units
    of one direction and different sizes are two.  Raises ValueError as `sizes` does, and for a negative tolerance.

    Source: our reading of the distinct neurons of Ziyin et al., arXiv 2502.05300, Conjecture 1.
    """
    if not tolerance >= 0:
        raise ValueError(f"distinct_points: tolerance should be at least 0, got {tolerance}")
    size, alive = _alive(incoming, outgoing, live, scale)
    largest = torch.cat([incoming, outgoing], dim=-1).norm(dim=-1).amax(dim=-1)[..., None, None]
    same = 2**0.5 * swap_distances(incoming, outgoing) <= tolerance * largest
    return _first_of_each(same, size, alive).sum(dim=-1)


def nearest(incoming: Tensor, outgoing: Tensor) -> Float[Tensor, "*batch m"]:
    """The distance of every unit to its nearest other one, min_j |u_i - u_j| / sqrt(|u_i|^2 + |u_j|^2).

    0 for a unit that has a copy (or is zero, as another one), 1 for orthogonal ones, sqrt 2 for opposite ones, and inf
    for a unit that is alone.  Raises ValueError as `sizes` does.

    Source: ours; the relative form of the normalised distance in Chen, Kunin, Yamamura, Ganguli, arXiv 2306.04251.
    """
    distance = 2**0.5 * swap_distances(incoming, outgoing)
    norm = torch.cat([incoming, outgoing], dim=-1).norm(dim=-1)
    both = torch.hypot(norm.unsqueeze(-1), norm.unsqueeze(-2)).clamp_min(torch.finfo(norm.dtype).tiny)
    alone = torch.eye(norm.shape[-1], dtype=torch.bool, device=norm.device)
    return torch.where(alone, torch.inf, distance / both).amin(dim=-1)


def head_symmetry(W_Q: Tensor, W_K: Tensor) -> Float[Tensor, "*batch"]:
    """The degree of the double-rotation symmetry of an attention head, 1 - effective_rank(W_Q^T W_K) / key, in [0, 1].

    W_Q and W_K are (..., key, d); W_Q -> M W_Q, W_K -> M^-T W_K leaves the head, and this number, alone.  The orbit of
    a head reaches, at least as a limit, the balanced point W_Q W_Q^T = W_K W_K^T = diag(s), s the singular values of
    W_Q^T W_K; the rotations M that fix it are those of the key directions with s = 0.  So a head is symmetric as far
    as its product lacks rank: 0 when all s are equal, 1 - 1 / key for rank one, 1 for zero.  A random head is not at 0,
    and with d < key no head is: compare with the initialisation.  From the small factors of W_Q^T = Q R, not d x d.

    Raises ValueError for matrices of different shapes, and NaN or inf.

    Source: our reconstruction of the degree of symmetry of self-attention in Ziyin et al., arXiv 2502.05300, Figure 3.
    """
    if W_Q.ndim < 2 or W_Q.shape != W_K.shape or 0 in W_Q.shape:
        wanted = "head_symmetry: wanted W_Q and W_K (..., key, d)"
        raise ValueError(f"{wanted}, got {tuple(W_Q.shape)} and {tuple(W_K.shape)}")
    check_finite(W_Q, "head_symmetry: W_Q")
    check_finite(W_K, "head_symmetry: W_K")
    R_Q, R_K = (torch.linalg.qr(W.double().mT, mode="r").R for W in (W_Q, W_K))
    return 1 - effective_rank(R_Q @ R_K.mT) / W_Q.shape[-2]


def _alive(incoming: Tensor, outgoing: Tensor, live: float, scale: Tensor | float | None) -> tuple[Tensor, Tensor]:
    """The size of every unit, and which exceed `live` times the scale."""
    size = sizes(incoming, outgoing)
    least = live * (size.amax(dim=-1, keepdim=True) if scale is None else torch.as_tensor(scale).to(size)[..., None])
    return size, size > least


def _first_of_each(same: Tensor, size: Tensor, alive: Tensor) -> Tensor:
    """One live unit for each group of units that are the same, the largest first."""
    order = size.argsort(dim=-1, descending=True)
    chosen = torch.zeros_like(alive)
    for rank in range(size.shape[-1]):
        unit = order[..., rank : rank + 1]
        near = same.gather(-2, unit.unsqueeze(-1).expand(*unit.shape, size.shape[-1])).squeeze(-2)
        fresh = alive.gather(-1, unit) & ~(near & chosen).any(dim=-1, keepdim=True)
        chosen = chosen.scatter(-1, unit, fresh)
    return chosen


def _check(incoming: Tensor, outgoing: Tensor) -> None:
    if incoming.ndim < 2 or incoming.shape[:-1] != outgoing.shape[:-1]:
        shapes = f"{tuple(incoming.shape)} and {tuple(outgoing.shape)}"
        raise ValueError(f"units: wanted incoming (..., m, d) and outgoing (..., m, k), got {shapes}")
    check_finite(incoming, "units: incoming")
    check_finite(outgoing, "units: outgoing")
