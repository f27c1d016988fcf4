"""How fast a hidden unit grows away from zero: one number of the data and the activation."""

import torch
from torch import Tensor

from symlib.guards import check_finite, check_generator, check_known, check_positive


def growth_rate(
    x: Tensor,
    residual: Tensor,
    activation: str,
    generator: torch.Generator,
    *,
    bias: bool = True,
    starts: int = 200,
    steps: int = 300,
) -> tuple[float, Tensor]:
    """The growth rate of a unit a s(w . x + b) near zero: (rate, direction (d + 1,) of the fastest (w, b)).

    rate = max over |v| = 1 of | E[residual(x) s(v . (x, 1))] |, with s replaced by its limit s(e z) / e at e = 0: ReLU
    itself, the identity for "linear" and for "tanh" (slope 1 at 0).  x is (d, n); `residual` (k, n) is minus the
    derivative of the loss by the output at the zero network: y for half the squared error, indicator minus 1/classes
    for the cross entropy.  With both layers balanced, |a| and |(w, b)| grow as exp(rate t) under gradient flow there.

    The linear case is the largest singular value of E[residual (x, 1)^T]; ReLU is climbed from `starts` random
    directions (a local maximum is possible: more starts can only raise the rate).  In float64.

    Raises ValueError for another activation, for shapes that do not fit, for NaN or inf, and for no generator.

    Source: ours; the early alignment of Maennel, Bousquet, Gelly, arXiv 1803.08367, as a number.
    """
    check_known(activation, ("relu", "linear", "tanh"), "activation of a growth rate")
    check_generator(generator, "growth_rate")
    check_positive(starts, "growth_rate: starts")
    check_positive(steps, "growth_rate: steps")
    if x.ndim != 2 or residual.ndim != 2 or x.shape[1] != residual.shape[1] or x.shape[1] == 0:
        raise ValueError(
            f"growth_rate: wanted x (d, n) and residual (k, n), got {tuple(x.shape)}, {tuple(residual.shape)}"
        )
    check_finite(x, "growth_rate: x")
    check_finite(residual, "growth_rate: residual")
    n, x, r = x.shape[1], x.double(), residual.double()
    x = torch.cat([x, torch.ones(1, n, dtype=x.dtype, device=x.device)]) if bias else x
    if activation != "relu":
        _, s, Vh = torch.linalg.svd(r @ x.mT / n)
        return float(s[0]), Vh[0]
    v = torch.randn(starts, x.shape[0], generator=generator, dtype=x.dtype, device=generator.device).to(x.device)
    v = v / v.norm(dim=1, keepdim=True)
    best, at = torch.full((starts,), -1.0, dtype=x.dtype, device=x.device), v
    for step in range(steps + 1):
        z = v @ x
        q = torch.relu(z) @ r.mT / n  # (starts, k)
        rate = q.norm(dim=1)
        better = (rate > best).unsqueeze(1)
        best, at = torch.maximum(rate, best), torch.where(better, v, at)
        towards = q / rate.clamp_min(torch.finfo(x.dtype).tiny).unsqueeze(1)
        climb = ((towards @ r) * (z > 0)) @ x.mT / n
        climb = climb / climb.norm(dim=1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
        share = 0.5 * 1e-6 ** (step / steps)  # long strides first, short ones last
        v = (1 - share) * v + share * climb
        v = v / v.norm(dim=1, keepdim=True)
    top = int(best.argmax())
    return float(best[top]), at[top]
