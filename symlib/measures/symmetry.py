"""How far hidden units are from a symmetric state: their size, their distances, how many differ."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from symlib.guards import check_finite


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
    size = sizes(incoming, outgoing)
    least = live * (size.amax(dim=-1, keepdim=True) if scale is None else torch.as_tensor(scale).to(size)[..., None])
    same = (cosines(incoming) > cosine) & (cosines(outgoing) > cosine)
    order = size.argsort(dim=-1, descending=True)
    chosen = torch.zeros_like(size, dtype=torch.bool)
    for rank in range(size.shape[-1]):
        unit = order[..., rank : rank + 1]
        near = same.gather(-2, unit.unsqueeze(-1).expand(*unit.shape, size.shape[-1])).squeeze(-2)
        own = size.gather(-1, unit)
        fresh = (own > least) & (own > 0) & ~(near & chosen).any(dim=-1, keepdim=True)
        chosen = chosen.scatter(-1, unit, fresh)
    return chosen


def distinct_units(
    incoming: Tensor, outgoing: Tensor, *, cosine: float = 0.9, live: float = 0.05, scale: Tensor | float | None = None
) -> Int[Tensor, "*batch"]:
    """The number of distinct live units: that of the `leaders`.  Source: as there."""
    return leaders(incoming, outgoing, cosine=cosine, live=live, scale=scale).sum(dim=-1)


def _check(incoming: Tensor, outgoing: Tensor) -> None:
    if incoming.ndim < 2 or incoming.shape[:-1] != outgoing.shape[:-1]:
        shapes = f"{tuple(incoming.shape)} and {tuple(outgoing.shape)}"
        raise ValueError(f"units: wanted incoming (..., m, d) and outgoing (..., m, k), got {shapes}")
    check_finite(incoming, "units: incoming")
    check_finite(outgoing, "units: outgoing")
