"""Barriers and shapes of curves along a path in parameter space: the last axis of a curve is the path."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from symlib.guards import check_finite


def barriers(curves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The barriers of named curves (..., T) at T evenly spaced points: (...) for each name and each of two definitions.

    "<name>, midpoint": the value at the midpoint less the mean of the ends.  "<name>, whole path": the maximum over the
    path of the value less the chord (1 - t) L_0 + t L_1, at least 0.  Of names that end in "accuracy" the sign is
    turned, so that a positive barrier is always a loss.  In float64.

    Raises ValueError unless T is odd and at least 3, and for NaN or inf.

    Source: Frankle et al., arXiv 1912.05671 (whole path); Entezari et al., arXiv 2110.06296 (less the chord); Lim et
    al., arXiv 2405.20231, section 3 (midpoint).
    """
    out = {}
    for name, curve in curves.items():
        values = _checked(curve, f"barriers: {name}")
        points = values.shape[-1]
        if points % 2 == 0:
            raise ValueError(f"barriers: {name} should be at an odd number of points, got {points}")
        above = (values - _chord(values)) * (-1 if name.endswith("accuracy") else 1)
        out[f"{name}, midpoint"] = above[..., points // 2]
        out[f"{name}, whole path"] = above.amax(dim=-1)
    return out


@dataclass(frozen=True)
class Shape:
    """How a curve (..., T) runs, all of shape (...).

    `rise` = max_i L_{i+1} - L_i; `monotone`: no rise; `local_convexity`: the fraction of second differences
    L_{i+1} - 2 L_i + L_{i-1} >= 0; `global_convexity`: the fraction of the inner points on or below the chord from the
    first point to the last.
    """

    rise: Float[Tensor, "*batch"]
    monotone: Bool[Tensor, "*batch"]
    local_convexity: Float[Tensor, "*batch"]
    global_convexity: Float[Tensor, "*batch"]


def shape(curve: Tensor, *, rtol: float = 1e-12) -> Shape:
    """Monotonicity and convexity of curves (..., T) at evenly spaced points, in float64.

    A difference of at most `rtol` times the largest |L| is rounding and counts as none.  Raises ValueError for T < 3,
    and for NaN or inf.

    Source: Lim et al., arXiv 2405.20231 (Delta and convexity of monotonic linear interpolation).
    """
    values = _checked(curve, "shape")
    slack = rtol * values.abs().amax(dim=-1, keepdim=True)
    rise = values.diff(dim=-1).amax(dim=-1)
    local = (values.diff(n=2, dim=-1) >= -slack).double().mean(dim=-1)
    below = (values <= _chord(values) + slack)[..., 1:-1].double().mean(dim=-1)
    return Shape(rise, rise <= slack[..., 0], local, below)


def _chord(values: Tensor) -> Tensor:
    t = torch.linspace(0, 1, values.shape[-1], dtype=values.dtype, device=values.device)
    return (1 - t) * values[..., :1] + t * values[..., -1:]


def _checked(curve: Tensor, where: str) -> Tensor:
    if curve.ndim < 1 or curve.shape[-1] < 3:
        raise ValueError(f"{where} should have shape (..., T) with T >= 3, got {tuple(curve.shape)}")
    check_finite(curve, where)
    return curve.double()
