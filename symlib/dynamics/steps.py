"""One step of gradient descent, of heavy ball, of Adam and of sign descent, as functions of values.

A rate (step size, momentum, decay) is a number, or a tensor with one number per member.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from symlib.dynamics.losses import Params

Rate = float | Tensor
State = dict[str, dict[str, Tensor]]  # what a method remembers: name -> parameters


def along(rate: Tensor, value: Tensor) -> Tensor:
    """A rate of each member in the shape that multiplies `value` (members, ...).  Source: ours."""
    return rate.reshape(rate.shape + (1,) * (value.ndim - rate.ndim))


def _times(rate: Rate, value: Tensor) -> Tensor:
    return (along(rate, value) if isinstance(rate, Tensor) else rate) * value


def pulled(theta: Params, grad: Params, decay: Rate, anchor: Params | None = None) -> Params:
    """The gradient with the pull of weight decay: grad + decay (theta - anchor), the anchor 0 where there is none.

    Source: ours (decay in gradient form; the anchored one is syre in function coordinates, arXiv 2408.15495).
    """
    if not isinstance(decay, Tensor) and decay == 0:
        return grad
    away = theta if anchor is None else {k: p - anchor[k] for k, p in theta.items()}
    return {k: grad[k] + _times(decay, p) for k, p in away.items()}


def clipped(grad: Params, most: float, members: bool) -> Params:
    """The gradient, shortened to the norm `most` where it is longer: that of each member on its own.

    Source: Pascanu, Mikolov and Bengio, arXiv 1211.5063, algorithm 1 (torch.nn.utils.clip_grad_norm_).
    """
    squares = [g.square().flatten(int(members)).sum(dim=-1) for g in grad.values()]
    share = (most / torch.stack(squares).sum(dim=0).sqrt()).clamp(max=1)
    return {k: g * along(share, g) for k, g in grad.items()}


def cosine(steps: int, *, warmup: int = 0, least: float = 0.0) -> Tensor:
    """Factors (steps,) of the step size: up in a line over `warmup` steps, then half a cosine from 1 down to `least`.

    Raises ValueError unless 0 <= warmup < steps and 0 <= least <= 1.

    Source: Loshchilov and Hutter, arXiv 1608.03983, equation 5 (one period).
    """
    if not (0 <= warmup < steps and 0 <= least <= 1):
        raise ValueError(f"cosine: wanted 0 <= warmup < steps and least in [0, 1], got {warmup}, {steps}, {least}")
    t = torch.arange(steps, dtype=torch.float64)
    down = least + (1 - least) * (1 + torch.cos(torch.pi * (t - warmup) / (steps - warmup))) / 2
    return torch.where(t < warmup, (t + 1) / (warmup + 1), down)


def _down(theta: Params, direction: Params, lr: Rate) -> dict[str, Tensor]:
    if isinstance(lr, Tensor):
        return {k: torch.addcmul(p, direction[k], along(lr, p), value=-1) for k, p in theta.items()}
    return {k: torch.add(p, direction[k], alpha=-lr) for k, p in theta.items()}


def gradient_step(
    theta: Params, grad: Params, *, lr: Rate, decay: Rate = 0.0, anchor: Params | None = None
) -> dict[str, Tensor]:
    """One step of gradient descent with weight decay: theta+ = theta - lr (grad + decay (theta - anchor)).

    Source: ours."""
    return _down(theta, pulled(theta, grad, decay, anchor), lr)


def momentum_step(
    theta: Params,
    velocity: Params,
    grad: Params,
    *,
    lr: Rate,
    momentum: Rate,
    decay: Rate = 0.0,
    anchor: Params | None = None,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """One heavy-ball step: v+ = momentum v + grad + decay (theta - anchor), theta+ = theta - lr v+ (PyTorch's SGD).

    Source: Polyak 1964; the convention of torch.optim.SGD without dampening.
    """
    force = pulled(theta, grad, decay, anchor)
    v = {k: _times(momentum, velocity[k]) + force[k] for k, p in theta.items()}
    return _down(theta, v, lr), v


def adam_step(
    theta: Params,
    first: Params,
    second: Params,
    grad: Params,
    *,
    count: int | Tensor,
    lr: Rate,
    decay: Rate = 0.0,
    anchor: Params | None = None,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """One step of Adam, the `count`-th (from 1), with decay in the gradient; the two moments come back too.

    m+ = b1 m + (1 - b1) f, v+ = b2 v + (1 - b2) f^2, theta+ = theta - lr m^ / (sqrt(v^) + eps), ^ the division by
    1 - b^count.  Source: Kingma and Ba, arXiv 1412.6980, algorithm 1 (torch.optim.Adam).
    """
    (b1, b2), force = betas, pulled(theta, grad, decay, anchor)
    m = {k: b1 * first[k] + (1 - b1) * f for k, f in force.items()}
    v = {k: b2 * second[k] + (1 - b2) * f * f for k, f in force.items()}
    c1, c2 = 1 - b1**count, 1 - b2**count
    return _down(theta, {k: (m[k] / c1) / ((v[k] / c2).sqrt() + eps) for k in m}, lr), m, v


def _sgd(theta: Params, state: State, grad: Params, count: Any, rates: dict[str, Any]) -> tuple[Params, State]:
    if "velocity" not in state:
        return gradient_step(theta, grad, lr=rates["lr"], decay=rates["decay"], anchor=rates["anchor"]), state
    theta, v = momentum_step(theta, state["velocity"], grad, **rates)
    return theta, {"velocity": v}


def _adam(theta: Params, state: State, grad: Params, count: Any, rates: dict[str, Any]) -> tuple[Params, State]:
    kept = {k: rates[k] for k in ("lr", "decay", "anchor")}
    theta, first, second = adam_step(theta, state["first"], state["second"], grad, count=count, **kept)
    return theta, {"first": first, "second": second}


def _sign(theta: Params, state: State, grad: Params, count: Any, rates: dict[str, Any]) -> tuple[Params, State]:
    force = pulled(theta, grad, rates["decay"], rates["anchor"])
    return _down(theta, {k: f.sign() for k, f in force.items()}, rates["lr"]), state


Method = Callable[[Params, State, Params, Any, dict[str, Any]], tuple[Params, State]]
METHODS: dict[str, tuple[Method, tuple[str, ...]]] = {
    "sgd": (_sgd, ("velocity",)),
    "adam": (_adam, ("first", "second")),
    "sign": (_sign, ()),
}
"""Name of a method -> its step and the names of what it remembers (the velocity only where there is momentum)."""
