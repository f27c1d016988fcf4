"""Endless streams of batches that can be put back to where they were."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from symlib.guards import check_finite, check_generator, check_positive

Batch = tuple[Tensor, ...]


class Stream:
    """An endless iterator of batches, epoch after epoch, that can be put back to where it was.

    `epoch(generator)` draws what it needs from the generator and yields the batches of one epoch; `state()` is what
    `restore` takes: the generator as it was when the epoch began, and the number of batches taken since.  For `restore`
    to be exact nothing else may draw from the generator in the middle of an epoch.
    """

    def __init__(self, epoch: Callable[[torch.Generator], Iterator[Batch]], generator: torch.Generator) -> None:
        check_generator(generator, "stream")
        self._epoch, self._generator = epoch, generator
        self._wait()

    def _wait(self) -> None:
        """Before an epoch, which begins when its first batch is asked for."""
        self._left, self._taken = iter(()), 0

    def __iter__(self) -> "Stream":
        return self

    def __next__(self) -> Batch:
        batch = next(self._left, None)
        while batch is None:
            self._before, self._taken = self._generator.get_state(), 0
            self._left = self._epoch(self._generator)
            batch = next(self._left, None)
        self._taken += 1
        return batch

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on with the next batch."""
        return {"generator": self._before if self._taken else self._generator.get_state(), "taken": self._taken}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back, or forward, to where a stream with the same epochs stood."""
        self._generator.set_state(state["generator"])
        self._wait()
        for _ in range(state["taken"]):
            next(self)


def minibatches(x: Tensor, y: Tensor, size: int, generator: torch.Generator, *, members: int | None = None) -> Stream:
    """Endless shuffled minibatches (d, size), (..., size): every epoch in a new order, without a last partial batch.

    With `members`, each has an order of its own, and the batches are (members, d, size), (members, ..., size).  Raises
    ValueError when the size is not between 1 and the number of samples, for inputs and targets of different lengths or
    with NaN or inf, and for no generator.  Source: ours.
    """
    n = x.shape[-1]
    check_generator(generator, "minibatches")
    check_positive(size, "minibatches: size")
    if members is not None:
        check_positive(members, "minibatches: members")
    if size > n:
        raise ValueError(f"minibatches: the size should be between 1 and {n}, got {size}")
    if y.shape[-1:] != (n,):
        raise ValueError(f"minibatches: inputs {tuple(x.shape)} and targets {tuple(y.shape)} differ in length")
    check_finite(x, "minibatches: x")
    check_finite(y, "minibatches: y")
    parts = [v.movedim(-1, 0).contiguous() for v in (x, y)]  # samples first: a batch is then a copy of whole rows

    def epoch(generator: torch.Generator) -> Iterator[Batch]:
        orders = [torch.randperm(n, generator=generator, device=generator.device) for _ in range(members or 1)]
        order = (torch.stack(orders) if members is not None else orders[0]).to(x.device)
        for i in range(0, n - size + 1, size):
            rows = order[..., i : i + size]
            taken = (v.index_select(0, rows.flatten()).unflatten(0, rows.shape) for v in parts)
            yield tuple(v.movedim(rows.ndim - 1, -1) for v in taken)

    return Stream(epoch, generator)


def hypercube(
    sets: Sequence[Sequence[int]],
    d: int,
    size: int,
    generator: torch.Generator,
    *,
    members: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Stream:
    """Fresh batches on the hypercube: x uniform in {-1, 1}^d, y = sum over sets S of prod_{i in S} x_i.

    Batches are x (d, size), y (1, size), or (members, d, size), (members, 1, size), drawn on the generator's device.
    Coordinates count from 0.  Raises ValueError for sizes that are not positive, for sets that are empty, repeat a
    coordinate or leave 0..d-1, and for no generator.

    Source: Abbe, Boix-Adsera, Misiakiewicz, arXiv 2302.11055 (sums of parities).
    """
    check_generator(generator, "hypercube")
    for name, n in (("d", d), ("size", size), *([("members", members)] if members is not None else [])):
        check_positive(n, f"hypercube: {name}")
    if not sets or any(not s or len(set(s)) < len(s) or not all(0 <= i < d for i in s) for s in sets):
        raise ValueError(f"hypercube: the sets should hold coordinates in 0..{d - 1}, each once, got {sets!r}")
    shape = (d, size) if members is None else (members, d, size)
    rows = [torch.tensor(list(s), device=generator.device) for s in sets]  # once: a list would be copied for each batch

    def draw(generator: torch.Generator) -> Iterator[Batch]:
        bits = torch.randint(0, 2, shape, generator=generator, device=generator.device, dtype=torch.int8)
        x = bits.to(dtype).mul_(2).sub_(1)
        yield x, sum(x.index_select(-2, r).prod(dim=-2, keepdim=True) for r in rows)  # type: ignore[misc]

    return Stream(draw, generator)
