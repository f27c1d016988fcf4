"""Gradient descent of one network or of many at once."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from symlib.dynamics.losses import Loss, Params, gradient
from symlib.dynamics.runs import (
    Divergence,
    Log,
    Observable,
    Run,
    digest,
    grid,
    progress,
    read_checkpoint,
    write_checkpoint,
)
from symlib.dynamics.steps import METHODS, Rate, State, along, clipped
from symlib.guards import check_finite, check_known, check_positive, real

Batch = tuple[Tensor, ...]


def descend(
    loss: Loss,
    theta: Params,
    *,
    steps: int,
    lr: Rate,
    momentum: Rate = 0.0,
    decay: Rate = 0.0,
    anchor: Params | None = None,
    schedule: Sequence[float] | Tensor | None = None,
    clip: float | None = None,
    method: str = "sgd",
    batches: Iterator[Batch] | None = None,
    record: Mapping[str, Observable] | None = None,
    every: int | Sequence[int] | Tensor = 1,
    until: Callable[[Tensor], Tensor] | None = None,
    diverged: str = "raise",
    checkpoint: str | Path | None = None,
    save_every: int = 1000,
    compiled: bool = False,
) -> Run:
    """Train by gradient descent (with `batches`, by SGD): one network, or many with a leading member axis at once.

    `loss(theta, *batch)` gives one number per member; a `LayeredLoss` brings its own gradient, which is faster.  The
    rates `lr`, `momentum`, `decay` are numbers or tensors (members,).  Decay pulls to `anchor`, by default to 0:
    theta+ = theta - lr (grad + decay (theta - anchor)).  `method` is "sgd" (with momentum: heavy ball), "adam", "sign".
    `schedule` lists one factor of lr for each step (see `cosine`); `clip` is the norm to which a longer gradient of a
    member is shortened, before decay.

    `record` maps names to functions of theta, taken with the loss every `every` steps or at the steps that `every`
    lists (see `logarithmic`); the start and the end always.  The recorded loss is that of the batch of the step, so the
    end takes one more batch than there are steps.  Theta is not copied.

    Memory: theta, its successor and the gradient, what the method remembers, the activations of one batch, and the
    records, which are taken once at the start.

    `until(loss)` tells at each record which members are done: they stay where they are from there on, the others go on,
    and the run ends with the last of them.  `diverged="stop"` treats a member whose loss is NaN or inf likewise;
    otherwise that raises, on a GPU at the next record, as asking at every step would make the host wait.

    With `checkpoint`, a file is written every `save_every` steps, whole or not at all, and a run that finds its file
    goes on from there to the same bits; the batches must then have `state()` and `restore(state)` (`data.Stream` has).
    `compiled` lets torch.compile fuse a step; that takes seconds for every new shape and every new
    number among the rates, and needs a C++ compiler.

    Raises Divergence, with what was recorded; ValueError for a bad setting or start, for NaN or inf in a batch (when
    the loss shows it), when the batches end too early, for records beyond `runs.LIMIT` bytes, and for a checkpoint that
    is damaged or of another run.  Source: ours.
    """
    check_positive(steps, "steps")
    check_positive(save_every, "save_every")
    check_known(method, METHODS, "method")
    check_known(diverged, ("raise", "stop"), "diverged")
    steps, points = int(steps), grid(int(steps), every)
    check_start(theta)
    numbers = _check_rates(theta, lr=lr, momentum=momentum, decay=decay)
    if method != "sgd" and (isinstance(momentum, Tensor) or momentum):
        raise ValueError(f"descend: momentum belongs to method 'sgd', got {momentum} with {method!r}")
    if anchor is not None and {k: v.shape for k, v in anchor.items()} != {k: v.shape for k, v in theta.items()}:
        raise ValueError("descend: the anchor should have the names and shapes of theta")
    if batches is not None and not isinstance(batches, Iterator):
        raise ValueError(f"descend: batches should be an iterator of tuples, got {type(batches).__name__} (see iter)")
    if checkpoint is not None and batches is not None and not hasattr(batches, "restore"):
        raise ValueError("descend: with a checkpoint the batches need state() and restore(state), as data.Stream has")

    pace = schedule.tolist() if isinstance(schedule, Tensor) else schedule
    pace = None if pace is None else [real(factor, "descend: schedule") for factor in pace]
    if pace is not None and (len(pace) != steps or not all(0 <= factor < math.inf for factor in pace)):
        raise ValueError(f"descend: the schedule should have {steps} factors, finite and not negative, got {len(pace)}")
    if clip is not None and not 0 < real(clip, "descend: clip") < math.inf:
        raise ValueError(f"descend: clip should be a positive number, got {clip}")

    rates: dict[str, Any] = {**numbers, "anchor": anchor and {k: v.detach() for k, v in anchor.items()}}
    log = Log(record or {}, len(points))
    theta = {k: v.detach().clone() for k, v in theta.items()}
    step_of, remembers = METHODS[method]
    if method == "sgd" and not isinstance(momentum, Tensor) and momentum == 0:
        remembers = ()
    state: State = {name: {k: torch.zeros_like(v) for k, v in theta.items()} for name in remembers}
    alive = stopped = None  # which members go on, where some may stop
    start, path = 0, Path(checkpoint) if checkpoint is not None else None
    settings: dict[str, Any] = {"steps": steps, "every": points, "method": method, "records": sorted(log.observables)}
    settings |= {"schedule": pace, "clip": clip}
    if path is not None:
        settings |= {**numbers, "start": digest(theta), "anchor": digest(anchor or {})}
    if path is not None and batches is not None:
        settings["batches"] = digest(batches.state())  # type: ignore[attr-defined]
    if path is not None and path.exists():
        kept = read_checkpoint(path, settings)
        start, theta, state, alive, stopped = (kept[k] for k in ("step", "theta", "state", "alive", "stopped"))
        log.steps, log.values = kept["steps"], kept["log"]
        if batches is not None:
            batches.restore(kept["batches"])  # type: ignore[attr-defined]
    advance, on_host = _compiled() if compiled else _advance, not next(iter(theta.values())).is_cuda
    for step in progress(range(start, steps + 1), start, steps + 1):
        if path is not None and step % save_every == 0 and step > start:
            drawn = None if batches is None else batches.state()  # type: ignore[attr-defined]
            write_checkpoint(path, settings, {"step": step, "theta": theta, "state": state, "alive": alive,
                "stopped": stopped, "steps": log.steps, "log": log.values, "batches": drawn})  # fmt: skip
        batch = next(batches, None) if batches is not None else ()
        if batch is None:
            raise ValueError(f"the batches ended at step {step}, wanted {steps + 1} of them")
        count = torch.tensor(step + 1.0, dtype=torch.float64) if compiled else step + 1
        now = rates
        if pace is not None:
            factor = pace[min(step, steps - 1)]
            now = {**rates, "lr": rates["lr"] * (next(iter(theta.values())).new_tensor(factor) if compiled else factor)}
        value, moved, state = advance(loss, step_of, theta, state, batch, count, now, clip, alive)
        for k, v in rates.items() if step == start else ():
            if isinstance(v, Tensor) and v.shape != value.shape:
                raise ValueError(
                    f"descend: {k} has one number for each of {len(v)}, the loss shape {tuple(value.shape)}"
                )
        recording = step == points[len(log.steps)]
        if (on_host or recording) and diverged == "raise" and (bad := not_finite(value)):
            _check_batch(batch, step)
            raise Divergence(step, bad if value.ndim else [], log.run(theta, lr, stopped))
        if recording:
            log.add(step, value, theta)
        if recording and (until is not None or diverged == "stop"):
            if alive is None or stopped is None:
                alive, stopped = torch.ones_like(value, dtype=torch.bool), torch.full_like(value, steps)
            done = alive & ((diverged == "stop") & ~torch.isfinite(value) | (until is not None and until(value)))
            alive, stopped = alive & ~done, torch.where(done, float(step), stopped)
            moved = _hold(alive, theta, moved)
            if not bool(alive.any()):
                break
        if step < steps:
            theta = moved
    return log.run(theta, lr, stopped)


def _advance(
    loss: Loss,
    method: Any,
    theta: Params,
    state: State,
    batch: Batch,
    count: Any,
    rates: dict[str, Any],
    clip: float | None,
    alive: Tensor | None,
) -> tuple[Tensor, Params, State]:
    """The loss at theta, the parameters and the memory after one step.  Pure, and nothing in it waits for a device."""
    value, grad = gradient(loss, theta, *batch)
    grad = grad if clip is None else clipped(grad, clip, value.ndim == 1)
    moved, state = method(theta, state, grad, count, rates)
    return value, moved if alive is None else _hold(alive, theta, moved), state


@cache
def _compiled() -> Any:
    return torch.compile(_advance, dynamic=False)


def _hold(alive: Tensor, theta: Params, moved: Params) -> Params:
    """The moved parameters of the members that go on, the old ones of the others."""
    return {k: torch.where(along(alive, p), moved[k], p) for k, p in theta.items()}


def _check_batch(batch: Batch, step: int) -> None:
    for i, part in enumerate(batch):
        if isinstance(part, Tensor) and part.is_floating_point():
            check_finite(part, f"descend: bad data at step {step}: part {i} of the batch")


def not_finite(value: Tensor) -> list[int]:
    """The indices of NaN and inf in a loss, one per member (0 for a single number).  Source: ours."""
    finite = torch.isfinite(value)
    return [] if bool(finite.all()) else (~finite).reshape(-1).nonzero().flatten().tolist()


def check_start(theta: Params) -> None:
    """Raise ValueError unless there is at least one parameter, all of them tensors of finite real numbers.

    Source: ours.
    """
    if not theta:
        raise ValueError("start: wanted at least one parameter, got none")
    for k, v in theta.items():
        if not isinstance(v, Tensor) or not v.is_floating_point():
            got = v.dtype if isinstance(v, Tensor) else type(v).__name__
            raise ValueError(f"start: {k} should be a tensor of floating-point numbers, got {got}")
        check_finite(v, f"start: {k}")


def _check_rates(theta: Params, **settings: Rate) -> dict[str, Rate]:
    """The rates, as numbers or as tensors (members,) of the parameters' dtype and device."""
    like, rates = next(iter(theta.values())), {}
    for k, v in settings.items():
        if isinstance(v, Tensor) and v.ndim:
            if any(v.shape != p.shape[:1] for p in theta.values()):
                shapes = {name: tuple(p.shape) for name, p in theta.items()}
                raise ValueError(
                    f"descend: {k} should be a number or one per member, got {tuple(v.shape)} for {shapes}"
                )
            rates[k] = v.to(like)
        else:
            rates[k] = real(v, f"descend: {k}")
    low = {k: float(v.min()) if isinstance(v, Tensor) else v for k, v in rates.items()}
    high = {k: float(v.max()) if isinstance(v, Tensor) else v for k, v in rates.items()}
    fine = all(0 <= low[k] <= high[k] < math.inf for k in rates)  # false for NaN too
    if not fine or low["lr"] == 0 or high["momentum"] >= 1:
        raise ValueError(f"wanted lr > 0, 0 <= momentum < 1 and decay >= 0, all finite, got {rates}")
    return rates
