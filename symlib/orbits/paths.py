"""Straight lines between two networks, and what is measured along them."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from symlib.guards import check_positive, real

Theta = Mapping[str, Tensor]


def interpolate(theta_a: Theta, theta_b: Theta, t: float | Tensor) -> dict[str, Tensor]:
    """The point (1 - t) a + t b of the straight line between two networks; a tensor t (T,) gives a leading axis T.

    Raises ValueError for parameters of different names or shapes.  Source: Goodfellow, Vinyals, Saxe, arXiv 1412.6544.
    """
    shapes = [{k: tuple(v.shape) for k, v in theta.items()} for theta in (theta_a, theta_b)]
    if shapes[0] != shapes[1]:
        differ = [k for k in {**shapes[0], **shapes[1]} if shapes[0].get(k) != shapes[1].get(k)]
        pairs = ", ".join(f"{k} {shapes[0].get(k)} and {shapes[1].get(k)}" for k in differ)
        raise ValueError(f"interpolate: the two networks should have the same names and shapes, got {pairs}")
    if not isinstance(t, Tensor) or t.ndim == 0:
        t = real(t, "interpolate: t")
        return {k: (1 - t) * v + t * theta_b[k] for k, v in theta_a.items()}
    if t.ndim != 1:
        raise ValueError(f"interpolate: t should be a number or of shape (T,), got {tuple(t.shape)}")
    along = {k: t.to(v).reshape(-1, *[1] * v.ndim) for k, v in theta_a.items()}
    return {k: (1 - along[k]) * v + along[k] * theta_b[k] for k, v in theta_a.items()}


def path(
    evaluate: Callable[[dict[str, Tensor]], Mapping[str, Tensor | float]],
    theta_a: Theta,
    theta_b: Theta,
    *,
    points: int = 11,
    reset: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict,
) -> dict[str, Tensor]:
    """What is measured along the straight line from a to b, at evenly spaced t from 0 to 1: name -> (..., points).

    `evaluate(theta)` names its values, such as {"train loss": (E,), "test accuracy": (E,)} for members in a leading
    axis.  `reset` maps the parameters of every point, the ends too, before they are evaluated: statistics of a
    BatchNorm are to be taken anew, see `models.reset_statistics`.

    Raises ValueError for fewer than two points and for networks of different names or shapes.

    Source: Frankle et al., arXiv 1912.05671 (linear paths); Jordan et al., arXiv 2211.08403 (reset).
    """
    check_positive(points, "path: points")
    if points < 2:
        raise ValueError(f"path: wanted at least 2 points, got {points}")
    found = [evaluate(reset(interpolate(theta_a, theta_b, i / (points - 1)))) for i in range(points)]
    return {name: torch.stack([torch.as_tensor(one[name]) for one in found], dim=-1) for name in found[0]}
