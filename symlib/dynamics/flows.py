"""Gradient flow, by an adaptive integrator."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from scipy.integrate import DOP853
from torch import Tensor

from symlib.dynamics.descent import check_start, not_finite
from symlib.dynamics.losses import Loss, Params, gradient
from symlib.dynamics.runs import Divergence, Log, Observable, Run
from symlib.guards import check_positive, real

INF = float("inf")


def flow(
    loss: Loss,
    theta: Params,
    *,
    times: Tensor | Sequence[float],
    record: Mapping[str, Observable] | None = None,
    rtol: float = 1e-9,
    atol: float = 1e-12,
    max_steps: int = 5_000,
) -> Run:
    """Follow gradient flow d theta / dt = -grad loss(theta) in float64 to each of the increasing `times` (from 0).

    The integrator is scipy's DOP853, adaptive with the given tolerances; its order drops at the kinks of ReLU, and the
    step is then cut until the tolerance holds.  Members are integrated together, with one step for all.  A ReLU network
    may slide along a kink (both sides push back to it); no step is then small enough, and `max_steps` ends the attempt.

    Raises Divergence when the integrator cannot go on, naming the members that change fastest, and when it has not
    arrived after `max_steps` steps; ValueError for a bad setting, a start that is not finite, and times that are not
    finite or do not increase from at least 0.

    Source: Dormand and Prince's method of order 8 as in Hairer, Norsett, Wanner, section II.5.
    """
    points = torch.as_tensor(times, dtype=torch.float64)
    increasing = points.ndim == 1 and len(points) > 0 and bool((points.diff() > 0).all())
    if not (increasing and 0 <= points[0] <= points[-1] < INF):
        raise ValueError(f"flow: times should be finite and increase from at least 0, got {points.tolist()}")
    tolerances = {"rtol": real(rtol, "flow: rtol"), "atol": real(atol, "flow: atol")}
    if not all(0 < v < INF for v in tolerances.values()):
        raise ValueError(f"flow: wanted finite rtol > 0 and atol > 0, got {tolerances}")
    check_positive(max_steps, "flow: max_steps")
    check_start(theta)
    shapes = {k: v.shape for k, v in theta.items()}
    sizes = [v.numel() for v in theta.values()]
    place = next(iter(theta.values())).device

    def unpack(y: np.ndarray) -> dict[str, Tensor]:
        parts = torch.from_numpy(y).to(place).split(sizes)
        return {k: p.reshape(s) for (k, s), p in zip(shapes.items(), parts, strict=True)}

    def velocity(_: float, y: np.ndarray) -> np.ndarray:
        grads = gradient(loss, unpack(y))[1]
        return -torch.cat([g.flatten() for g in grads.values()]).cpu().numpy()

    log, taken = Log(record or {}, len(points)), 0
    y, now = torch.cat([v.detach().double().flatten() for v in theta.values()]).cpu().numpy(), 0.0
    if not np.isfinite(velocity(0.0, y)).all():  # the integrator would look for a first step for ever
        raise Divergence(0.0, _fastest(loss, unpack(y)), log.run(unpack(y), None))
    for t in points.tolist():
        if t > now:
            solver = DOP853(velocity, now, y, t, rtol=rtol, atol=atol)
            with np.errstate(over="ignore", invalid="ignore"):  # a trial step too far is taken back
                while solver.status == "running" and taken < max_steps:
                    solver.step()
                    taken += 1
            y, now = solver.y, solver.t
            if solver.status != "finished":
                stalled = f"no arrival after {taken} steps (a kink, or stiff: see max_steps)"
                why = "a blow-up" if solver.status == "failed" else stalled
                raise Divergence(float(now), _fastest(loss, unpack(y)), log.run(unpack(y), None), why)
        here = unpack(y)
        value = loss(here).detach()
        if bad := not_finite(value):
            raise Divergence(t, bad, log.run(here, None))
        log.add(t, value, here)
    return log.run(unpack(y), None)


def _fastest(loss: Loss, theta: Params) -> list[int]:
    """The members whose parameters change fastest for their size (or not finitely): those that stop an integrator."""
    value, grads = gradient(loss, theta)
    if value.ndim == 0:
        return []
    length = [torch.cat([v.flatten(1) for v in part.values()], dim=1).norm(dim=1) for part in (grads, theta)]
    speed = torch.nan_to_num(length[0] / (1 + length[1]), nan=INF, posinf=INF)
    return (speed >= 1e-3 * speed.max()).nonzero().flatten().tolist()
